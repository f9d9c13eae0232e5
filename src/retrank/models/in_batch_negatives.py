"""`InBatchNegatives`: the positives of a batch as one another's negatives."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.models.negative_source import NegativeSource
from retrank.models.retrieval_step import RetrievalStep
from retrank.tasks.known_positives import mask_known_positives

__all__ = ["InBatchNegatives"]


@final
@dataclass(frozen=True)
class InBatchNegatives(NegativeSource):
    """Each positive competes with the other positives of its batch; `"in_batch"` for short.

    The cheapest negatives, since they are embedded anyway. A popular candidate is a negative more often, for which
    `rr.tasks.Retrieval(log_q=True)` corrects by the counts of the candidates' vocabulary.

    The sampler `rr.sampling.InBatch` gives the same negatives to combine with others in `rr.sampling.Mixed`. There a
    row's own positive is among what is drawn, unless the task removes accidental hits.

    Args:
        remove_known_positives: whether what a query is known to like is kept out of its negatives: True for the
            positives of all rows that the batch has of it; the name of a column for those and the ones that it lists,
            as ids of the candidates' vocabulary, e.g. of a feature `rr.features.Recent("movie_id")`. Queries are told
            apart by the model's `query_id`, and unknown ones are each their own. It takes `(batch, batch)` of memory,
            and the kernel of the softmax does not apply. Candidates of other processes are not looked at.

    Raises:
        ConfigError: `remove_known_positives` is neither.

    Example:
        >>> import retrank as rr
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=10)
        >>> model = rr.models.MatrixFactorization(
        ...     schema("user"), schema("song"), rr.tasks.Retrieval(), negatives=rr.models.InBatchNegatives())
        >>> model.negatives
        InBatchNegatives(remove_known_positives=False)
    """

    remove_known_positives: bool | str = False

    def __post_init__(self) -> None:
        given: object = self.remove_known_positives
        if not isinstance(given, bool | str):
            where = "InBatchNegatives(remove_known_positives=...)"
            raise ConfigError("True, False or the name of a column", repr(given), where)

    reads_log_q = True

    def loss(self, step: RetrievalStep) -> Tensor:
        """Return the softmax cross-entropy of each positive among those of the batch; see `NegativeSource.loss`."""
        loss: Tensor = step.task(
            step.queries,
            step.embed_positives(),
            candidate_ids=step.ids,
            log_q=step.log_q,
            weight=step.weight,
            score_mask=self._mask(step),
        )
        return loss

    def _mask(self, step: RetrievalStep) -> Tensor | None:
        if self.remove_known_positives is False:
            return None
        where = f"InBatchNegatives(remove_known_positives={self.remove_known_positives!r})"
        queries = _column(step.batch, step.query_id, where)
        if not isinstance(queries, Tensor) or queries.dim() != 1 or queries.is_floating_point():
            fix = "pass the model the query_id= of a feature with one id per row"
            raise ConfigError("a query_id with one id per row", f"'{step.query_id}', {_kind(queries)}", where, fix)
        rows = torch.arange(len(queries), device=queries.device)
        queries = queries.where(queries >= NUM_SPECIAL_IDS, -1 - rows)  # queries that are unknown are not the same
        if self.remove_known_positives is True:
            return mask_known_positives(queries, step.ids)
        known = _column(step.batch, self.remove_known_positives, where)
        if not isinstance(known, Jagged) or known.values.is_floating_point():
            fix = "give the space e.g. a rr.features.Recent of the candidates' id"
            raise ConfigError(
                "a column of lists of ids", f"'{self.remove_known_positives}', {_kind(known)}", where, fix
            )
        ids = known.values.where(known.values >= NUM_SPECIAL_IDS, -1)  # what is unknown is nobody's candidate
        return mask_known_positives(queries, step.ids, known.with_values(ids))


def _column(batch: Batch, name: str, where: str) -> Column:
    if name not in batch:
        raise DataError(f"the column '{name}'", f"the columns {list(batch.names)}", where, "add it to the batches")
    column: Column = batch[name]
    return column


def _kind(column: Column) -> str:
    if isinstance(column, Jagged):
        return f"lists of {column.values.dtype}"
    return f"{column.dtype} of shape {tuple(column.shape)}"
