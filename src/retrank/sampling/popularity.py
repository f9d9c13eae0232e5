"""`Popularity`: frequent candidates are drawn more often."""

from typing import NamedTuple, final

import torch
from torch import Tensor

from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.sampling.probabilities import (
    Counts,
    checked_counts,
    inclusion_probabilities,
    log_q_of_draws,
    log_shares,
    log_uniform,
)
from retrank.sampling.sampler import Negatives, Positives, Sampler
from retrank.sampling.sizes import check_num_negatives, known_num_ids

__all__ = ["Popularity"]


@final
class Popularity(Sampler):
    """Draws candidates by their popularity, from counts or log-uniformly by rank; padding and unknown never.

    With repeats, a candidate of probability p is expected num_negatives · p times. Without, it is in the draw with
    probability min(1, c · p), c such that these add up to num_negatives: the draw is a systematic sample in random
    order, for which this is exact.

    Args:
        num_negatives: how many to draw.
        counts: occurrences of each key, in id order, e.g. `space.vocabulary("movie_id").counts`; p is the share. A key
            that never occurred counts as if it had once. None draws log-uniformly: the key of rank r among n, which is
            id r + 2 of a vocabulary, has p = log((r + 2) / (r + 1)) / log(n + 1).
        num_ids: the ids there are, padding and unknown included; by default as many as there are counts, or as the
            table of the call has.
        unique: whether no id comes twice in a draw.

    Raises:
        ConfigError: an argument out of its range, or more negatives than there are candidates to draw once each.
        DataError: a negative count.

    Example:
        >>> import torch, retrank as rr
        >>> sampler = rr.sampling.Popularity(2, counts=[97, 1, 1, 1])
        >>> negatives = sampler(torch.tensor([5]))  # the first key always, one of the others with 1/3 each
        >>> negatives.ids[0], negatives.log_q.exp()
        (tensor(2), tensor([1.0000, 0.3333]))

    Source: `PopularityBasedSampler` of Merlin Models, which never draws the last id, and for draws without repeats
        states the probability 1 - (1 - p)^num_negatives, which only holds with repeats. Systematic sampling in random
        order: Goodman and Kish (1950).
    """

    def __init__(
        self, num_negatives: int, *, counts: Counts | None = None, num_ids: int | None = None, unique: bool = True
    ) -> None:
        super().__init__()
        counts = None if counts is None else checked_counts(counts, "Popularity")
        self._record(counts=counts)
        if counts is not None and num_ids not in (None, len(counts) + NUM_SPECIAL_IDS):
            raise self._config_error(f"num_ids={len(counts) + NUM_SPECIAL_IDS}, one per count", str(num_ids))
        self.num_negatives, self.unique, self._counts = num_negatives, unique, counts
        self.num_ids = num_ids if counts is None else len(counts) + NUM_SPECIAL_IDS
        check_num_negatives(num_negatives, self.num_ids, unique, "Popularity")
        self._distribution: _Distribution | None = None

    def grow(self, counts: Counts) -> None:
        """Draw by new counts if there were any, or else from as many ids as there now are; see `Sampler.grow`."""
        if self.num_ids is not None:
            self._counts = None if self._counts is None else checked_counts(counts, "Popularity")
            self.num_ids, self._distribution = len(counts) + NUM_SPECIAL_IDS, None
            self._record(counts=self._counts, num_ids=self.num_ids)

    def draw(self, positives: Positives) -> Negatives:
        """Draw from all ids; see `Sampler.forward`."""
        num_ids = known_num_ids(self.num_ids, positives.table, "Popularity")
        distribution = self._distribution_of(num_ids, positives.ids.device)
        draw = _draw_without_replacement if self.unique else _draw_with_replacement
        ids = draw(distribution, self.num_negatives)
        return Negatives(ids, positives.embed(ids), log_q_of_draws(distribution.log_q))

    def _distribution_of(self, num_ids: int, device: torch.device) -> "_Distribution":
        if self._distribution is None or len(self._distribution.log_q) != num_ids:
            check_num_negatives(self.num_negatives, num_ids, self.unique, "Popularity")
            log_q = log_uniform(num_ids) if self._counts is None else log_shares(self._counts)
            expected = log_q.exp() * self.num_negatives
            if self.unique:
                expected[NUM_SPECIAL_IDS:] = inclusion_probabilities(log_q[NUM_SPECIAL_IDS:].exp(), self.num_negatives)
                expected[:NUM_SPECIAL_IDS] = expected[NUM_SPECIAL_IDS:].amin()
            certain, ids = expected[NUM_SPECIAL_IDS:] == 1, torch.arange(NUM_SPECIAL_IDS, num_ids)
            self._distribution = _Distribution(expected, expected.log(), ids[certain], ids[~certain])
        if self._distribution.log_q.device != device:
            self._distribution = _Distribution(*(tensor.to(device) for tensor in self._distribution))
        return self._distribution


class _Distribution(NamedTuple):
    expected: Tensor  # (num_ids,) float64, how often an id is in a draw
    log_q: Tensor
    certain: Tensor  # ids
    others: Tensor


def _draw_with_replacement(distribution: _Distribution, num: int) -> Tensor:
    ends = distribution.expected[NUM_SPECIAL_IDS:].cumsum(0)
    places = torch.rand(num, dtype=ends.dtype, device=ends.device) * ends[-1]
    return torch.searchsorted(ends, places, right=True).clamp(max=len(ends) - 1) + NUM_SPECIAL_IDS


def _draw_without_replacement(distribution: _Distribution, num: int) -> Tensor:
    # Systematic sampling: ids lie on a line in random order, each as wide as its probability; marks at distance 1
    # from a random start hit each at most once, and with exactly that probability.
    order = distribution.others[torch.randperm(len(distribution.others), device=distribution.others.device)]
    ends = distribution.expected[order].cumsum(0)
    steps = torch.arange(num - len(distribution.certain), dtype=ends.dtype, device=ends.device)
    marks = steps + torch.rand(1, dtype=ends.dtype, device=ends.device)
    places = torch.searchsorted(ends, marks, right=True).clamp(max=len(ends) - 1)
    return torch.cat([distribution.certain, order[places]])
