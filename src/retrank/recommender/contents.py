"""`Contents`: what a recommender consists of, to be read."""

from abc import ABC, abstractmethod

import polars as pl

from retrank.baselines.baseline import Baseline
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.baseline_parts import AnyParts, models_of
from retrank.recommender.card import Card
from retrank.recommender.history_queries import HistoryQueries
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.request import Key
from retrank.training.model import Model

__all__ = ["Contents"]


class Contents(ABC):
    """The models, candidates and events of a recommender, which nobody can change through it."""

    @abstractmethod
    def _contents(self) -> AnyParts:
        """Return what is looked into."""

    @property
    def retrieval(self) -> RetrievalModel:
        """The private copy of the model that embeds queries and candidates; refused where a `baseline` serves."""
        return models_of(self._contents(), "retrieval").retrieval.model

    @property
    def baseline(self) -> Baseline | None:
        """The private copy of the baseline that serves in place of a model, without its interactions, or None."""
        return self._contents().baseline

    @property
    def ranking(self) -> Model | None:
        """The private copy of the model that orders what was retrieved, or None."""
        ranking = self._contents().ranking
        return None if ranking is None else ranking.model

    @property
    def space(self) -> FeatureSpace:
        """The frozen feature space; a baseline has none, and refuses."""
        return models_of(self._contents(), "space").space

    @property
    def catalogue(self) -> Catalogue:
        """The candidates' keys and features."""
        return self._contents().candidates.catalogue

    @property
    def candidates(self) -> pl.DataFrame:
        """The candidates' columns, in the order of the catalogue."""
        return self._contents().candidates.table

    @property
    def unavailable(self) -> pl.Series:
        """The keys of candidates that no list has, in their order; see `Recommender.with_unavailable`."""
        return self._contents().candidates.unavailable

    def is_available(self, key: Key) -> bool:
        """Tell whether a key is that of a candidate that lists may have.

        Raises:
            DataError: a key of another type.
        """
        return self._contents().candidates.is_available(key)

    @property
    def index(self) -> Index:
        """Where the candidates' embeddings are searched; a baseline has none, and refuses."""
        return models_of(self._contents(), "index").index

    @property
    def history(self) -> History:
        """Past events."""
        return self._contents().history

    @property
    def queries(self) -> QueryFeatures | HistoryQueries:
        """The features of known queries (a baseline reads none); `queries.table` has the columns as they stand now."""
        return self._contents().queries

    @property
    def query(self) -> str:
        """The column of query keys."""
        return self._contents().queries.query

    @property
    def candidate(self) -> str:
        """The column of candidate keys."""
        return self._contents().candidates.column

    @property
    def num_retrieved(self) -> int:
        """How many candidates are retrieved for ranking; a baseline has no ranking, and refuses."""
        return models_of(self._contents(), "num_retrieved").num_retrieved

    @property
    def card(self) -> Card:
        """What a reader must know."""
        return self._contents().card

    @property
    def seen(self) -> pl.DataFrame:
        """The distinct pairs of query and candidate key that count as seen."""
        return self._contents().history.events.distinct_pairs()
