"""`Retrieval`: learn to score each query's positive above all other candidates."""

import warnings
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, RetrankWarning, ShapeError
from retrank.core.jagged import Jagged
from retrank.losses.softmax import softmax_cross_entropy
from retrank.tasks.logits import apply_temperature, correct_log_q, mine_hard_negatives, remove_accidental_hits
from retrank.tasks.task import CorpusMetric, Task

__all__ = ["Retrieval"]


@final
class Retrieval(Task[CorpusMetric]):
    """The softmax cross-entropy of the positive among the candidates at hand: in-batch, sampled, or all of them.

    Scores are dot products. Before the softmax they are divided by the temperature, corrected for the sampling,
    relieved of accidental hits, and cut down to the hard negatives, in this order.

    Args:
        temperature: divides the scores; above 0.
        remove_accidental_hits: whether columns that hold the positive once more are removed; needs `candidate_ids`.
        log_q: whether scores are corrected by the log-probability of their sampling; needs `log_q` with each batch.
        num_hard_negatives: negatives to keep in each row, at least 1, those with the highest scores; None keeps all.
        metrics: fed by `update_metrics`, e.g. `rr.metrics.FullCorpusTopK()`.

    Raises:
        ConfigError: an argument out of its range, or two metrics of one name.

    Example:
        >>> import torch, retrank as rr
        >>> task = rr.tasks.Retrieval(temperature=0.5, remove_accidental_hits=True)
        >>> queries, candidates = torch.eye(3), torch.eye(3)
        >>> loss = task(queries, candidates, candidate_ids=torch.tensor([4, 5, 4]))
        >>> round(loss.item(), 4)  # two rows against one negative each, one row against two
        0.1645

    Source: `tasks.Retrieval` of TensorFlow Recommenders, which sums over the batch; the mean keeps the learning rate
        independent of the batch size.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        remove_accidental_hits: bool = False,
        log_q: bool = False,
        num_hard_negatives: int | None = None,
        metrics: Sequence[CorpusMetric] = (),
    ) -> None:
        super().__init__(metrics)
        if not 0 < temperature < float("inf"):
            raise ConfigError(
                "a temperature above 0", str(temperature), "Retrieval(temperature=...)", "1.0 does nothing"
            )
        if num_hard_negatives is not None and num_hard_negatives < 1:
            raise ConfigError(
                "None or at least 1",
                str(num_hard_negatives),
                "Retrieval(num_hard_negatives=...)",
                "None keeps all negatives",
            )
        self.temperature = temperature
        self.remove_accidental_hits = remove_accidental_hits
        self.log_q = log_q
        self.num_hard_negatives = num_hard_negatives

    def forward(
        self,
        query_embeddings: Tensor,
        candidate_embeddings: Tensor,
        *,
        positives: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        log_q: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            query_embeddings: `(batch, dim)`.
            candidate_embeddings: `(columns, dim)`.
            positives: `(batch,)` int64 column of each query's positive; by default query i belongs to column i, and
                further columns are negatives of all queries.
            candidate_ids: `(columns,)` integers, what each column is; used to find accidental hits.
            log_q: `(columns,)` natural logarithms of sampling probabilities; used if the task corrects for them.
            weight: `(batch,)` factor of each query's loss, or None.

        Returns:
            A scalar: Σ weight·loss / batch; 0 for an empty batch.

        Raises:
            ShapeError: tensors that do not fit.
            ConfigError: `candidate_ids` or `log_q` are needed and not given.
        """
        self._check(query_embeddings, candidate_embeddings, positives)
        if positives is None:
            positives = torch.arange(len(query_embeddings), device=query_embeddings.device)
        scores = query_embeddings @ candidate_embeddings.T
        scores = apply_temperature(scores.to(torch.promote_types(scores.dtype, torch.float32)), self.temperature)
        if self.log_q:
            scores = correct_log_q(scores, _needed(log_q, "log_q"))
        elif log_q is not None:
            warnings.warn(
                "log_q is ignored: build the task as Retrieval(log_q=True) to use it", RetrankWarning, stacklevel=2
            )
        if self.remove_accidental_hits:
            scores = remove_accidental_hits(scores, _needed(candidate_ids, "candidate_ids"), positives)
        if self.num_hard_negatives is not None:
            scores, positives = mine_hard_negatives(scores, positives, self.num_hard_negatives)
        return softmax_cross_entropy(scores, positives, weight)

    def update_metrics(
        self,
        query_embeddings: Tensor,
        candidate_embeddings: Tensor,
        positives: Tensor,
        *,
        exclude: Jagged | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Feed the corpus metrics.

        Args:
            query_embeddings: `(batch, dim)`.
            candidate_embeddings: `(num_candidates, dim)`, the whole corpus.
            positives: `(batch,)` int64 candidate rows; -1 for a positive that is not in the corpus.
            exclude: one row a query of candidate rows that do not count, e.g. seen in training.
            weight: `(batch,)` or None for 1.
        """
        with torch.no_grad():
            for metric in self.metrics:
                metric.update(query_embeddings, candidate_embeddings, positives, exclude=exclude, weight=weight)

    def results(self) -> dict[str, Tensor]:
        """Return the metrics' values by name; a metric that has seen no row since the last reset is left out."""
        return {name: value for metric in self.metrics if metric.num_rows for name, value in metric.compute().items()}

    def _check(self, queries: Tensor, candidates: Tensor, positives: Tensor | None) -> None:
        if queries.dim() != 2 or candidates.dim() != 2 or queries.shape[1] != candidates.shape[1]:
            raise ShapeError(
                "queries (batch, dim) and candidates (columns, dim)",
                f"{tuple(queries.shape)} and {tuple(candidates.shape)}",
                "Retrieval",
                "embed both with the same dim",
            )
        if positives is None and len(candidates) < len(queries):
            raise ShapeError(
                f"at least one candidate a query, {len(queries)}",
                str(len(candidates)),
                "Retrieval",
                "pass `positives` if queries share candidates",
            )


def _needed(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise ConfigError(f"`{name}`", "None", "Retrieval", f"pass it with every batch, or leave the use of {name} off")
    return tensor
