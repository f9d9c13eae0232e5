"""Which candidates make a list: the best that caps admit, or those that are good and unlike each other."""

from typing import Final

import numpy as np
import numpy.typing as npt

from retrank.recommender.caps import Caps

__all__ = ["select"]

_NEVER: Final = -np.inf

Floats = npt.NDArray[np.float64]


def select(
    scores: npt.NDArray[np.float32], k: int, caps: Caps, diversity: float = 0.0, embeddings: Floats | None = None
) -> list[int]:
    """Choose candidates one after another; see `Rerank`.

    Args:
        scores: `(n,)` best first.
        k: how many, at most.
        caps: what may be taken; counts what is chosen.
        diversity: how much it counts to be unlike what is chosen.
        embeddings: `(n, dim)` of length 1; needed for diversity.

    Returns:
        Places in the order in which they were chosen; fewer than k where caps admit no more.

    Example:
        >>> import numpy as np
        >>> from retrank.recommender.caps import Caps
        >>> from retrank.recommender.selection import select
        >>> scores, embeddings = np.float32([3, 2.9, 1]), np.array([[1.0, 0], [1, 0], [0, 1]])
        >>> no_caps = Caps({}, {}, np.arange(3))
        >>> select(scores, 2, no_caps), select(scores, 2, no_caps, 0.5, embeddings)
        ([0, 1], [0, 2])
    """
    if diversity == 0 or embeddings is None:
        return _first(len(scores), k, caps)
    relevance = (1 - diversity) * _scaled(scores.astype(np.float64))
    nearest = np.full(len(scores), -1.0)  # no cosine is smaller
    is_left, chosen = np.ones(len(scores), dtype=bool), list[int]()
    while len(chosen) < k and is_left.any():
        values = relevance - diversity * nearest if chosen else relevance
        place = int(np.where(is_left, values, _NEVER).argmax())  # of equal ones the best by score
        is_left[place] = False  # who would break a cap now would break it later
        if caps.admits(place):
            caps.take(place)
            chosen.append(place)
            # einsum, unlike a product by a library, gives a candidate the same bits whatever else computes
            np.maximum(nearest, np.einsum("nd,d->n", embeddings, embeddings[place]), out=nearest)
    return chosen


def _first(count: int, k: int, caps: Caps) -> list[int]:
    chosen = list[int]()
    for place in range(count):
        if len(chosen) == k:
            break
        if caps.admits(place):
            caps.take(place)
            chosen.append(place)
    return chosen


def _scaled(scores: Floats) -> Floats:
    """Bring scores to [0, 1]; equal ones are all 1."""
    low, high = scores.min(), scores.max()
    return np.ones_like(scores) if low == high else (scores - low) / (high - low)
