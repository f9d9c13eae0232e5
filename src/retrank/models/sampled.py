"""The softmax over a positive and what a sampler draws."""

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.sampling.sampler import Negatives, Sampler
from retrank.tasks.retrieval import Retrieval

__all__ = ["CandidatesById", "draw", "sampled_softmax"]


@final
class CandidatesById:
    """A candidate tower as a table of vectors, for samplers to look up what they drew.

    Args:
        embed: from candidate features to `(batch, dim)`.
        candidate_id: the column with the vocabulary id.
        num_ids: how many ids there are, padding and unknown included.
        row_of_id: `(num_ids,)` catalogue row of each id, -1 for none.
        catalogue: the features of all candidates; None if the id is all that `embed` reads.
    """

    def __init__(
        self,
        embed: Callable[[Batch], Tensor],
        candidate_id: str,
        num_ids: int,
        row_of_id: Tensor | None,
        catalogue: Batch | None,
    ) -> None:
        self._embed, self._candidate_id, self._num_ids = embed, candidate_id, num_ids
        self._row_of_id, self._catalogue = row_of_id, catalogue

    @property
    def num_ids(self) -> int:
        """The number of ids, padding and unknown included."""
        return self._num_ids

    def __call__(self, ids: Tensor) -> Tensor:
        """Embed `(n,)` int64 ids as `(n, dim)`; an id without a row gets the vector of some candidate, see `known`."""
        if self._catalogue is None or self._row_of_id is None:
            return self._embed(Batch({self._candidate_id: ids}))
        return self._embed(self._catalogue.take(self._row_of_id[ids].clamp(min=0)))

    def known(self, ids: Tensor) -> Tensor:
        """Return `(n,)` bool, whether `(n,)` ids are candidates."""
        if self._catalogue is None or self._row_of_id is None:
            return ids >= 0
        return self._row_of_id[ids] >= 0


def draw(
    sampler: Sampler, ids: Tensor, candidates: Tensor, table: CandidatesById | None, *, training: bool
) -> Negatives:
    """Draw negatives; in evaluation always the same ones, and without a trace in torch's generators.

    Args:
        sampler: what draws.
        ids: `(batch,)` int64, the positive of each query.
        candidates: `(batch, dim)`, their embeddings.
        table: embeds what is drawn.
        training: whether this is a training step.

    Returns:
        The negatives of all queries.
    """
    if training:
        drawn: Negatives = sampler(ids, candidates, table=table, training=True)
        return drawn
    with torch.random.fork_rng([ids.device] if ids.is_cuda else []):
        torch.manual_seed(0)
        unseen: Negatives = sampler(ids, candidates, table=table)
        return unseen


def sampled_softmax(
    task: Retrieval,
    queries: Tensor,
    candidates: Tensor,
    ids: Tensor,
    drawn: Negatives,
    *,
    known: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """Compare every query with its own positive and the drawn negatives, but no other positive.

    Args:
        task: knows the temperature, and what is corrected.
        queries: `(batch, dim)`.
        candidates: `(batch, dim)`, the positives.
        ids: `(batch,)` int64, theirs.
        drawn: the negatives, with embeddings.
        known: `(negatives,)` bool, which of them are candidates.
        weight: `(batch,)` or None for 1.

    Returns:
        The task's loss, a scalar.
    """
    assert drawn.embeddings is not None
    own = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    columns = torch.cat([ids, drawn.ids])
    loss: Tensor = task(
        queries,
        torch.cat([candidates, drawn.embeddings]),
        positives=torch.arange(len(ids), device=ids.device),
        candidate_ids=columns,
        log_q=_log_shares(drawn, columns) if task.log_q is True else None,
        weight=weight,
        score_mask=torch.cat([own, known.expand(len(ids), -1)], dim=1),
    )
    return loss


def _log_shares(drawn: Negatives, ids: Tensor) -> Tensor | None:
    """Return the log-probability of each id in one draw of many, as good as expected counts for a softmax."""
    if drawn.log_q_of is None:
        return None
    num_draws = len(drawn.ids)
    return drawn.log_q_of(ids) - math.log(num_draws) if num_draws else torch.zeros(len(ids), device=ids.device)
