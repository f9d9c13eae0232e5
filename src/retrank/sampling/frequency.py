"""`StreamingFrequency`: how often each candidate is drawn, learned from the batches."""

from typing import Final, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.seeds import derive_seed

__all__ = ["StreamingFrequency"]

_MULTIPLIERS: Final = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # of SplitMix64, as signed 64-bit integers
_SHIFTS: Final = (30, 27, 31)


@final
class StreamingFrequency(Configurable, nn.Module):
    """Estimates the log-probability with which a column of a batch holds each id, in memory of fixed size.

    An id that comes once in a thousand rows has gaps of a thousand rows. For every slot the module keeps when an id of
    it was seen last and the average gap, over all occurrences at first and exponentially forgotten later, so that it
    follows a drifting stream. Ids are hashed to slots; where two share a slot its gap is too short, so of several
    hashes the longest gap counts. In evaluation mode nothing is learned. The state is saved with the model.

    Args:
        num_slots: slots of each hash; several times the number of ids avoids collisions.
        num_hashes: how many hashes.
        rate: weight of a new gap once an id was seen `1 / rate` times; larger follows faster and is noisier.

    Raises:
        ConfigError: an argument out of its range.

    Example:
        >>> import torch, retrank as rr
        >>> frequency = rr.sampling.StreamingFrequency(num_slots=100)
        >>> frequency(torch.tensor([7, 8, 7, 7])).exp()
        tensor([0.7500, 0.2500, 0.7500, 0.7500])
        >>> for _ in range(500):
        ...     log_q = frequency(torch.tensor([7, 8, 8, 8]))
        >>> [round(q, 3) for q in frequency.eval()(torch.tensor([7, 8, 9])).exp().tolist()]  # 9 never came
        [0.25, 0.75, 0.0]

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item recommendations",
        algorithms 2 and 3. There time counts batches and a frequent id is never more than certain; here it counts rows,
        so that an id that every batch holds once and one that it holds a hundred times are told apart. Where no batch
        repeats an id the two differ by the constant log(batch), which no softmax sees. The running average at first
        takes the place of an initial value.
    """

    last_row: Tensor
    gap: Tensor
    num_seen: Tensor
    num_rows: Tensor

    def __init__(self, num_slots: int, *, num_hashes: int = 1, rate: float = 0.01) -> None:
        super().__init__()
        if num_slots < 1 or num_hashes < 1:
            raise self._error("at least one slot and one hash", f"{num_slots} and {num_hashes}")
        if not 0 < rate <= 1:
            raise self._error("a rate in (0, 1]", str(rate))
        self.num_slots, self.num_hashes, self.rate = num_slots, num_hashes, rate
        self._salts = [derive_seed(0, "streaming frequency", place) for place in range(num_hashes)]
        self.register_buffer("last_row", torch.zeros(num_hashes, num_slots, dtype=torch.int64))
        self.register_buffer("gap", torch.zeros(num_hashes, num_slots))
        self.register_buffer("num_seen", torch.zeros(num_hashes, num_slots, dtype=torch.int64))
        self.register_buffer("num_rows", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        """Estimate, after learning from the same ids if in training mode.

        Args:
            ids: `(rows,)` integers, all columns of a batch, repeats included.

        Returns:
            `(rows,)` float32 natural logarithms of probabilities; an id that never came counts as if it came next.

        Raises:
            ShapeError: another shape or dtype.
        """
        if self.training:
            self.observe(ids)
        return self.estimate(ids)

    @torch.no_grad()
    def estimate(self, ids: Tensor) -> Tensor:
        """Estimate without learning.

        Args:
            ids: `(rows,)` integers.

        Returns:
            As `forward`.

        Raises:
            ShapeError: another shape or dtype.
        """
        slots = self._slots(ids)
        gap = self.gap.gather(1, slots).where(self.num_seen.gather(1, slots) > 0, self.num_rows + 1)
        return -gap.amax(dim=0).float().log()

    @torch.no_grad()
    def observe(self, ids: Tensor) -> None:
        """Learn from a batch, in any mode.

        Args:
            ids: `(rows,)` integers, all columns of a batch, repeats included.

        Raises:
            ShapeError: another shape or dtype.
        """
        slots = self._slots(ids)
        now = self.num_rows + slots.shape[1]
        ordered = slots.sort(dim=1).values
        repeats = torch.searchsorted(ordered, slots, right=True) - torch.searchsorted(ordered, slots)
        old, seen = self.gap.gather(1, slots), self.num_seen.gather(1, slots) + repeats
        new = ((now - self.last_row.gather(1, slots)) / repeats).to(old.dtype)
        weight = torch.maximum(1 - (1 - self.rate) ** repeats, repeats / seen).to(old.dtype)
        # Equal slots of one batch write equal values, so the order of writing does not matter.
        self.gap.scatter_(1, slots, torch.lerp(old, new, weight))
        self.num_seen.scatter_(1, slots, seen)
        self.last_row.scatter_(1, slots, now.expand_as(slots))
        self.num_rows.copy_(now)

    def _slots(self, ids: Tensor) -> Tensor:
        if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
            got = f"{ids.dtype} of shape {tuple(ids.shape)}"
            raise ShapeError("integer ids of shape (rows,)", got, "StreamingFrequency")
        return torch.stack([self._hashed(ids.long(), salt) for salt in self._salts])

    def _hashed(self, ids: Tensor, salt: int) -> Tensor:
        mixed = ids + salt
        for shift, multiplier in zip(_SHIFTS[:2], _MULTIPLIERS, strict=True):
            mixed = (mixed ^ _shift_right(mixed, shift)) * multiplier
        return (mixed ^ _shift_right(mixed, _SHIFTS[2])) % self.num_slots

    def _error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(expected, got, "StreamingFrequency", "e.g. StreamingFrequency(4 * num_candidates)")


def _shift_right(values: Tensor, places: int) -> Tensor:
    return (values >> places) & ((1 << (64 - places)) - 1)  # torch shifts the sign in
