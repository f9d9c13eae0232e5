"""`Reranker`: the order of retrieval, corrected by a model of pairs."""

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.catalogue import Catalogue
from retrank.features.seen import Seen
from retrank.features.space import FeatureSpace
from retrank.layers.co_occurrence import CoOccurrence
from retrank.layers.cross import Cross
from retrank.layers.mlp import MLP
from retrank.losses.softmax import softmax_cross_entropy
from retrank.models.number_columns import number_columns, require_known
from retrank.models.pairs import (
    IS_STANDARD,
    LIST,
    PAIR_COLUMNS,
    RETRIEVAL_RANK,
    RETRIEVAL_SCORE,
    Candidates,
    pair_batch,
)
from retrank.models.reranked_lists import Correction, RerankedLists, Together
from retrank.training.model import Model

__all__ = ["POSITIVE", "ROWS", "Reranker"]

ROWS = "candidates"
"""The column of training lists with the catalogue rows that were retrieved, `(lists, k)`."""
POSITIVE = "positive"
"""The column of training lists with the place of the positive, `(lists,)`."""
_WINDOWS: Final = (1, 5, 20, 50)
_ALL: Final = 2**31 - 1  # no list is longer


@final
class Reranker(Configurable, Model):
    """Scores the candidates of a list by their retrieval score plus a learned correction.

    The correction starts at zero, so that training begins with the order of retrieval. It sees the features of the
    query and the candidate, the retrieval score and its rank, and how often the candidate occurred together with the
    query's recent ones. What varies within a list is standardized by what is usual in the query's standard list: so a
    retrieval model may be refitted without refitting the ranking, and a score depends on its query and its candidate
    alone. Trained by a softmax over each list.

    Args:
        space: the fitted feature space.
        features: names of query and candidate features: ids and lists of ids are embedded, numbers taken as they are.
        candidate_id: the feature that identifies candidates.
        catalogue: all candidates; needed for training.
        recent: the `Recent` or `Seen` feature with what the query did, in the vocabulary of `candidate_id`; None for
            none.
        layers: width of each hidden layer of the correction.
        dim: length of the vector of every id feature.
        dropout: share of the hidden values set to zero in training.
        windows: over how many of the recent candidates co-occurrence is averaged; by default the last 1, 5, 20 and 50,
            or all where `recent` is a `Seen` feature, which has no order.
        num_neighbors: how many co-occurrences to keep of a candidate on average; see `rr.layers.CoOccurrence`.

    Raises:
        ConfigError: a feature that the space does not have, or another vocabulary for `recent`.

    Example:
        >>> import polars as pl, torch, retrank as rr
        >>> songs = pl.DataFrame({"song": ["x", "y", "z"], "genre": ["a", "b", "a"]})
        >>> space = rr.FeatureSpace({"song": rr.features.Categorical(), "genre": rr.features.Categorical()}).fit(songs)
        >>> model = rr.models.Reranker(space, ["genre"], candidate_id="song")
        >>> pairs = space.transform(songs).merge({
        ...     "retrieval_score": torch.tensor([3.0, 2.0, 1.0]), "retrieval_rank": torch.arange(3),
        ...     "list": torch.tensor([0, 0, 0]), "is_standard": torch.tensor([True, True, True])})
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
        windows: Sequence[int] | None = None,
        num_neighbors: int = 128,
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
        require_known([schema[name] for name in features], "features of Reranker")
        self.numbers = tuple(name for name in features if schema[name].kind == "number")
        self.embeddings = EmbeddingCollection({name: EmbeddingTable(schema[name], dim) for name in ids})
        num_ids = schema[candidate_id].num_ids or 0
        if windows is None:
            is_ordered = recent is None or not isinstance(space.features[recent], Seen)
            windows = _WINDOWS if is_ordered else (_ALL,)
        self.co_occurrence = None if recent is None else CoOccurrence(num_ids, windows, num_neighbors=num_neighbors)
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

    def grow(self, space: FeatureSpace, catalogue: Catalogue | None = None) -> None:
        """Make room for new keys; new candidates have no co-occurrences yet. See `Model.grow`."""
        super().grow(space, catalogue)
        if self.co_occurrence is not None:
            self.co_occurrence.grow(space.schema[self.candidate_id].num_ids or 0)
        if catalogue is not None:
            self.catalogue = catalogue
            self.record_shared(catalogue=catalogue)

    def forward(self, batch: Batch) -> Tensor:
        """Score pairs.

        Args:
            batch: what `pair_batch` makes: the features and `PAIR_COLUMNS`.

        Returns:
            `(pairs,)` scores, bigger is better; comparable between the candidates of one query.
        """
        together = None
        if self.co_occurrence is not None and self.recent is not None:
            together = self.co_occurrence(batch[self.recent], batch[self.candidate_id])
        features = [*number_columns(batch, self.numbers), self.embeddings.concatenate(batch)]
        correction = Correction(self.cross, self.correction, self.retrieval_weight)
        retrieved = (batch[RETRIEVAL_SCORE], batch[RETRIEVAL_RANK], batch[LIST], batch[IS_STANDARD])
        return correction(*retrieved, together, features)

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

    def list_scorer(self, catalogue: Batch) -> RerankedLists:
        """Prepare to score whole lists of candidates: what the model needs of a candidate is looked up once.

        Args:
            catalogue: transformed candidate features, one row per candidate.

        Returns:
            Gives the scores of `forward` for lists, to the bit, on the CPU and with the kernels. The model must not
            change.
        """
        correction = Correction(self.cross.prepared(), self.correction.prepared(), self.retrieval_weight)
        together = None
        if self.co_occurrence is not None and self.recent is not None:
            together = Together(self.co_occurrence.prepared(), self.recent, catalogue[self.candidate_id])
        return RerankedLists(catalogue, self.numbers, self.embeddings, together, correction)

    def _candidates(self) -> Batch:
        if self.catalogue is None:
            raise ConfigError("a catalogue, for training", "none", "Reranker", "pass catalogue=")
        return self.catalogue.batch
