"""`InBatchNegatives`: the positives of a batch as one another's negatives."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from retrank.models.negative_source import NegativeSource
from retrank.models.retrieval_step import RetrievalStep

__all__ = ["InBatchNegatives"]


@final
@dataclass(frozen=True)
class InBatchNegatives(NegativeSource):
    """Each positive competes with the other positives of its batch; `"in_batch"` for short.

    The cheapest negatives, since they are embedded anyway. A popular candidate is a negative more often, for which
    `rr.tasks.Retrieval(log_q=True)` corrects by the counts of the candidates' vocabulary.

    The sampler `rr.sampling.InBatch` gives the same negatives to combine with others in `rr.sampling.Mixed`. There a
    row's own positive is among what is drawn, unless the task removes accidental hits.

    Example:
        >>> import retrank as rr
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=10)
        >>> model = rr.models.MatrixFactorization(
        ...     schema("user"), schema("song"), rr.tasks.Retrieval(), negatives=rr.models.InBatchNegatives())
        >>> model.negatives
        InBatchNegatives()
    """

    reads_log_q = True

    def loss(self, step: RetrievalStep) -> Tensor:
        """Return the softmax cross-entropy of each positive among those of the batch; see `NegativeSource.loss`."""
        loss: Tensor = step.task(
            step.queries, step.embed_positives(), candidate_ids=step.ids, log_q=step.log_q, weight=step.weight
        )
        return loss
