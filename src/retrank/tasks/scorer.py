"""`RetrievalScorer`: score each query's positive and the negatives of pluggable samplers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from retrank.core.arguments import check_number
from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.losses.checks import FINITE, checked
from retrank.sampling.mixed import Mixed
from retrank.sampling.sampler import CandidateTable, Negatives, Sampler
from retrank.tasks.logits import apply_temperature

__all__ = ["RetrievalScorer", "ScorerOutput", "rescore_false_negatives"]


@final
class ScorerOutput(NamedTuple):
    """What a `RetrievalScorer` returns. At inference there are scores alone, and all else is None.

    Attributes:
        scores: `(batch, 1 + negatives)`, the positive in column 0. At inference `(batch, 1)`, the positive alone; with
            sampled softmax `(batch, num_ids)`, all ids, padding and unknown with -inf.
        targets: of the scores' shape and dtype, 1 in column 0 and else 0.
        positive_ids: `(batch,)` int64.
        negative_ids: `(negatives,)` int64; None unless they were needed to find false negatives, or are to be stored.
        valid_negatives: `(batch, negatives)` bool, False for false negatives and for what is no candidate.
    """

    scores: Tensor
    targets: Tensor | None = None
    positive_ids: Tensor | None = None
    negative_ids: Tensor | None = None
    valid_negatives: Tensor | None = None


def rescore_false_negatives(
    scores: Tensor, positive_ids: Tensor, negative_ids: Tensor, false_negative_score: float = -math.inf
) -> tuple[Tensor, Tensor]:
    """Give negatives that are the row's positive another score.

    Args:
        scores: `(batch, negatives)`.
        positive_ids: `(batch,)` integers.
        negative_ids: `(negatives,)` integers.
        false_negative_score: the new score.

    Returns:
        The scores, and `(batch, negatives)` bool: which negatives kept theirs.

    Raises:
        ShapeError: tensors that do not fit.

    Example:
        >>> import torch, retrank as rr
        >>> ids = torch.tensor([7, 8])
        >>> rr.tasks.rescore_false_negatives(torch.zeros(2, 2), ids, ids)
        (tensor([[-inf, 0.],
                [0., -inf]]), tensor([[False,  True],
                [ True, False]]))
    """
    if scores.shape != (*positive_ids.shape, *negative_ids.shape) or scores.dim() != 2:
        raise ShapeError(
            "scores of shape (batch, negatives) for as many positive_ids and negative_ids",
            ", ".join(str(tuple(tensor.shape)) for tensor in (scores, positive_ids, negative_ids)),
            "rescore_false_negatives",
            "one row per query, one column per negative",
        )
    valid = positive_ids[:, None] != negative_ids
    return scores.masked_fill(~valid, false_negative_score), valid


@final
class RetrievalScorer(Configurable, nn.Module):
    """Scores queries against their positives and sampled negatives, ready for a loss of `rr.losses`.

    In training and testing the scores are dot products, divided by the temperature, then corrected for the sampling;
    the negatives of all samplers follow in the order of the samplers. A negative that is the row's positive is
    a false one: it gets another score and is marked invalid. Padding and unknown ids in the batch are no candidates,
    and as negatives are treated likewise, whether false negatives are downscored or not. At inference nothing is
    sampled, divided or corrected: the scores are the plain dot products that an index computes.

    Args:
        samplers: where the negatives come from; may be empty for inference alone.
        downscore_false_negatives: whether a negative that is the row's positive gets `false_negative_score`.
        false_negative_score: a finite score, or None for -inf, which takes the negative out of every loss.
        sampled_softmax: whether candidates are rows of the table of the call, and the input is queries alone.
        store_negative_ids: whether `negative_ids` are returned even if no false negatives are sought.
        cache_queries: whether the latest queries are kept as `cached_queries`.
        candidate_id: the feature that holds the positives' ids, where they are not passed as `candidate_ids`.
        query_name: the queries' name in the inputs.
        candidate_name: the candidates' name in the inputs.
        temperature: divides the scores; above 0.
        log_q: whether the log expected count of each id, the positive's included, is subtracted.

    Raises:
        ConfigError: an argument out of its range.

    Example:
        >>> import torch, retrank as rr
        >>> movies = rr.EmbeddingTable(1_000, dim=8)
        >>> scorer = rr.tasks.RetrievalScorer([rr.sampling.InBatch(), rr.sampling.Popularity(100)])
        >>> ids = torch.tensor([5, 9, 5, 7])
        >>> inputs = {"query": torch.randn(4, 8), "candidate": movies(ids)}
        >>> output = scorer(inputs, candidate_ids=ids, table=movies, training=True)
        >>> output.scores.shape, output.valid_negatives[0, :4]
        (torch.Size([4, 105]), tensor([False, True, False, True]))
        >>> loss = rr.losses.bpr_max(output.scores, output.valid_negatives)
        >>> scorer(inputs).scores.shape
        torch.Size([4, 1])

    Source: `ItemRetrievalScorer` and `ContrastiveOutput` of Merlin Models. There the temperature divides after the
        correction, in the former not at all; here it divides before.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler] = (),
        *,
        downscore_false_negatives: bool = True,
        false_negative_score: float | None = None,
        sampled_softmax: bool = False,
        store_negative_ids: bool = False,
        cache_queries: bool = False,
        candidate_id: str = "candidate_id",
        query_name: str = "query",
        candidate_name: str = "candidate",
        temperature: float = 1.0,
        log_q: bool = False,
    ) -> None:
        super().__init__()
        if false_negative_score is not None and not math.isfinite(false_negative_score):
            raise _error("a finite false_negative_score, or None", str(false_negative_score), "None stands for -inf")
        check_number(temperature, "temperature", "RetrievalScorer", above=0)
        if query_name == candidate_name:
            raise _error("two names for queries and candidates", repr(query_name))
        self.sampler = None if isinstance(samplers, Sequence) and not samplers else Mixed(samplers)
        self.downscore_false_negatives = downscore_false_negatives
        self.false_negative_score = -math.inf if false_negative_score is None else false_negative_score
        self.sampled_softmax = sampled_softmax
        self.store_negative_ids = store_negative_ids
        self.cache_queries = cache_queries
        self.candidate_id, self.query_name, self.candidate_name = candidate_id, query_name, candidate_name
        self.temperature = temperature
        self.log_q = log_q
        self._queries: Tensor | None = None

    @property
    def cached_queries(self) -> Tensor:
        """`(batch, dim)`, the queries of the latest call, without gradient."""
        if self._queries is None:
            raise _error("queries in the cache", "none", "build with cache_queries=True, then call the scorer")
        return self._queries

    def forward(
        self,
        inputs: Mapping[str, Tensor] | Tensor,
        *,
        candidate_ids: Tensor | None = None,
        features: Batch | Mapping[str, Tensor] | None = None,
        table: CandidateTable | None = None,
        training: bool = False,
        testing: bool = False,
    ) -> ScorerOutput:
        """Score a batch.

        Args:
            inputs: `(batch, dim)` queries and candidates by their names; with sampled softmax the queries, by name or
                alone.
            candidate_ids: `(batch,)` int64, the positive of each query; needed in training and testing.
            features: holds them under the name `candidate_id` instead.
            table: embeds candidates that samplers draw, e.g. an `EmbeddingTable`; always needed by sampled softmax.
            training: whether this is a training step.
            testing: whether this is a step of an evaluation: as in training, but no sampler remembers the batch.
                Neither means inference.

        Returns:
            Scores, and in training and testing what belongs to them.

        Raises:
            ConfigError: something needed is missing, or not used in this mode.
            ShapeError: tensors that do not fit.
        """
        queries, candidates = self._embeddings(inputs)
        if self.cache_queries:
            self._queries = queries.detach()
        if self.sampled_softmax and table is None:
            raise _error("a table", "None", "pass table=... with every call of sampled softmax")
        if not (training or testing):
            scores = _all_scores(queries, table) if candidates is None else _positive_scores(queries, candidates)
            return ScorerOutput(scores)
        ids = self._positive_ids(candidate_ids, features, queries)
        if candidates is None:
            assert table is not None
            candidates = table(ids)
        if self.sampler is None:
            raise _error("at least one sampler", "none", "e.g. samplers=[rr.sampling.InBatch()]")
        negatives = self.sampler(ids, candidates, table=table, training=training)
        scores = self._corrected(queries, candidates, ids, negatives)
        others, valid = self._checked(scores[:, 1:], ids, negatives)
        scores = torch.cat([scores[:, :1], others], dim=1)
        targets = torch.zeros_like(scores)
        targets[:, 0] = 1
        stored = self.store_negative_ids or self.downscore_false_negatives
        return ScorerOutput(scores, targets, ids, negatives.ids if stored else None, valid)

    def _embeddings(self, inputs: Mapping[str, Tensor] | Tensor) -> tuple[Tensor, Tensor | None]:
        if isinstance(inputs, Tensor):
            inputs = {self.query_name: inputs}
        names = {self.query_name} if self.sampled_softmax else {self.query_name, self.candidate_name}
        if inputs.keys() != names:
            raise _error(f"inputs {sorted(names)}", str(sorted(inputs)), "sampled_softmax=True takes queries alone")
        queries, candidates = inputs[self.query_name], inputs.get(self.candidate_name)
        if queries.dim() != 2 or (candidates is not None and candidates.shape != queries.shape):
            raise ShapeError(
                "queries (batch, dim) and candidates like them",
                " and ".join(str(tuple(value.shape)) for value in inputs.values()),
                "RetrievalScorer",
                "embed one candidate per query, with the same dim",
            )
        return queries, candidates

    def _positive_ids(
        self, ids: Tensor | None, features: Batch | Mapping[str, Tensor] | None, queries: Tensor
    ) -> Tensor:
        if ids is None and features is not None and self.candidate_id in features:
            column = features[self.candidate_id]
            ids = column if isinstance(column, Tensor) else None
        if ids is None:
            raise _error(
                f"candidate_ids, or features with one '{self.candidate_id}' per row",
                "neither",
                "pass them to every step",
            )
        if ids.shape != queries.shape[:1] or ids.dtype != torch.int64:
            raise ShapeError(
                f"int64 candidate_ids of shape ({len(queries)},)",
                f"{ids.dtype} of shape {tuple(ids.shape)}",
                "RetrievalScorer",
            )
        return ids

    def _corrected(self, queries: Tensor, candidates: Tensor, ids: Tensor, negatives: Negatives) -> Tensor:
        if negatives.embeddings is None:
            raise _error(
                "embeddings of the drawn candidates", "none", "pass table=... for the samplers to look them up"
            )
        if negatives.embeddings.shape[1:] != queries.shape[1:]:
            got = f"negatives of dim {negatives.embeddings.shape[1]}"
            raise ShapeError(f"dim {queries.shape[1]}", got, "RetrievalScorer", "use a table of the queries' dim")
        negative_scores = _at_least_float32(queries @ negatives.embeddings.T)
        scores = torch.cat([_positive_scores(queries, candidates), negative_scores], dim=1)
        scores = apply_temperature(scores, self.temperature)
        if not self.log_q or len(negatives.ids) == 0:
            return scores
        if negatives.log_q_of is None:
            raise _error(
                "samplers that know their probabilities", "one without `counts`", "give counts, or log_q=False"
            )
        own, others = (_checked_log_counts(negatives.log_q_of(asked)) for asked in (ids, negatives.ids))
        return scores - torch.cat([own[:, None], others.expand(len(ids), -1)], dim=1)

    def _checked(self, scores: Tensor, ids: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
        valid = negatives.valid.expand_as(scores)
        scores = scores.masked_fill(~valid, self.false_negative_score)
        if not self.downscore_false_negatives:
            return scores, valid
        scores, differs = rescore_false_negatives(scores, ids, negatives.ids, self.false_negative_score)
        return scores, valid & differs


def _positive_scores(queries: Tensor, candidates: Tensor) -> Tensor:
    return _at_least_float32((queries * candidates).sum(dim=1, keepdim=True))


def _all_scores(queries: Tensor, table: CandidateTable | None) -> Tensor:
    assert table is not None
    scores = _at_least_float32(queries @ table(torch.arange(table.num_ids, device=queries.device)).T)
    scores[:, :NUM_SPECIAL_IDS] = -torch.inf
    return scores


def _at_least_float32(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _checked_log_counts(log_counts: Tensor) -> Tensor:
    """Refuse a sampler that gives an id that was drawn, or may be, probability 0."""
    expected = "finite logarithms of expected counts"
    return checked(log_counts, -FINITE, FINITE, expected=expected, where="RetrievalScorer", name="log_q of the sampler")


def _error(expected: str, got: str, fix: str | None = None) -> ConfigError:
    return ConfigError(expected, got, "RetrievalScorer", fix)
