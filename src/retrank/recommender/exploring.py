"""Chance fills a place of a list; see `Exploration`."""

import hashlib
import random
from collections.abc import Sequence
from typing import Final

from retrank.recommender.caps import Caps
from retrank.recommender.rerank import Exploration

__all__ = ["explore"]

_SYSTEM: Final = random.SystemRandom()  # whose state nobody sets, and no fork copies
_BITS: Final = 53


def explore(
    chosen: Sequence[int], count: int, k: int, caps: Caps, exploration: Exploration, identity: str
) -> tuple[list[int], list[float]]:
    """Let chance fill a place.

    Args:
        chosen: places of the candidates of the list, in order.
        count: how many candidates were looked at.
        k: the length of a list; where caps left it shorter, those are appended that fit beside the one that was drawn.
        caps: which have counted those that were chosen.
        exploration: where, and how often.
        identity: what tells the query from others, with which a seed is mixed.

    Returns:
        The places, and the probability of each to be where it is; of one that only a draw made fit, that of the draw.

    Example:
        >>> import numpy as np, retrank as rr
        >>> from retrank.recommender.caps import Caps
        >>> from retrank.recommender.exploring import explore
        >>> always = rr.recommender.Exploration(position=2, probability=1, seed=0)
        >>> chosen, probabilities = explore([0, 1, 2], 5, 3, Caps({}, {}, np.arange(5)), always, "a")
        >>> chosen[0], chosen[1] in (3, 4), chosen[2], probabilities
        (0, True, 2, [1.0, 0.5, 1.0])
    """
    places, probabilities, at = [*chosen], [1.0] * len(chosen), exploration.position - 1
    if at >= len(places):
        return places, probabilities
    shown = set(chosen)
    caps.give_back(places[at])
    others = [place for place in range(count) if place not in shown and caps.admits(place)]
    if not others:
        return places, probabilities
    whether, which = _draws(exploration.seed, identity)
    if whether < exploration.probability:
        places[at] = others[int(which * len(others))]
        probabilities[at] = exploration.probability / len(others)
        caps.take(places[at])
        shown.add(places[at])
        for place in range(count):
            if len(places) < k and place not in shown and caps.admits(place):
                caps.take(place)
                places.append(place)
                probabilities.append(probabilities[at])
    else:
        probabilities[at] = 1 - exploration.probability
    return places, probabilities


def _draws(seed: int | None, identity: str) -> tuple[float, float]:
    """Return two numbers from [0, 1)."""
    if seed is None:
        return _SYSTEM.random(), _SYSTEM.random()
    digest = hashlib.blake2b(f"{seed} {identity}".encode(), digest_size=16).digest()
    first, second = (int.from_bytes(half) >> (64 - _BITS) for half in (digest[:8], digest[8:]))
    return first / 2**_BITS, second / 2**_BITS
