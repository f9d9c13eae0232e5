"""`CrossBatch`: the positives of earlier batches, from a queue."""

from collections.abc import Mapping
from typing import Any, Final, final

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.sampling.frequency import StreamingFrequency
from retrank.sampling.probabilities import Counts, Shares
from retrank.sampling.sampler import Negatives, Positives, Sampler

__all__ = ["CrossBatch"]

_EMPTY: Final = -1


@final
class CrossBatch(Sampler):
    """The positives of earlier training batches as they were embedded then, oldest first, without gradients.

    The current batch enters the queue after the draw, so that `InBatch` beside it repeats nothing, and only in a
    training step; the oldest rows fall out. The queue is empty at first. It is part of the state that is saved.
    An id with share p of all positives is expected n · p times among n rows; without `counts` or `frequency` p is not
    known.

    Args:
        capacity: the most rows that are kept.
        dim: length of an embedding; None takes that of the first batch, or of the state that is loaded.
        counts: occurrences of each key among the positives, in id order, as for `InBatch`.
        frequency: estimates p from the batches of training steps, as for `InBatch`; one of its own.

    Raises:
        ConfigError: a capacity or dim below 1, counts of another shape, or both counts and a frequency.
        DataError: a negative count.

    Example:
        >>> import torch, retrank as rr
        >>> sampler = rr.sampling.CrossBatch(capacity=3)
        >>> for ids in ([2, 3], [4, 5], [6, 7]):
        ...     print(sampler(torch.tensor(ids), torch.zeros(2, 8), training=True).ids)
        tensor([], dtype=torch.int64)
        tensor([2, 3])
        tensor([3, 4, 5])

    Source: Wang et al. (2021), "Cross-batch negative sampling for training two-tower recommenders"; the
        `CachedCrossBatchSampler` that Merlin Models once had.
    """

    ids: Tensor
    embeddings: Tensor

    def __init__(
        self,
        capacity: int,
        *,
        dim: int | None = None,
        counts: Counts | None = None,
        frequency: StreamingFrequency | None = None,
    ) -> None:
        super().__init__()
        if capacity < 1 or (dim is not None and dim < 1):
            raise self._config_error("capacity >= 1 and dim >= 1", f"capacity={capacity}, dim={dim}")
        self._shares = Shares(counts, frequency, "CrossBatch")
        self._record(counts=self._shares.counts)
        self.frequency = frequency
        self.capacity, self.dim, self._num_rows = capacity, dim, 0
        self.register_buffer("ids", torch.full((capacity,), _EMPTY))
        self.register_buffer("embeddings", torch.zeros(capacity, dim or 0))

    def grow(self, counts: Counts) -> None:
        """Take over new counts, if there were any; the queue stays. See `Sampler.grow`."""
        self._shares.grow(counts)
        self._record(counts=self._shares.counts)

    def __len__(self) -> int:
        """Return the number of rows in the queue."""
        return self._num_rows

    @property
    def unsized_states(self) -> tuple[str, ...]:
        """The states whose shape the arguments do not determine, so that loading may change it."""
        return ("embeddings",) if self.dim is None else ()

    def draw(self, positives: Positives) -> Negatives:
        """Return the queue, then append the batch; see `Sampler.forward`."""
        if positives.embeddings is None:
            raise self._config_error("embeddings of the positives", "None", "pass them with the ids")
        self._adopt_width(positives.embeddings)
        start = self.capacity - self._num_rows
        queued = self.embeddings[start:].to(positives.embeddings.dtype)
        log_q_of = self._shares.log_q_of(self._num_rows, positives.ids.device)
        negatives = Negatives(self.ids[start:], queued, log_q_of)
        if positives.training:
            self._shares.observe(positives.ids)
            # New tensors, since the negatives just handed out are needed unchanged by the backward pass.
            rows = positives.embeddings.detach().to(self.embeddings.dtype)
            self.ids = torch.cat([self.ids, positives.ids])[-self.capacity :]
            self.embeddings = torch.cat([self.embeddings, rows])[-self.capacity :]
            self._num_rows = min(self._num_rows + len(rows), self.capacity)
        return negatives

    def _adopt_width(self, embeddings: Tensor) -> None:
        dim = embeddings.shape[1]
        if self.embeddings.shape[1] == 0:
            dtype = torch.promote_types(embeddings.dtype, torch.float32)
            self.embeddings = embeddings.new_zeros(self.capacity, dim, dtype=dtype)
            self.ids = self.ids.to(embeddings.device)
        if self.embeddings.shape[1] != dim:
            raise ShapeError(
                f"embeddings of dim {self.embeddings.shape[1]}", str(dim), "CrossBatch", "give each model its own queue"
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        saved = state_dict.get(f"{prefix}embeddings")
        if saved is not None and saved.dim() == 2 and self.dim is None:
            self.embeddings = saved.new_zeros(self.capacity, saved.shape[1], device=self.embeddings.device)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._num_rows = int((self.ids != _EMPTY).sum())
