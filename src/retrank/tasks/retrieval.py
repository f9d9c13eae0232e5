"""`Retrieval`: learn to score each query's positive above all other candidates."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retrank.core.arguments import check_number
from retrank.core.collectives import world_size
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.notices import warn_once
from retrank.core.tensors import as_tensor, as_tensor_or_none
from retrank.losses.checks import checked_log_q, checked_weight
from retrank.losses.softmax import softmax_cross_entropy
from retrank.ops.softmax import dot_product_cross_entropy
from retrank.ops.softmax_by_torch import rows_at_once, weighted
from retrank.sampling.frequency import StreamingFrequency
from retrank.tasks.logits import (
    apply_score_mask,
    apply_temperature,
    correct_log_q,
    mine_hard_negatives,
    remove_accidental_hits,
)
from retrank.tasks.retrieval_batch import RetrievalBatch, gather_candidates, gather_queries
from retrank.tasks.retrieval_checks import check_pairing, check_shapes
from retrank.tasks.row_weights import as_row_weights
from retrank.tasks.task import BatchMetric, CorpusMetric, LossMetric, Task, listed

__all__ = ["Retrieval"]


@final
class Retrieval(Task[CorpusMetric]):
    """The softmax cross-entropy of the positive among the given candidates: in-batch, sampled, or all of them.

    Scores are dot products; of a query with several heads the best one counts. Before the softmax they are divided by
    the temperature and corrected for the sampling; accidental hits and masked pairs are removed, and all but the hard
    negatives, in this order.

    Where `torch.distributed` is initialised, the in-batch candidates of all processes are negatives of each query while
    training. The mean over processes of the losses, and of their gradients as `DistributedDataParallel` takes it, are
    then those of one process with the whole batch, also if the processes' batches differ in size.

    Args:
        loss: a torch loss, or a module, that maps scores `(batch, columns)`, where removed ones are -inf, and positives
            `(batch,)` to one loss per row; softmax cross-entropy by default.
        temperature: divides the scores; above 0.
        remove_accidental_hits: whether columns that hold the positive once more are removed; needs `candidate_ids`.
        log_q: whether scores are corrected by the log-probability of their sampling. True needs `log_q` with each
            batch; a `rr.sampling.StreamingFrequency` estimates it from the `candidate_ids` of the batches.
        num_hard_negatives: negatives to keep in each row, at least 1, those with the highest scores; None keeps all.
        symmetric: whether candidates look for their query, too, among the queries of the batch; the loss is the average
            of both.
        reduction: `"mean"` over the queries or `"sum"`.
        cross_device_negatives: whether candidates of other processes are negatives.
        metrics: fed by `update_metrics`, e.g. `rr.metrics.FullCorpusTopK()`.
        batch_metrics: fed with the scores as the loss sees them, e.g. `rr.metrics.BatchTopK()`.
        loss_metrics: fed with the loss of each batch, e.g. `rr.metrics.LossMean()`.

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
        independent of the batch size. Its negatives stay within a process, and it skips corpus metrics of queries with
        several heads. The symmetric loss is that of CLIP (Radford et al. 2021).
    """

    def __init__(
        self,
        *,
        loss: nn.Module | None = None,
        temperature: float = 1.0,
        remove_accidental_hits: bool = False,
        log_q: bool | StreamingFrequency = False,
        num_hard_negatives: int | None = None,
        symmetric: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        cross_device_negatives: bool = True,
        metrics: Sequence[CorpusMetric] = (),
        batch_metrics: Sequence[BatchMetric] = (),
        loss_metrics: Sequence[LossMetric] = (),
    ) -> None:
        batch_metrics, loss_metrics = listed(batch_metrics, "batch_metrics"), listed(loss_metrics, "loss_metrics")
        super().__init__(metrics, others=[*batch_metrics, *loss_metrics])
        check_number(temperature, "temperature", "Retrieval", above=0)
        if num_hard_negatives is not None and num_hard_negatives < 1:
            raise ConfigError(
                "None or at least 1",
                str(num_hard_negatives),
                "Retrieval(num_hard_negatives=...)",
                "None keeps all negatives",
            )
        if reduction not in ("mean", "sum"):
            raise ConfigError("'mean' or 'sum'", repr(reduction), "Retrieval(reduction=...)")
        if getattr(loss, "reduction", "mean") != "mean":
            raise ConfigError(
                "a loss with its default reduction",
                repr(getattr(loss, "reduction", None)),
                "Retrieval(loss=...)",
                "use Retrieval(reduction=...)",
            )
        self._smoothing = _smoothing_of(loss)
        self.loss = copy.copy(loss)
        if self.loss is not None and hasattr(loss, "reduction"):
            self.loss.reduction = "none"  # type: ignore[assignment]
        self.temperature = temperature
        self.remove_accidental_hits = remove_accidental_hits
        self.log_q = log_q
        self.num_hard_negatives = num_hard_negatives
        self.symmetric = symmetric
        self.reduction = reduction
        self.cross_device_negatives = cross_device_negatives
        self.batch_metrics, self.loss_metrics = batch_metrics, loss_metrics

    def forward(
        self,
        query_embeddings: Tensor,
        candidate_embeddings: Tensor,
        *,
        positives: Tensor | None = None,
        candidate_ids: Tensor | None = None,
        log_q: Tensor | None = None,
        weight: Tensor | float | None = None,
        score_mask: Tensor | None = None,
        in_batch_negatives: bool = True,
        update_metrics: bool = True,
    ) -> Tensor:
        """Return the loss, and feed the batch and loss metrics.

        Args:
            query_embeddings: `(batch, dim)`, or `(batch, heads, dim)`.
            candidate_embeddings: `(columns, dim)`.
            positives: `(batch,)` int64 column of each query's positive, which keeps the candidates of other processes
                out; by default query i belongs to column i, and further columns are negatives of all queries.
            candidate_ids: `(columns,)` integers, the candidate of each column; used to find accidental hits, and to
                estimate sampling probabilities.
            log_q: `(columns,)` natural logarithms of sampling probabilities; used if the task corrects for them.
            weight: `(batch,)` or `(batch, 1)` factor of each query's loss, a number for all, or None.
            score_mask: `(batch, columns)` bool, False for pairs that must not be compared, or `(columns,)` for columns
                that no query must be compared with. A query whose own positive is masked takes no part, as if its
                weight were 0.
            in_batch_negatives: whether the positives of other queries are negatives. If not, query i belongs to column
                i, which it alone is compared with; the columns after these are negatives of all queries.
            update_metrics: whether the batch and loss metrics count this batch.

        Returns:
            A scalar: Σ weight·loss / batch, or Σ weight·loss; 0 for an empty batch.

        Raises:
            ShapeError: tensors that do not fit.
            DataError: a positive outside of the columns, a weight that is negative or not finite, or a used `log_q`
                above 0 or not finite; the latter two make the loss NaN on a GPU instead.
            ConfigError: `candidate_ids` or `log_q` are needed and not given; or a symmetric loss with `positives` or
                without in-batch negatives, or both of these.
        """
        query_embeddings = as_tensor(query_embeddings, "query_embeddings", "Retrieval")
        candidate_embeddings = as_tensor(candidate_embeddings, "candidate_embeddings", "Retrieval")
        positives = as_tensor_or_none(positives, "positives", "Retrieval")
        candidate_ids = as_tensor_or_none(candidate_ids, "candidate_ids", "Retrieval")
        log_q = as_tensor_or_none(log_q, "log_q", "Retrieval")
        score_mask = as_tensor_or_none(score_mask, "score_mask", "Retrieval")
        weight = as_row_weights(weight, query_embeddings, "Retrieval")
        check_pairing(positives, symmetric=self.symmetric, in_batch_negatives=in_batch_negatives)
        check_shapes(query_embeddings, candidate_embeddings, positives, weight, score_mask)
        if self.log_q is not True and log_q is not None:
            warn_once("log_q is ignored: build the task as Retrieval(log_q=True) to use it")
        queries, candidates, mask = query_embeddings, candidate_embeddings, score_mask
        first_shared = 0 if in_batch_negatives else len(queries)
        if mask is not None and first_shared == 0:
            mask = mask.expand(len(queries), -1)
        log_q = checked_log_q(_required(log_q, "log_q"), "Retrieval") if self.log_q is True else None
        weight = None if weight is None else checked_weight(weight, "Retrieval")
        is_shared = self.training and self.cross_device_negatives and positives is None and world_size() > 1
        is_shared = is_shared and in_batch_negatives
        num_queries = [len(queries)]
        if is_shared:
            batch, num_queries = gather_candidates(queries, candidates, ids=candidate_ids, log_q=log_q, mask=mask)
        else:
            positives = torch.arange(len(queries), device=queries.device) if positives is None else positives
            batch = RetrievalBatch(queries, candidates, positives, candidate_ids, log_q, mask, first_shared)
        if isinstance(self.log_q, StreamingFrequency):
            batch = replace(batch, log_q=self.log_q(_required(batch.ids, "candidate_ids")))
        losses = self._losses(batch, weight, update_metrics=update_metrics)
        if self.symmetric:
            if is_shared:
                batch = gather_queries(queries, candidates, num_queries, ids=candidate_ids, mask=mask)
            else:
                batch = batch.transposed()
            losses = (losses + self._losses(batch, weight, update_metrics=False)) / 2
        loss = losses.sum() * len(num_queries)
        loss = loss / max(sum(num_queries), 1) if self.reduction == "mean" else loss
        if update_metrics:
            for metric in self.loss_metrics:
                metric.update(loss.detach(), len(queries))
        return loss

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
            query_embeddings: `(batch, dim)`, or `(batch, heads, dim)`.
            candidate_embeddings: `(num_candidates, dim)`, the whole corpus.
            positives: `(batch,)` int64 candidate rows; -1 for a positive that is not in the corpus.
            exclude: one row per query, of candidate rows that do not count, e.g. seen in training.
            weight: `(batch,)` or None for 1.
        """
        with torch.no_grad():
            for metric in self.metrics:
                metric.update(query_embeddings, candidate_embeddings, positives, exclude=exclude, weight=weight)

    def _losses(self, batch: RetrievalBatch, weight: Tensor | None, *, update_metrics: bool) -> Tensor:
        """Return weight · loss of every row, with no more than a block of scores in memory."""
        size = rows_at_once(len(batch.candidates) - batch.first_shared, batch.candidates.device)
        if update_metrics and self.batch_metrics:
            with torch.no_grad():
                for block, block_weight in _blocks(batch, weight, size):
                    scores, positives, counted = self._corrected(block, block_weight)
                    for metric in self.batch_metrics:
                        metric.update(scores, positives, counted)
        if self._is_plain_softmax(batch):
            return dot_product_cross_entropy(
                batch.queries,
                batch.candidates,
                batch.positives,
                temperature=self.temperature,
                weight=weight if batch.mask is None else _of_these(weight, batch.mask[batch.positives]),
                bias=batch.bias,
                ids=_required(batch.ids, "candidate_ids") if self.remove_accidental_hits else None,
                first_shared=batch.first_shared,
            )
        if len(batch.queries) <= size:
            return self._block_losses(batch, weight)
        # A custom loss may draw random numbers, which must be the same when it is recomputed.
        recomputed = partial(
            checkpoint, self._block_losses, use_reentrant=False, preserve_rng_state=self.loss is not None
        )
        return torch.cat([recomputed(*block) for block in _blocks(batch, weight, size)])

    def _corrected(self, batch: RetrievalBatch, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the scores as the loss sees them, the columns of the positives, and the weights."""
        scores, batch = apply_temperature(batch.scores, self.temperature), batch.positives_first()
        positives = batch.positives
        if batch.log_q is not None:
            scores = correct_log_q(scores, batch.log_q)
        if self.remove_accidental_hits:
            scores = remove_accidental_hits(scores, _required(batch.ids, "candidate_ids"), positives)
        if batch.mask is not None:
            takes_part = batch.mask.gather(1, positives[:, None])
            weight = _of_these(weight, takes_part[:, 0])
            scores = apply_score_mask(scores, batch.mask | ~takes_part)  # a row of -inf would have NaN gradients
        if self.num_hard_negatives is not None:
            scores, positives = mine_hard_negatives(scores, positives, self.num_hard_negatives)
        return scores, positives, weight

    def _block_losses(self, batch: RetrievalBatch, weight: Tensor | None) -> Tensor:
        scores, positives, weight = self._corrected(batch, weight)
        if self.loss is None or self._smoothing is not None:
            smoothing = self._smoothing or 0.0
            return softmax_cross_entropy(scores, positives, weight, label_smoothing=smoothing, reduction="none")
        losses: Tensor = self.loss(scores, positives)
        if losses.shape != positives.shape:
            raise ShapeError(
                f"one loss per row, shape {tuple(positives.shape)}",
                str(tuple(losses.shape)),
                "Retrieval(loss=...)",
                "return losses before any reduction",
            )
        return weighted(losses, weight)

    def _is_plain_softmax(self, batch: RetrievalBatch) -> bool:
        """Return whether the losses are those of one softmax over all columns, each with the same id in all rows."""
        ids, log_q, per_column = batch.ids, batch.log_q, batch.candidates.shape[:1]
        is_softmax = self.loss is None or self._smoothing == 0
        return (
            (is_softmax and self.num_hard_negatives is None)
            and (batch.mask is None or batch.mask.dim() == 1)
            and batch.queries.dim() == batch.candidates.dim() == 2
            and (ids is None or (ids.shape == per_column and not ids.is_floating_point()))
            and (log_q is None or log_q.shape == per_column)
        )


def _smoothing_of(loss: nn.Module | None) -> float | None:
    """Return the label smoothing of torch's cross-entropy, which ours replaces: it knows of removed columns."""
    if type(loss) is not nn.CrossEntropyLoss:
        return None
    if loss.weight is not None or loss.ignore_index >= 0:
        raise ConfigError(
            "a cross-entropy without `weight` and `ignore_index`",
            f"weight={loss.weight}, ignore_index={loss.ignore_index}",
            "Retrieval(loss=...)",
            "columns are no classes: another batch has other candidates in them",
        )
    return loss.label_smoothing


def _blocks(batch: RetrievalBatch, weight: Tensor | None, size: int) -> Iterator[tuple[RetrievalBatch, Tensor | None]]:
    weights: Iterable[Tensor | None] = repeat(None) if weight is None else torch.split(weight, size)
    return zip(batch.split(size), weights, strict=False)


def _of_these(weight: Tensor | None, takes_part: Tensor) -> Tensor:
    """Return the weights of the queries that take part, and 0 for all others."""
    return takes_part.float() if weight is None else weight.where(takes_part, 0)


def _required(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise ConfigError(f"`{name}`", "None", "Retrieval", f"pass it with every batch, or leave the use of {name} off")
    return tensor
