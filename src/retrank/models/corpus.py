"""`Corpus`: the candidates that a retrieval model ranks."""

from collections.abc import Callable
from typing import Final, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, DataError
from retrank.core.penalties import collecting_penalties
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.features.catalogue import Catalogue

__all__ = ["Corpus", "EmbeddedCandidates", "embed_in_pieces"]

_ROWS_AT_ONCE: Final = 4096


@final
class Corpus(nn.Module):
    """A catalogue, and the row of each vocabulary id in it. It moves with its model and is not part of its weights.

    Args:
        catalogue: all candidates.
        candidate_id: the column with their vocabulary ids.
        num_ids: how many ids there are, padding and unknown included.

    Raises:
        ConfigError: the catalogue has no column of candidate ids.
        DataError: two of its rows have the same id.
    """

    row_of_id: Tensor
    """`(num_ids,)` int64; -1 for padding, unknown, and ids that are not in the catalogue."""

    def __init__(self, catalogue: Catalogue, candidate_id: str, num_ids: int) -> None:
        super().__init__()
        self.catalogue, self._batch = catalogue, catalogue.batch
        self.register_buffer("row_of_id", _rows_of_ids(catalogue, candidate_id, num_ids), persistent=False)

    def grow(self, num_ids: int) -> None:
        """Make room for new ids, which none of these candidates has."""
        self.row_of_id = pad(self.row_of_id, (0, num_ids - len(self.row_of_id)), value=-1)

    @property
    def batch(self) -> Batch:
        """The features of all candidates, on the model's device."""
        if self._batch.device != self.row_of_id.device:
            self._batch = self._batch.to(self.row_of_id.device)  # once, not in every step
        return self._batch


@final
class EmbeddedCandidates(NamedTuple):
    """Candidates as vectors.

    Args:
        vectors: `(num_candidates, dim)`.
        penalty: what embedding them adds to the loss of a step, as if they had been one batch.
    """

    vectors: Tensor
    penalty: Tensor


def embed_in_pieces(embed: Callable[[Batch], Tensor], batch: Batch, device: torch.device) -> EmbeddedCandidates:
    """Embed any number of candidates in memory for a few thousand.

    Args:
        embed: from candidate features to `(batch, dim)`.
        batch: the features, on any device.
        device: where to embed.
    """
    vectors, penalty = [], torch.zeros((), device=device)
    for start in range(0, max(len(batch), 1), _ROWS_AT_ONCE):
        piece = batch[start : start + _ROWS_AT_ONCE].to(device)
        with collecting_penalties() as penalties:
            vectors.append(embed(piece))
        penalty = penalty + penalties.total(device) * (len(piece) / max(len(batch), 1))  # penalties are means over rows
    return EmbeddedCandidates(torch.cat(vectors), penalty)


def _rows_of_ids(catalogue: Catalogue, candidate_id: str, num_ids: int) -> Tensor:
    """Return the catalogue row of every vocabulary id, -1 for ids that are not in the catalogue."""
    if candidate_id not in catalogue.batch or not isinstance(catalogue.batch[candidate_id], Tensor):
        raise ConfigError(
            f"a column '{candidate_id}' of ids",
            f"the columns {list(catalogue.batch.names)}",
            "catalogue",
            "make the catalogue with the feature space of the model",
        )
    ids: Tensor = catalogue.batch[candidate_id].cpu()
    places = (ids >= NUM_SPECIAL_IDS).nonzero().flatten()
    if len(beyond := (ids >= num_ids).nonzero()):
        row = int(beyond[0])
        raise DataError(
            f"ids of '{candidate_id}' below {num_ids}", str(int(ids[row])), f"catalogue, row {row}",
            "grow the model to the feature space, by model.grow(space)",
        )  # fmt: skip
    rows = torch.full((num_ids,), -1)
    rows[ids[places]] = places
    doubles = places[rows[ids[places]] != places]
    if len(doubles):
        row = int(doubles[0])
        raise DataError(
            f"one candidate per id of '{candidate_id}'",
            f"id {int(ids[row])} again in row {int(rows[ids[row]])}",
            f"catalogue, row {row}",
            "choose as candidate_id the feature that identifies candidates",
        )
    return rows
