"""What every sampler provides: negatives for a batch, and how likely each was to be drawn."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.sampling.probabilities import Counts

__all__ = ["CandidateTable", "Negatives", "Positives", "Sampler"]


class CandidateTable(Protocol):
    """Whatever embeds candidates by id, as an `EmbeddingTable` does.

    Example:
        >>> import retrank as rr
        >>> table: rr.sampling.CandidateTable = rr.EmbeddingTable(10, dim=4)
    """

    @property
    def num_ids(self) -> int:
        """The number of ids, padding and unknown included."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Embed `(n,)` int64 ids as `(n, dim)`."""


@final
class Positives(NamedTuple):
    """What a sampler may look at.

    Attributes:
        ids: `(batch,)` int64, the positive of each query.
        embeddings: `(batch, dim)`, or None where only ids are wanted.
        table: embeds other candidates, or None.
        training: whether this is a training step, so that a sampler may remember the batch.
    """

    ids: Tensor
    embeddings: Tensor | None = None
    table: CandidateTable | None = None
    training: bool = False

    def embed(self, ids: Tensor) -> Tensor | None:
        """Embed drawn ids, if there is a table.

        Args:
            ids: `(negatives,)` int64.

        Returns:
            `(negatives, dim)` or None.
        """
        return None if self.table is None else self.table(ids)


@final
@dataclass(frozen=True, eq=False)
class Negatives:
    """Candidates that every query of the batch is compared with.

    Args:
        ids: `(negatives,)` int64. Padding and unknown ids, which can only come from the batch itself, are no
            candidates; see `valid`.
        embeddings: `(negatives, dim)`, or None if the sampler had no table to embed what it drew.
        log_q_of: maps ids `(n,)` to `(n,)` float32, the logarithm of the expected number of times that each is among
            such negatives; None if the sampler does not know.

    Example:
        >>> import torch, retrank as rr
        >>> negatives = rr.sampling.Uniform(4, num_ids=10)(torch.tensor([2, 3, 3]))
        >>> len(negatives.ids), negatives.log_q.exp()
        (4, tensor([0.5000, 0.5000, 0.5000, 0.5000]))
    """

    ids: Tensor
    embeddings: Tensor | None = None
    log_q_of: Callable[[Tensor], Tensor] | None = None

    @property
    def log_q(self) -> Tensor | None:
        """`(negatives,)` float32, `log_q_of` the drawn ids, or None if the sampler does not know."""
        return None if self.log_q_of is None else self.log_q_of(self.ids)

    @property
    def valid(self) -> Tensor:
        """`(negatives,)` bool, whether a column holds a candidate at all."""
        return self.ids >= NUM_SPECIAL_IDS


class Sampler(Configurable, nn.Module, ABC):
    """Draws the negatives of a batch; a subclass writes `draw`.

    Randomness comes from torch's global generator of the batch's device, which `Model.fit` seeds and restores.
    """

    def forward(
        self,
        ids: Tensor,
        embeddings: Tensor | None = None,
        *,
        table: CandidateTable | None = None,
        training: bool = False,
    ) -> Negatives:
        """Draw negatives for a batch.

        Args:
            ids: `(batch,)` int64, the positive of each query.
            embeddings: `(batch, dim)`, or None where only ids are wanted.
            table: embeds candidates that are not in the batch.
            training: whether this is a training step, so that a sampler may remember the batch.

        Returns:
            The negatives of all queries of the batch.

        Raises:
            ShapeError: tensors that do not fit.
            ConfigError: the sampler needs what was not given.
        """
        if ids.dim() != 1 or ids.dtype != torch.int64:
            raise self._shape_error("int64 ids of shape (batch,)", ids)
        if embeddings is not None and (embeddings.dim() != 2 or len(embeddings) != len(ids)):
            raise self._shape_error(f"embeddings of shape ({len(ids)}, dim)", embeddings)
        return self.draw(Positives(ids, embeddings, table, training))

    @abstractmethod
    def draw(self, positives: Positives) -> Negatives:
        """Draw negatives for positives whose shapes are checked."""

    def grow(self, counts: Counts) -> None:
        """Follow a vocabulary that has grown; nothing to do for a sampler that knows neither counts nor ids.

        Args:
            counts: occurrences of each key of the vocabulary, in id order; they take the place of older counts.

        Raises:
            DataError: a negative count.
        """

    def _shape_error(self, expected: str, tensor: Tensor) -> ShapeError:
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        return ShapeError(expected, got, type(self).__name__)

    def _config_error(self, expected: str, got: str, fix: str | None = None) -> ConfigError:
        return ConfigError(expected, got, type(self).__name__, fix)
