"""Probabilities of ids: given by rank or by counts, and the probabilities of being included in a draw without repeats.

Padding and unknown are never drawn. As positives they count as the rarest id, so that corrected scores stay finite.
"""

import math
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.sampling.frequency import StreamingFrequency

__all__ = ["Shares", "checked_counts", "inclusion_probabilities", "log_q_of_draws", "log_shares", "log_uniform"]

Counts = Sequence[int] | np.ndarray | Tensor

_CERTAIN = 1 - 1e-9  # so close to 1 that rounding could draw an id twice


def checked_counts(counts: Counts, where: str) -> list[int]:
    """Check the occurrences of keys and make them plain numbers, as a configuration needs them.

    Args:
        counts: one for each key, in id order, e.g. `space.vocabulary("movie_id").counts`.
        where: the caller, for the error message.

    Returns:
        The same counts.

    Raises:
        ConfigError: no counts, or more than one dimension.
        DataError: a count that is negative or not whole; the message names its row.
    """
    try:
        values = np.asarray(counts.cpu() if isinstance(counts, Tensor) else counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError("counts that are numbers", str(error), where) from error
    if values.ndim != 1 or len(values) == 0:
        raise ConfigError("counts of shape (keys,)", f"shape {values.shape}", where)
    bad = np.flatnonzero(~((values >= 0) & (values == np.floor(values)) & np.isfinite(values)))
    if len(bad):
        raise DataError("a whole count >= 0", f"{values[bad[0]]:g}", f"{where}, counts, row {bad[0]}")
    return [int(value) for value in values]


def log_shares(counts: Sequence[int]) -> Tensor:
    """Return the share of each id among all occurrences, as a logarithm.

    Args:
        counts: occurrences of each key, in id order. A key that never occurred counts as if it had once.

    Returns:
        `(num_ids,)` float64.
    """
    occurrences = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
    return _with_special_ids((occurrences / occurrences.sum()).log())


def log_uniform(num_ids: int) -> Tensor:
    """Return the log-uniform (Zipfian) distribution: log((r + 2) / (r + 1)) / log(keys + 1) for the key of rank r.

    Ranks count from 0 and follow the ids, which vocabularies give in descending order of frequency.

    Args:
        num_ids: padding and unknown included.

    Returns:
        `(num_ids,)` float64 natural logarithms.
    """
    ranks = torch.arange(1, num_ids - NUM_SPECIAL_IDS + 1, dtype=torch.float64)
    return _with_special_ids((1 / ranks).log1p().log() - math.log(math.log1p(len(ranks))))


def inclusion_probabilities(probability: Tensor, num: int) -> Tensor:
    """Return with what probability each entry must be among `num` different ones: min(1, c · probability).

    c makes them add up to `num`: an entry above 1 is always included, and the others share the remainder.

    Args:
        probability: `(n,)` float64 above 0, adding up to 1.
        num: at most n.

    Returns:
        `(n,)` float64, either 1 or less than 1 by more than rounding.
    """
    if num == len(probability):
        return torch.ones_like(probability)
    ordered, order = probability.sort(descending=True)
    rest = ordered.flip(0).cumsum(0).flip(0)  # the remaining probability without all earlier entries
    left = num - torch.arange(num - 1, dtype=torch.float64)
    num_always = int((left * ordered[: num - 1] >= _CERTAIN * rest[: num - 1]).cumprod(0).sum())
    included = probability * ((num - num_always) / rest[num_always])
    included[order[:num_always]] = 1
    return included


def log_q_of_draws(log_q: Tensor, num: int = 1) -> Callable[[Tensor], Tensor]:
    """Return the function that looks up the log expected number of times an id is drawn.

    Args:
        log_q: `(num_ids,)` logarithms of the expected number of one draw.
        num: how many such draws there are.

    Returns:
        A function from `(n,)` int64 ids to `(n,)` float32. On a CPU it raises `DataError` for an id out of range.
    """
    offset = math.log(num) if num else -math.inf

    def look_up(ids: Tensor) -> Tensor:
        if ids.device.type == "cpu" and len(outside := ((ids < 0) | (ids >= len(log_q))).nonzero()):
            row = int(outside[0])
            raise DataError(f"ids in [0, {len(log_q)})", str(int(ids[row])), f"log_q, row {row}")
        return (log_q[ids] + offset).float()

    return look_up


@final
class Shares:
    """The shares of ids among the positives, if known. Not a module: a model's dtype must not become theirs.

    Args:
        counts: occurrences of each key, in id order, or None.
        frequency: estimates the shares from the batches instead, or None.
        where: the caller, for the error message.

    Raises:
        ConfigError: both, or counts of another shape.
        DataError: a negative count.
    """

    def __init__(self, counts: Counts | None, frequency: StreamingFrequency | None, where: str) -> None:
        self._where = where
        if counts is not None and frequency is not None:
            raise ConfigError(
                "counts or a frequency",
                "both",
                where,
                "counts are exact; a frequency is for a stream without known counts",
            )
        self.counts = None if counts is None else checked_counts(counts, where)
        self._log = None if self.counts is None else log_shares(self.counts)
        self._frequency = frequency

    def grow(self, counts: Counts) -> None:
        """Take over the counts of a vocabulary that has grown, if there were counts.

        Args:
            counts: occurrences of each key, in id order.

        Raises:
            DataError: a negative count.
        """
        if self.counts is not None:
            self.counts = checked_counts(counts, self._where)
            self._log = log_shares(self.counts)

    def observe(self, ids: Tensor) -> None:
        """Let the frequency, if there is one, learn from a training batch.

        Args:
            ids: `(batch,)` int64 positives.
        """
        if self._frequency is not None:
            self._frequency.observe(ids)

    def log_q_of(self, num: int, device: torch.device) -> Callable[[Tensor], Tensor] | None:
        """Return the function that looks up the log expected number of each id among positives.

        Args:
            num: how many positives.
            device: of the ids.

        Returns:
            As `log_q_of_draws`, or None without counts and frequency.
        """
        if (frequency := self._frequency) is not None:
            return lambda ids: frequency.estimate(ids) + (math.log(num) if num else -math.inf)
        if self._log is None:
            return None
        self._log = self._log.to(device)  # moved once, and kept there
        return log_q_of_draws(self._log, num)


def _with_special_ids(log_q: Tensor) -> Tensor:
    return torch.cat([log_q.amin().expand(NUM_SPECIAL_IDS), log_q])
