"""`Reranker`: the order of retrieval, corrected by a model of pairs."""

from collections.abc import Sequence
from itertools import groupby
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.layers.co_occurrence import CoOccurrence
from retrank.layers.cross import Cross
from retrank.layers.mlp import MLP
from retrank.losses.softmax import softmax_cross_entropy
from retrank.models.number_columns import number_columns
from retrank.models.pairs import LIST, PAIR_COLUMNS, RETRIEVAL_RANK, RETRIEVAL_SCORE, Candidates, pair_batch
from retrank.ops.concatenate_lookups import concatenate_lookups
from retrank.training.model import Model

__all__ = ["POSITIVE", "ROWS", "Reranker"]

ROWS = "candidates"
"""The column of training lists with the catalogue rows that were retrieved, `(lists, k)`."""
POSITIVE = "positive"
"""The column of training lists with the place of the positive, `(lists,)`."""


@final
class Reranker(Configurable, Model):
    """Scores the candidates of a list by their retrieval score plus a learned correction.

    The correction starts at zero, so that training begins with the order of retrieval. It sees the features of the
    query and the candidate, the retrieval score and its rank, and how often the candidate occurred together with the
    query's recent ones. What varies within a list is standardized within it, so that a retrieval model may be refitted
    without refitting the ranking. Trained by a softmax over each list.

    Args:
        space: the fitted feature space.
        features: names of query and candidate features: ids and lists of ids are embedded, numbers taken as they are.
        candidate_id: the feature that identifies candidates.
        catalogue: all candidates; needed for training.
        recent: the list feature with the query's recent candidates, in the vocabulary of `candidate_id`; None for none.
        layers: width of each hidden layer of the correction.
        dim: length of the vector of every id feature.
        dropout: share of the hidden values set to zero in training.
        windows: over how many of the recent candidates co-occurrence is averaged.

    Raises:
        ConfigError: a feature that the space does not have, or another vocabulary for `recent`.

    Example:
        >>> import polars as pl, torch, retrank as rr
        >>> songs = pl.DataFrame({"song": ["x", "y", "z"], "genre": ["a", "b", "a"]})
        >>> space = rr.FeatureSpace({"song": rr.features.Categorical(), "genre": rr.features.Categorical()}).fit(songs)
        >>> model = rr.models.Reranker(space, ["genre"], candidate_id="song")
        >>> pairs = space.transform(songs).merge({
        ...     "retrieval_score": torch.tensor([3.0, 2.0, 1.0]), "retrieval_rank": torch.arange(3),
        ...     "list": torch.tensor([0, 0, 0])})
        >>> model(pairs).argsort(descending=True).tolist()
        [0, 1, 2]

    Source: ours; the softmax over lists is ListNet's (Cao et al., ICML 2007) with one positive, the interaction DCN's.
    """

    def __init__(
        self,
        space: FeatureSpace,
        features: Sequence[str],
        *,
        candidate_id: str,
        catalogue: Catalogue | None = None,
        recent: str | None = None,
        layers: Sequence[int] = (64,),
        dim: int = 8,
        dropout: float = 0.1,
        windows: Sequence[int] = (1, 5, 20, 50),
    ) -> None:
        super().__init__()
        schema = space.schema
        inputs = [*features, candidate_id, *([] if recent is None else [recent])]
        reserved = {*PAIR_COLUMNS, ROWS, POSITIVE} & set(schema)
        if reserved:
            raise ConfigError(
                "features of other names", str(sorted(reserved)), "space of Reranker", "rename them, with column="
            )
        unknown = [name for name in inputs if name not in schema]
        if unknown:
            raise ConfigError(f"some of {list(schema)}", str(unknown), "features of Reranker")
        if recent is not None and schema[recent].num_ids != schema[candidate_id].num_ids:
            raise ConfigError(
                f"the vocabulary of '{candidate_id}'",
                f"{schema[recent].num_ids} ids",
                f"recent='{recent}' of Reranker",
                f"make it with rr.features.Recent('{candidate_id}')",
            )
        self.candidate_id, self.recent, self.catalogue = candidate_id, recent, catalogue
        ids = [name for name in features if schema[name].kind == "ids"]
        self.numbers = tuple(name for name in features if schema[name].kind == "number")
        self.embeddings = EmbeddingCollection({name: EmbeddingTable(schema[name], dim) for name in ids})
        self.co_occurrence = None if recent is None else CoOccurrence(schema[candidate_id].num_ids or 0, windows)
        width = len(ids) * dim + sum(schema[name].width for name in self.numbers) + 2
        width += 0 if self.co_occurrence is None else len(windows)
        self.cross = Cross(width)
        self.correction = MLP(width, [*layers, 1], dropout=dropout)
        self.retrieval_weight = nn.Parameter(torch.ones(()))
        with torch.no_grad():
            list(self.correction.parameters())[-2].zero_()
        together = [] if recent is None else [candidate_id, recent]
        self.features = tuple(dict.fromkeys([*features, *together, *PAIR_COLUMNS]))
        """The columns that `forward` reads."""

    @property
    def query_features(self) -> list[str]:
        """Names of the features that are not the candidate's and so the query's; needs the catalogue.

        Raises:
            ConfigError: the model has no catalogue.
        """
        own = {*PAIR_COLUMNS, *self._candidates().names}
        return [name for name in self.features if name not in own]

    def forward(self, batch: Batch) -> Tensor:
        """Score pairs.

        Args:
            batch: what `pair_batch` makes: the features, `retrieval_score`, `retrieval_rank` and `list`.

        Returns:
            `(pairs,)` scores, bigger is better; comparable within a list.
        """
        together = None
        if self.co_occurrence is not None and self.recent is not None:
            together = self.co_occurrence(batch[self.recent], batch[self.candidate_id])
        features = [*number_columns(batch, self.numbers), self.embeddings.concatenate(batch)]
        return self.corrected(batch[RETRIEVAL_SCORE], batch[RETRIEVAL_RANK], batch[LIST], together, features)

    def corrected(
        self, scores: Tensor, ranks: Tensor, lists: Tensor, together: Tensor | None, features: Sequence[Tensor]
    ) -> Tensor:
        """Correct the scores of pairs whose features are vectors already.

        Args:
            scores: `(pairs,)`, of retrieval.
            ranks: `(pairs,)`, of retrieval, from 0.
            lists: `(pairs,)` int64 list of each pair.
            together: `(pairs, windows)` co-occurrence with the recent candidates, or None for a model without.
            features: `(pairs, width)` each, numbers in order and then vectors of ids in order.

        Returns:
            `(pairs,)` scores.
        """
        varying = scores[:, None] if together is None else torch.cat([scores[:, None], together], dim=1)
        within_list = standardized(varying, lists)
        retrieval, others = within_list[:, :1], within_list[:, 1:]
        place = ranks.float().log1p()[:, None] / 3  # about 1.5 for place 100
        inputs = torch.cat([retrieval, place, others, *features], dim=1)
        correction: Tensor = self.correction(self.cross(inputs))
        return self.retrieval_weight * retrieval[:, 0] + correction[:, 0]

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:  # noqa: ARG002 (the same for both)
        """Compare the scores of each list with its positive.

        Args:
            batch: one row per list: query features, `candidates` `(lists, k)`, `retrieval_score` `(lists, k)` and
                `positive` `(lists,)`, as `rr.recommender.mine_lists` makes them.
            training: whether this loss will update the weights.

        Returns:
            Scalar: the mean cross-entropy of a softmax over each list.

        Raises:
            ConfigError: the model has no catalogue.
        """
        names = [name for name in batch.names if name not in (ROWS, RETRIEVAL_SCORE, POSITIVE)]
        lists = Candidates(batch[RETRIEVAL_SCORE], batch[ROWS])
        pairs = pair_batch(batch, self._candidates().to(batch.device), lists, query_features=names)
        return softmax_cross_entropy(self(pairs).view_as(lists.scores), batch[POSITIVE])

    def list_scorer(self, catalogue: Batch) -> "RerankedLists":
        """Prepare to score whole lists of candidates: what the model needs of a candidate is looked up once.

        Args:
            catalogue: transformed candidate features, one row per candidate.

        Returns:
            Gives the scores of `forward` for lists, to the bit, on the CPU and with the kernels. The model must not
            change.
        """
        return RerankedLists(self, catalogue)

    def _candidates(self) -> Batch:
        if self.catalogue is None:
            raise ConfigError("a catalogue, for training", "none", "Reranker", "pass catalogue=")
        return self.catalogue.batch


def standardized(values: Tensor, lists: Tensor) -> Tensor:
    """Shift and scale numbers to mean 0 and variance 1 within each list.

    Args:
        values: `(pairs, width)`.
        lists: `(pairs,)` int64 number of each pair's list.

    Returns:
        `(pairs, width)`; 0 where a list does not vary.

    Example:
        >>> import torch, retrank as rr
        >>> standardized = rr.models.reranker.standardized
        >>> standardized(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1])).tolist()
        [[-1.0], [1.0], [0.0]]
    """
    num_lists = len(lists) + 1  # an upper bound, which needs no synchronization with the device
    sums = values.new_zeros(num_lists, values.shape[1])
    counts = sums.index_add(0, lists, torch.ones_like(values)).clamp(min=1)
    centred = values - (sums.index_add(0, lists, values) / counts)[lists]
    variance = sums.index_add(0, lists, centred.square()) / counts
    return centred * (variance + 1e-12).rsqrt()[lists]


@final
class RerankedLists:
    """Scores lists of candidates by a `Reranker`; see `Reranker.list_scorer`.

    Args:
        model: in evaluation mode.
        catalogue: transformed candidate features, one row per candidate.
    """

    def __init__(self, model: Reranker, catalogue: Batch) -> None:
        self._model = model
        # Neighboring features of one side are one piece; all together are in the order that `forward` has them in.
        names = [*model.numbers, *model.embeddings.dims]
        self._pieces = [(is_own, tuple(group)) for is_own, group in groupby(names, lambda name: name in catalogue)]
        with torch.inference_mode():
            self._own = [self._vectors(catalogue, piece) if is_own else None for is_own, piece in self._pieces]
            self._ids = None if model.recent is None else catalogue[model.candidate_id]

    def __call__(self, queries: Batch, lists: Candidates) -> Tensor:
        """Score lists.

        Args:
            queries: transformed query features, one row per query.
            lists: `(queries, k)`; a missing place has row -1.

        Returns:
            `(queries, k)` scores; those of missing places mean nothing.
        """
        num_queries, k = lists.rows.shape
        model, missing = self._model, lists.rows.reshape(-1) < 0
        rows, owners = lists.rows.reshape(-1).clamp(min=0), torch.arange(num_queries).repeat_interleave(k)
        together = None
        if model.co_occurrence is not None and model.recent is not None and self._ids is not None:
            together = model.co_occurrence(queries[model.recent], self._ids[rows], owners)
        features = [
            own[rows] if own is not None else self._vectors(queries, piece)[owners]
            for own, (_, piece) in zip(self._own, self._pieces, strict=True)
        ]
        scores = lists.scores.reshape(-1).masked_fill(missing, 0.0)
        ranks = torch.arange(k).repeat(num_queries)
        found = model.corrected(scores, ranks, owners.masked_fill(missing, num_queries), together, features)
        return found.view(num_queries, k)

    def _vectors(self, batch: Batch, names: Sequence[str]) -> Tensor:
        numbers = number_columns(batch, [name for name in names if name in self._model.numbers])
        lookups = [
            self._model.embeddings[name].lookup(batch[name]) for name in names if name not in self._model.numbers
        ]
        return concatenate_lookups([*numbers, *lookups])
