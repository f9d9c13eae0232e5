"""`Recommender`: retrieve, filter, rank; the product that the rest of the library leads to."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import polars as pl

from retrank.baselines.baseline import Baseline
from retrank.core.errors import ConfigError, RetrankError
from retrank.data.sources import TableLike
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.answered_requests import answer_requests
from retrank.recommender.answers import similar_candidates
from retrank.recommender.asking import named
from retrank.recommender.assembling import assemble
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.bundle import write_bundle
from retrank.recommender.card import Card
from retrank.recommender.changes import Changes
from retrank.recommender.explaining import explain
from retrank.recommender.explanation import Explanation
from retrank.recommender.lists import list_with_details
from retrank.recommender.loading import load_parts
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Key, Request
from retrank.recommender.request_groups import answer_group, look_up
from retrank.recommender.requests import ManyQueries, answer_many
from retrank.recommender.rerank import Rerank
from retrank.training.model import Model

__all__ = ["Recommender"]


@final
class Recommender(Changes):
    """From a query to a list: retrieve candidates, filter them, rank them, keep the best k.

    A value: it owns private copies of the models in evaluation mode and a frozen feature space, so that threads need no
    lock, and nothing done afterwards to what it was built from can reach it. What begins with `with` or `without`, such
    as `with_candidates` and `with_events`, returns another recommender that shares what is the same.

    A query gets the popular candidates where retrieval would read nothing of it but blanks and unknown keys, or it
    lacks a feature that the models need: one that is new and brings nothing, or one with an empty history and no other
    features. A new one that brings its features is embedded like any other, and so is a candidate that was never seen
    in training.

    A fitted baseline, such as `rr.baselines.EASE`, takes the place of the retrieval model, beside nothing but
    `catalogue`, `history` and `time`. It scores by what a query has now, and candidates that it was not fitted on 0.

    Args:
        retrieval: the model that embeds queries and candidates, or a fitted baseline.
        space: the fitted feature space of both models.
        catalogue: the candidates, one row each: the key column and all feature columns of a candidate.
        history: past events, one row each: the query key, the candidate key, and if there are times, the time. What a
            query has in it counts as seen; a `Recent` feature of the candidates is read from it at the moment of
            asking, in the order of time.
        ranking: the model that orders what was retrieved; its features are `ranking.features` (names in the space, and
            of `rr.models.PAIR_COLUMNS`). A `MultiTaskRanking` needs a `rr.models.TaskScore`. None keeps the order.
        queries: the feature columns of known queries, the last row of each counts; taken from `history` by default.
        time: the column of `history` with the times; by default the only date or datetime column, or a number column
            named `time` or `timestamp`.
        num_retrieved: how many candidates are retrieved for ranking, and say what is usual for a query; k may be above.
        index: holds the candidates' embeddings. By default it is exact, or from 200,000 candidates on, with the extra
            `ann`, one that finds at least 98% of the best; the card then says in `facts["index"]` what was measured.
        card: what a reader must know of the recommender.
        progress: whether to show on a terminal what takes longer than a second.

    Raises:
        ConfigError: `num_retrieved` is below 1, the ranking model does not say its features or has several scores, a
            feature needs times that are not there, a model is smaller than the feature space, or a baseline is given
            what it does not read.
        NotFittedError: a baseline that was not fitted.
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
        >>> requests = [rr.recommender.Request({"user": "a"}), rr.recommender.Request({"user": "b"}, deny=["y"])]
        >>> recommender.recommend_many(requests).select("user", "song").rows()
        [('a', 'z')]
    """

    def __init__(
        self,
        retrieval: RetrievalModel | Baseline,
        *,
        space: FeatureSpace | None = None,
        catalogue: TableLike,
        history: TableLike,
        ranking: Model | None = None,
        queries: TableLike | None = None,
        time: str | None = None,
        num_retrieved: int = 100,
        index: Index | None = None,
        card: Card | None = None,
        progress: bool = True,
    ) -> None:
        self._parts = assemble(
            retrieval, space=space, catalogue=catalogue, history=history, ranking=ranking, queries=queries, time=time,
            num_retrieved=num_retrieved, index=index, card=card, progress=progress,
        )  # fmt: skip

    @classmethod
    def _of(cls, parts: AnyParts) -> Self:
        recommender = cls.__new__(cls)
        recommender._parts = parts
        return recommender

    def recommend(
        self,
        query: Mapping[str, Any] | Key,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        where: pl.Expr | str | None = None,
        allow: Iterable[Key] | None = None,
        deny: Iterable[Key] = (),
        history: Iterable[Key] | None = None,
        rerank: Rerank | None = None,
    ) -> pl.DataFrame:
        """Recommend to one query.

        Args:
            query: its key alone, or with feature values that are new or have changed, by column name; a missing value
                is None or NaN.
            k: the length of the list; shorter where fewer candidates are allowed.
            exclude_seen: leave out what the query interacted with, also what it brings as recent candidates.
            where: a condition on the columns of the catalogue, as a polars expression or in SQL; where it is null, the
                candidate is left out.
            allow: the only candidate keys that may be recommended.
            deny: candidate keys that must not be recommended.
            history: what the query has done: candidate keys, the oldest first, in place of what past events say. Then
                the query may lack its key: `recommend({}, history=["x", "y"])` is for an anonymous visitor.
            rerank: business rules: caps, diversity, boosts and exploration.

        Returns:
            One row per candidate, best first: `rank` (from 1), the candidate key, `score`, `stage` (which one gave the
            score: "ranking", "retrieval", "similar" or "popularity") and the other columns of the catalogue.

        Raises:
            ConfigError: k is not an integer of at least 1, or business rules that this recommender cannot follow.
            DataError: the query lacks its key, a value is of another kind than in training, or the condition cannot be
                applied.
        """
        query = named(self._parts, query)
        request = Request(
            query, k, exclude_seen=exclude_seen, where=where, allow=allow, deny=deny, history=history, rerank=rerank
        )
        return list_with_details(self._parts, answer_group(self._parts, [look_up(self._parts, request)], None))

    def recommend_many(
        self,
        queries: ManyQueries,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        where: pl.Expr | str | None = None,
        allow: Iterable[Key] | None = None,
        deny: Iterable[Key] = (),
        rerank: Rerank | None = None,
    ) -> pl.DataFrame:
        """Recommend to many queries; each gets, to the last bit, what `recommend` would give it alone.

        Args:
            queries: one row per query: its key and, if they are new or have changed, its feature columns; or a list or
                column of keys alone; or requests, each with rules of its own.
            k: the length of a list; this and what follows is for rows, as in `recommend`. Requests say their own.
            exclude_seen: leave out what a query interacted with.
            where: a condition on the columns of the catalogue.
            allow: the only candidate keys that may be recommended.
            deny: candidate keys that must not be recommended.
            rerank: business rules.

        Returns:
            Query key, candidate key, `rank`, `score`, `stage`, queries in their order, best first; pandas for pandas.

        Raises:
            DataError: a column is missing, or of another kind than in training; with the row, where it is one row.
        """
        rules = Request({}, k, exclude_seen=exclude_seen, where=where, allow=allow, deny=deny, rerank=rerank)
        return answer_many(self._parts, queries, rules)

    def answer(self, requests: Sequence[Request]) -> list[RankedList | RetrankError]:
        """Answer many requests at once, for services: without a data frame, and none spoils another.

        Requests that come together cost far less than alone, also where their rules or lengths differ.

        Args:
            requests: each with rules of its own.

        Returns:
            For each request, to the last bit, what `recommend` would give it alone; or, in its place, the error that it
            would raise.

        Example:
            >>> import polars as pl, retrank as rr
            >>> plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
            >>> recommender = rr.Recommender(
            ...     rr.baselines.ItemKNN().fit(plays, query="user", candidate="song"),
            ...     catalogue=plays.select("song").unique(), history=plays)
            >>> Request = rr.recommender.Request
            >>> found, refused = recommender.answer([Request({"user": "a"}), Request({"user": 7})])
            >>> found.keys, found.stage
            (['z'], 'retrieval')
            >>> print(refused)
            column 'user' of the query: expected a string key, got 7, of type int
        """
        return answer_requests(self._parts, requests)

    def explain(self, request: Request, found: RankedList | None = None) -> Explanation:
        """Tell where the list of a request comes from, what speaks for each candidate, and what its rules leave out.

        It costs several requests.

        Args:
            request: the query and its rules.
            found: what `answer` gave for it, if it is there already; needed where chance had a say in it.

        Returns:
            The list that `recommend` gives, explained.

        Raises:
            ConfigError: it is no request.
            DataError: what `recommend` refuses.
        """
        if not isinstance(request, Request):
            raise ConfigError("a rr.recommender.Request", repr(request), "explain")
        return explain(self._parts, request, found)

    def similar(
        self,
        candidate: Key,
        k: int = 10,
        *,
        where: pl.Expr | str | None = None,
        allow: Iterable[Key] | None = None,
        deny: Iterable[Key] = (),
    ) -> pl.DataFrame:
        """List the candidates that are most like one of them, as retrieval sees it.

        Args:
            candidate: its key.
            k: the length of the list; shorter where fewer candidates are allowed.
            where: a condition on the columns of the catalogue.
            allow: the only candidate keys that may be listed.
            deny: candidate keys that must not be listed.

        Returns:
            One row per candidate, the most similar first: `rank` (from 1), the candidate key, `score` (the cosine of
            the two embeddings; of a baseline, what a query scores that has this one alone) and the other columns.

        Raises:
            ConfigError: a baseline that gives everyone the same.
            DataError: the key is no candidate's, one that the baseline was not fitted on, or of another type.
        """
        request = Request({}, k, where=where, allow=allow, deny=deny)
        return list_with_details(self._parts, similar_candidates(self._parts, candidate, request)).drop("stage")

    def save(self, directory: str | Path) -> None:
        """Write everything into one directory, which is replaced as a whole if it exists.

        Raises:
            ConfigError: a model or baseline holds an object that cannot be described in JSON.
            StorageError: the directory cannot be written, or holds something else.
        """
        write_bundle(directory, self._parts)

    @classmethod
    def load(cls, directory: str | Path, *, progress: bool = True, checks_answers: bool = False) -> Self:
        """Read a recommender; nothing in the directory is executed.

        Args:
            directory: what `save` wrote.
            progress: whether to show on a terminal that it takes longer than a second.
            checks_answers: whether to ask some twenty requests that were saved with their answers, in `smoke.json`, and
                to refuse a bundle that answers otherwise here. One of an earlier version of retrank has none.

        Returns:
            A recommender with the same results.

        Raises:
            StorageError: a file is missing, damaged, half written or of another version; or a model's class is not
                known here: import the module that defines it first; or it answers otherwise than when it was saved.
        """
        return cls._of(load_parts(directory, progress=progress, checks_answers=checks_answers))

    def _contents(self) -> AnyParts:
        return self._parts

    def _holding(self, parts: AnyParts) -> Self:
        return self._of(parts)

    def __repr__(self) -> str:
        stages = " -> ".join(type(part).__name__ for part in (self.baseline or self.retrieval, self.ranking) if part)
        return f"Recommender({stages}, {len(self.catalogue):,} candidates, {len(self.queries):,} queries)"
