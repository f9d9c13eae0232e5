"""The frame of every baseline: fit a matrix, score all candidates of a query, list the best."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, Self

import polars as pl
import torch
from torch import Tensor

from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.lists import best_by_score, most_popular
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, NotFittedError
from retrank.core.jagged import Jagged
from retrank.core.working import Working
from retrank.data.checks import require_columns
from retrank.data.sources import TableLike, frame, like

__all__ = ["Baseline"]

_BLOCK: Final = 16_384  # queries looked up at once
_SCORES: Final = 2**22  # held at once


class Baseline(Configurable, ABC):
    """A recommender without features or gradients, learned from interactions alone.

    Candidates with equal scores, and all candidates of a query without history, come in order of popularity.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": ["a", "a", "b"], "song": ["x", "y", "y"]})
        >>> popular = rr.baselines.Popularity().fit(plays)
        >>> popular.recommend_many(pl.DataFrame({"user": ["b", "new"]}), k=1)["song"].to_list()
        ['x', 'y']
    """

    decay: float = 0.0
    """How fast the older part of a history loses weight; 0 weighs all equally."""
    _matrix: InteractionMatrix | None = None
    _query: str | None = None
    _candidates: pl.Series | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called."""
        return self._candidates is not None

    @property
    def query(self) -> str:
        """The column of query keys."""
        self._require_fitted()
        assert self._query is not None
        return self._query

    @property
    def candidates(self) -> pl.Series:
        """`(candidates,)` the keys, the most popular first; the name is that of their column."""
        self._require_fitted()
        assert self._candidates is not None
        return self._candidates

    def fit(
        self,
        interactions: TableLike,
        *,
        query: str | None = None,
        candidate: str | None = None,
        time: str | None = None,
        progress: bool = True,
    ) -> Self:
        """Learn from interactions.

        Args:
            interactions: one row per interaction; repeats count once.
            query: the column of query keys; the first by default.
            candidate: the column of candidate keys; the second by default.
            time: the column of times; needed with a decay.
            progress: whether to show progress on a terminal.

        Returns:
            This baseline, fitted.

        Raises:
            ConfigError: a decay without a time column.
            DataError: a column is missing or holds nulls, or there are no rows.
        """
        if self.decay > 0 and time is None:
            raise ConfigError("time=, for a decay", "none", type(self).__name__, "name the column of times")
        matrix = InteractionMatrix.build(interactions, query, candidate, time)
        with Working(f"fitting {type(self).__name__}", len(matrix.candidates), enabled=progress) as work:
            self._learn(matrix, work)
        self._matrix, self._query, self._candidates = matrix, matrix.query, matrix.candidates
        return self

    def recommend_many(self, queries: TableLike, k: int = 10, *, exclude_seen: bool = True) -> pl.DataFrame:
        """Recommend to many queries.

        Args:
            queries: one row per query, with the query key column.
            k: the length of a list; shorter where fewer candidates are left.
            exclude_seen: leave out what the query interacted with.

        Returns:
            The query key, the candidate key, `rank` (from 1) and `score`, best first within a query; of pandas if
            `queries` is.

        Raises:
            NotFittedError: `fit` was not called.
            ConfigError: k is below 1.
            DataError: the query key column is missing.
        """
        self._require_fitted()
        if self._matrix is None:
            fix = "ask the Recommender that it serves in, or fit it"
            raise NotFittedError("a baseline with its interactions", "one without", type(self).__name__, fix)
        if k < 1:
            raise ConfigError("k >= 1", str(k), type(self).__name__)
        matrix, table = self._matrix, frame(queries)
        require_columns(table, [matrix.query], "queries")
        keys = table[matrix.query]
        rows, k = matrix.rows(keys), min(k, len(matrix.candidates))
        scores, columns = torch.empty(len(rows), k), torch.empty(len(rows), k, dtype=torch.int64)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores[block], columns[block] = self._lists(matrix, rows[block], k, exclude_seen)
        there = columns >= 0
        place = torch.nonzero(there)
        lists = pl.DataFrame(
            {
                matrix.query: keys.gather(place[:, 0].numpy()),
                matrix.candidate: matrix.candidates.gather(columns[there].numpy()),
                "rank": place[:, 1].numpy() + 1,
                "score": scores[there].numpy(),
            }
        )
        return like(queries, lists)

    def _lists(self, matrix: InteractionMatrix, rows: Tensor, k: int, exclude_seen: bool) -> tuple[Tensor, Tensor]:
        histories = matrix.histories(rows, self.decay)
        exclude = histories if exclude_seen else Jagged.empty(len(rows))
        scores, columns = most_popular(matrix.counts, exclude, k)
        for some in torch.split(histories.lengths().nonzero()[:, 0], max(1, _SCORES // len(matrix.candidates))):
            made = self.score(histories.take(some))
            if made is None:
                break
            scores[some], columns[some] = best_by_score(made, exclude.take(some), k)
        return scores, columns

    @abstractmethod
    def _learn(self, matrix: InteractionMatrix, work: Working) -> None:
        """Learn whatever `score` needs, and advance by each candidate that is done."""

    @abstractmethod
    def score(self, histories: Jagged) -> Tensor | None:
        """Score all candidates.

        Args:
            histories: for each query the places in `candidates` of what it has, ascending, with float32 weights.

        Returns:
            `(queries, candidates)` float32, that of a query the same whatever other queries there are; None to go by
            popularity.
        """

    @abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """Return what `score` needs, by name; nobody may change it.

        Raises:
            NotFittedError: `fit` was not called.
        """

    def with_learned(self, query: str, candidates: pl.Series, learned: Mapping[str, Tensor]) -> Self:
        """Return a baseline of the same settings that was fitted elsewhere, without the interactions.

        It can `score`; its `recommend_many` needs `fit`.

        Args:
            query: what `query` was there.
            candidates: what `candidates` was.
            learned: what `learned()` returned.

        Returns:
            A fitted baseline.

        Raises:
            DataError: tensors that do not fit the candidates.
        """
        other = copy.copy(self)
        other._matrix, other._query, other._candidates = None, query, candidates
        other._restore(learned)
        return other

    @abstractmethod
    def _restore(self, learned: Mapping[str, Tensor]) -> None:
        """Take over what `learned()` returned, if it fits `candidates`."""

    def _require_fitted(self) -> None:
        if self._candidates is None:
            raise NotFittedError("a fitted baseline", "no interactions yet", type(self).__name__, "call fit() first")
