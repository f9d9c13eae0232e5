"""`RetrievalStep`: what the loss of a retrieval model is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from retrank.core.batch import Batch
from retrank.models.candidates_by_id import CandidatesById
from retrank.tasks.retrieval import Retrieval

__all__ = ["RetrievalStep"]


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalStep:
    """A batch of positive pairs, seen by a `NegativeSource`. Candidates are embedded on demand.

    Args:
        task: computes the loss.
        batch: the rows as they were given to the model.
        query_id: the feature of `batch` that identifies queries.
        queries: `(batch, dim)` embeddings.
        ids: `(batch,)` int64, the positive's vocabulary id of each row.
        rows: `(batch,)` int64, the positive's catalogue row, -1 if it has none; None unless the source reads it.
        weight: `(batch,)`, or None for equal weights.
        log_q: `(batch,)`, the log-probability of each positive to be in a batch; None if it is not to be corrected.
        training: whether this loss will update the weights.
        embed_positives: returns the `(batch, dim)` embeddings of the positives.
        embed_catalogue: returns the `(num_candidates, dim)` embeddings of the catalogue; fails without one.
        candidates: embeds candidates by id; None if that takes features that only a catalogue would know.
    """

    task: Retrieval
    batch: Batch
    query_id: str
    queries: Tensor
    ids: Tensor
    rows: Tensor | None
    weight: Tensor | None
    log_q: Tensor | None
    training: bool
    embed_positives: Callable[[], Tensor]
    embed_catalogue: Callable[[], Tensor]
    candidates: CandidatesById | None
