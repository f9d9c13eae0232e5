"""`Recommender`: retrieve, filter, rank; the product that the rest of the library leads to."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.data.checks import require_columns, require_rows
from retrank.data.sources import TableLike, frame
from retrank.features.history import History
from retrank.features.keys import as_keys
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.multitask import MultiTaskRanking
from retrank.models.pairs import PAIR_COLUMNS, Candidates
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.bundle import Bundle, read_bundle, write_bundle
from retrank.recommender.card import Card
from retrank.recommender.filters import allowed_rows
from retrank.recommender.queries import QueryTable
from retrank.recommender.stages import by_popularity, rank, retrieve, serving_index
from retrank.training.model import Model

__all__ = ["Recommender"]

_BLOCK: Final = 32  # queries computed at once, always: one query alone gets the very numbers it gets among others
_STAGES: Final = ("popularity", "retrieval", "ranking")
Keys = Iterable[str | int]


@final
class Recommender:
    """From a query to a list: retrieve candidates, filter them, rank them, keep the best k.

    A query that is not known, and does not bring the features that the model needs, gets the popular candidates. One
    that is not known but brings its features is embedded like any other, and so is a candidate that was never seen in
    training.

    Args:
        retrieval: the model that embeds queries and candidates.
        space: the fitted feature space of both models.
        catalogue: the candidates, one row each: the key column and all feature columns of a candidate.
        history: interactions: the query key and the candidate key; what a query has in it counts as seen.
        ranking: the model that orders what was retrieved; its features are `ranking.features` (names in the space,
            and of `rr.models.PAIR_COLUMNS`). A `MultiTaskRanking` needs a `rr.models.TaskScore` around it. None keeps
            the order of retrieval.
        queries: the feature columns of known queries; taken from `history` by default (the last row of each query).
        num_retrieved: how many candidates are retrieved for ranking.
        index: holds the candidates' embeddings; the exact one by default.
        card: what a reader must know of the recommender.

    Raises:
        ConfigError: `num_retrieved` is below 1, or the ranking model does not say its features or has several scores.
        DataError: a table lacks a column.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
        >>> songs = pl.DataFrame({"song": list("xyz"), "year": [1990, 2000, 2010]})
        >>> names = {"user": rr.features.Categorical(), "song": rr.features.Categorical()}
        >>> space = rr.FeatureSpace(names).fit(plays)
        >>> model = rr.models.MatrixFactorization(
        ...     space.schema["user"], space.schema["song"], dim=4, task=rr.tasks.Retrieval())
        >>> recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
        >>> recommender.recommend({"user": "a"}, k=1)["song"].to_list()
        ['z']
        >>> recommender.recommend({"user": "a"}, k=1, exclude_seen=False, where=pl.col("year") < 1995)["song"].to_list()
        ['x']
    """

    def __init__(
        self,
        retrieval: RetrievalModel,
        *,
        space: FeatureSpace,
        catalogue: TableLike,
        history: TableLike,
        ranking: Model | None = None,
        queries: TableLike | None = None,
        num_retrieved: int = 100,
        index: Index | None = None,
        card: Card | None = None,
    ) -> None:
        if num_retrieved < 1:
            raise ConfigError("num_retrieved >= 1", str(num_retrieved), "Recommender", "retrieve at least one")
        self.retrieval, self.ranking, self.space = retrieval.eval(), ranking, space
        self.num_retrieved, self.card = num_retrieved, card or Card("A recommender")
        self.query, self.candidate = (space.columns([name])[0] for name in (retrieval.query_id, retrieval.candidate_id))
        self._use_candidates(frame(catalogue))
        interactions = frame(history)
        self._use_pairs(interactions)
        self._query_features = self._features_of_queries()
        known = interactions if queries is None else frame(queries)
        self.queries = QueryTable(known, self.query, self._columns_of_queries())
        self.index = self._checked(index) if index is not None else serving_index(retrieval, self.catalogue)
        self._weights = self._weight_versions()

    def recommend(
        self,
        query: Mapping[str, Any],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        where: pl.Expr | None = None,
        allow: Keys | None = None,
        deny: Keys = (),
    ) -> pl.DataFrame:
        """Recommend to one query.

        Args:
            query: its key and, if they are new or have changed, its feature values, by column name.
            k: the length of the list; shorter where fewer candidates are allowed.
            exclude_seen: leave out what the query interacted with.
            where: a condition on the columns of the catalogue; where it is null, the candidate is left out.
            allow: the only candidate keys that may be recommended.
            deny: candidate keys that must not be recommended.

        Returns:
            One row a candidate, best first: `rank` (from 1), the candidate key, `score`, `stage` (which one gave the
            score: "ranking", "retrieval" or "popularity") and the other columns of the catalogue.

        Raises:
            ConfigError: k is below 1.
            DataError: the query lacks its key or has a wrong type, or the condition cannot be applied.
        """
        unknown = [name for name in query if name != self.query and name not in self.queries.columns]
        if unknown:
            raise DataError(
                f"columns of {[self.query, *self.queries.columns]}",
                str(unknown),
                "query",
                "fix the name or leave it out",
            )
        asked = pl.DataFrame({name: [value] for name, value in query.items()})
        lists = self.recommend_many(asked, k, exclude_seen=exclude_seen, where=where, allow=allow, deny=deny)
        details = lists.drop(self.query).join(self.candidates, on=self.candidate, how="left", maintain_order="left")
        return details.select("rank", pl.exclude("rank"))

    def recommend_many(
        self,
        queries: TableLike,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        where: pl.Expr | None = None,
        allow: Keys | None = None,
        deny: Keys = (),
    ) -> pl.DataFrame:
        """Recommend to many queries; each gets, to the last bit, what `recommend` would give it alone.

        Args:
            queries: one row a query: its key and, if they are new or have changed, its feature columns.
            k: the length of a list.
            exclude_seen: leave out what a query interacted with.
            where: a condition on the columns of the catalogue.
            allow: the only candidate keys that may be recommended.
            deny: candidate keys that must not be recommended.

        Returns:
            The query key, the candidate key, `rank`, `score` and `stage`, queries in their order, best first.

        Raises:
            ConfigError: k is below 1.
            DataError: the query key column is missing or of another type, or the condition cannot be applied.
        """
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigError("an integer k >= 1", repr(k), "recommend", "ask for at least one")
        self._refresh_index()
        table, complete = self.queries.complete(frame(queries))
        allowed = allowed_rows(self.catalogue, self.candidates, where=where, allow=allow, deny=deny)
        numbered = table.with_row_index("row number")
        k = min(k, len(self.catalogue))
        personal = (
            self._listed(block, self._personal(block, k, exclude_seen, allowed), k, self._last_stage)
            for block in _blocks(numbered.filter(complete))
        )
        popular = (
            self._listed(block, self._popular(block, k, exclude_seen, allowed), k, "popularity")
            for block in _blocks(numbered.filter(~complete))
        )
        parts = [self._empty(table), *personal, *popular]
        return pl.concat(parts).sort("row number", "rank").drop("row number")

    def add_candidates(self, table: TableLike) -> None:
        """Add candidates that were not there in training; they are scored by their features.

        Args:
            table: one row a candidate, with the columns of the catalogue.

        Raises:
            DataError: a column is missing, or a key is a candidate already.
        """
        new = frame(table, columns=self.candidates.columns)
        if new.schema != self.candidates.schema:
            raise DataError(
                f"columns of types {dict(self.candidates.schema)}", str(dict(new.schema)), "new candidates", "cast them"
            )
        changed = copy.copy(self)  # so that an error leaves the recommender as it was
        changed._use_candidates(pl.concat([self.candidates, new]))
        changed._use_pairs(self._pairs)
        if isinstance(self.index, Exact):
            changed.index = serving_index(self.retrieval, changed.catalogue)
        else:
            added = changed.catalogue.batch[len(self.candidates) :]
            keys = changed.catalogue.keys[len(self.candidates) :]
            changed.index = self.index.with_added(self.retrieval.embed_candidates(added).cpu(), keys)
        self.__dict__.update(changed.__dict__)

    def save(self, directory: str | Path) -> None:
        """Write everything into one directory, whole or not at all.

        Args:
            directory: replaced as a whole if it exists.
        """
        self._refresh_index()
        bundle = Bundle(
            retrieval=self.retrieval,
            ranking=self.ranking,
            space=self.space,
            candidates=self.candidates,
            queries=self.queries.table,
            history=self._pairs,
            index=self.index,
            num_retrieved=self.num_retrieved,
            card=self.card,
        )
        write_bundle(directory, bundle)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a recommender; nothing in the directory is executed.

        Args:
            directory: what `save` wrote.

        Returns:
            A recommender with the same results.

        Raises:
            StorageError: a file is missing, damaged, half written or of another version.
            ConfigError: a model's class is not known here; import the module that defines it first.
        """
        bundle = read_bundle(directory)
        return cls(
            bundle.retrieval,
            space=bundle.space,
            catalogue=bundle.candidates,
            history=bundle.history,
            ranking=bundle.ranking,
            queries=bundle.queries,
            num_retrieved=bundle.num_retrieved,
            index=bundle.index,
            card=bundle.card,
        )

    def without_ranking(self) -> "Recommender":
        """Return a recommender that keeps the order of retrieval; nothing is computed again."""
        other = copy.copy(self)
        other.ranking = None
        return other

    def with_card(self, card: Card) -> "Recommender":
        """Return the same recommender with another card.

        Args:
            card: what a reader must know.

        Returns:
            A recommender that shares everything else.
        """
        other = copy.copy(self)
        other.card = card
        return other

    @property
    def seen(self) -> pl.DataFrame:
        """The distinct pairs of query and candidate key that count as seen."""
        return self._pairs

    def __repr__(self) -> str:
        stages = type(self.retrieval).__name__ + ("" if self.ranking is None else f" -> {type(self.ranking).__name__}")
        return f"Recommender({stages}, {len(self.catalogue):,} candidates, {len(self.queries.table):,} queries)"

    def _use_candidates(self, table: pl.DataFrame) -> None:
        taken = {"rank", "score", "stage"} & set(table.columns)
        if taken:
            raise DataError(
                "other column names", str(sorted(taken)), "catalogue", "rename them: a list has columns of that name"
            )
        require_columns(table, [self.candidate], "catalogue")
        require_rows(table, "catalogue")
        self.candidates = table.with_columns(as_keys(table[self.candidate], None, "error"))
        self.catalogue = self.space.catalogue(self.candidates, key=self.retrieval.candidate_id)
        both = [name for name in self.retrieval.query_features if name in self.catalogue.batch]
        if both:
            raise ConfigError(
                "features of the query that the catalogue does not have",
                str(both),
                "catalogue",
                "drop these columns from it, or give the feature another name, with column=",
            )

    def _use_pairs(self, interactions: pl.DataFrame) -> None:
        require_columns(interactions, [self.query, self.candidate], "history")
        keys = [as_keys(interactions[name], None, "error") for name in (self.query, self.candidate)]
        self._pairs = pl.DataFrame(keys).unique(maintain_order=True)
        self.history = History(self._pairs, self.catalogue, query=self.query, candidate=self.candidate)
        self._counts = self.history.counts

    def _checked(self, index: Index) -> Index:
        keys = np.asarray(index.keys)
        if index.num_candidates != len(self.catalogue) or not np.array_equal(keys, self.catalogue.keys):
            raise ConfigError(
                f"an index of the {len(self.catalogue)} candidates, in their order",
                f"{index.num_candidates} others",
                "index",
                "build it with retrieval.build_index(space.catalogue(...))",
            )
        return index

    def _weight_versions(self) -> tuple[int, ...]:
        return tuple(parameter._version for parameter in self.retrieval.parameters())

    def _refresh_index(self) -> None:
        """Embed the candidates anew if the retrieval model was trained on since."""
        if self._weights == self._weight_versions():
            return
        if not isinstance(self.index, Exact):
            raise ConfigError(
                "an index of the model as it is", "one from before it was trained on", "Recommender", "build both anew"
            )
        self.index, self._weights = serving_index(self.retrieval, self.catalogue), self._weight_versions()

    def _columns_of_queries(self) -> dict[str, bool]:
        """Return the columns that queries need, and whether each may be null."""
        columns = dict.fromkeys(self.space.columns(self._query_features), True)
        for name, kind in self.space.features.items():
            column = kind.column or name
            if column in columns:
                columns[column] = columns[column] and kind.accepts_nulls
        return columns

    @property
    def _last_stage(self) -> str:
        return "retrieval" if self.ranking is None else "ranking"

    def _features_of_queries(self) -> list[str]:
        names = list(self.retrieval.query_features)
        if isinstance(self.ranking, MultiTaskRanking):
            raise ConfigError(
                "a ranking model with one score a pair",
                f"one with the tasks {list(self.ranking.task_names)}",
                "ranking of Recommender",
                f"say what orders: rr.models.TaskScore(model, {self.ranking.task_names[0]!r}), or weights of several",
            )
        if self.ranking is not None:
            features = getattr(self.ranking, "features", None)
            if features is None:
                raise ConfigError(
                    "the names of the model's features",
                    "no attribute 'features'",
                    type(self.ranking).__name__,
                    "set self.features to the columns that its forward() reads",
                )
            own = {*PAIR_COLUMNS, *self.catalogue.batch.names}
            names += [name for name in features if name not in own]
        return list(dict.fromkeys(names))

    def _personal(self, block: pl.DataFrame, k: int, exclude_seen: bool, allowed: Tensor | None) -> Candidates:
        filled = pl.concat([block, block[:1].select(pl.all().repeat_by(_BLOCK - len(block)).explode())])
        batch = self.space.transform(filled, features=self._query_features)
        seen = self._seen(filled, exclude_seen)
        depth = k if self.ranking is None else min(max(k, self.num_retrieved), len(self.catalogue))
        lists = retrieve(self.retrieval, self.index, batch, depth, exclude=seen, allow=allowed)
        if self.ranking is not None:
            lists = rank(self.ranking, batch, self.catalogue.batch, lists)
        return Candidates(lists.scores[: len(block)], lists.rows[: len(block)])

    def _popular(self, block: pl.DataFrame, k: int, exclude_seen: bool, allowed: Tensor | None) -> Candidates:
        return by_popularity(self._counts, k, exclude=self._seen(block, exclude_seen), allow=allowed)

    def _seen(self, block: pl.DataFrame, exclude_seen: bool) -> Jagged:
        return self.history[block[self.query]] if exclude_seen else Jagged.empty(len(block))

    def _listed(self, block: pl.DataFrame, lists: Candidates, k: int, stage: str) -> pl.DataFrame:
        scores, rows = lists.scores[:, :k], lists.rows[:, :k]
        place = torch.nonzero(rows >= 0)
        taken = block.select("row number", self.query)[place[:, 0].numpy()]
        there = rows >= 0
        return taken.with_columns(
            self.candidates[self.candidate].gather(rows[there].numpy()),
            pl.Series("rank", place[:, 1].numpy() + 1, dtype=pl.Int64),
            pl.Series("score", scores[there].numpy(), dtype=pl.Float32),
            pl.lit(stage).alias("stage"),
        )

    def _empty(self, table: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame(
            schema={
                "row number": pl.get_index_type(),
                self.query: table[self.query].dtype,
                self.candidate: self.candidates[self.candidate].dtype,
                "rank": pl.Int64,
                "score": pl.Float32,
                "stage": pl.String,
            }
        )


def _blocks(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    return (table[start : start + _BLOCK] for start in range(0, len(table), _BLOCK))
