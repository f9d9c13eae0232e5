"""The columns that features of histories read: what the query of each interaction did before, or has beside it."""

from typing import Final, final

import polars as pl

from retrank.cli.config import FeatureConfig, RunConfig
from retrank.core.errors import ConfigError
from retrank.data import with_recent_candidates, with_seen_candidates
from retrank.features import FeatureSpace, Recent, Seen

__all__ = ["Histories", "history_kind"]

_KINDS: Final = '"History", "Recent" or "Seen"'


def history_kind(entry: FeatureConfig, order: str | None) -> Recent | Seen:
    """Make a feature of kind `History`.

    Args:
        entry: its entry in the configuration.
        order: the column of times that tells what a query did last; None if nothing does.

    Returns:
        A `Recent`, or without an order a `Seen`, for which it does not matter what is last and counts more.

    Raises:
        TypeError: arguments that a `Recent` does not take.
        ConfigError: a bad argument.
    """
    recent = Recent(**entry.arguments)
    return Seen(recent.of, nulls=recent.nulls, column=entry.arguments.get("column")) if order is None else recent


@final
class Histories:
    """Makes the columns that features of histories read, where the interactions do not have them.

    Args:
        config: the configuration.
        space: its features.
        columns: of the interactions.

    Raises:
        ConfigError: a column is to be made that tells what a query did last, and nothing does; it is not said how many
            candidates it holds, or that is said and there is none to make.
    """

    def __init__(self, config: RunConfig, space: FeatureSpace, columns: list[str]) -> None:
        data, made = config.data, []
        for name, kind in space.features.items():
            column = space.layout.column(name)
            is_history = isinstance(kind, Recent | Seen) and space.columns([kind.of]) == [data.candidate]
            if is_history and column not in columns:
                if isinstance(kind, Recent) and config.order is None:
                    lacking = "[data] has no time" if data.time is None else "[split] is at random"
                    fix = 'write kind = "History", which is "Seen" there'
                    raise ConfigError(f'"Seen", as {lacking}', '"Recent"', f"features.{name}.kind", fix)
                made.append((type(kind), column))
        if made and data.history is None:
            fix = "write e.g. history = 50 there, to have it made of what else each interaction's query did"
            raise ConfigError(f"a column '{made[0][1]}'", f"the columns {columns}", "[data]", fix)
        if not made and data.history is not None:
            expected = f"a feature of kind {_KINDS} of '{data.candidate}' whose column is not in the tables"
            raise ConfigError(expected, "none", "data.history", "add one, rename its column, or drop the entry")
        self._recent, self._seen = (
            list(dict.fromkeys(column for kind, column in made if kind is one)) for one in (Recent, Seen)
        )
        if both := {*self._recent} & {*self._seen}:
            fix = "give one of them another column"
            raise ConfigError("one kind of history a column", f"two of '{both.pop()}'", "[features]", fix)
        self._query, self._candidate, self._order = data.query, data.candidate, config.order
        self._length = data.history or 0

    @property
    def columns(self) -> list[str]:
        """The columns that are made."""
        return [*self._recent, *self._seen]

    def of(self, train: pl.DataFrame) -> pl.DataFrame:
        """Add the columns to interactions that models learn from.

        Args:
            train: the interactions.

        Returns:
            A row of a `Recent` feature tells what its query did strictly before, one of a `Seen` feature what else its
            query has, at random where that is much.
        """
        for column in self._recent:
            assert self._order is not None
            train = with_recent_candidates(
                train, query=self._query, candidate=self._candidate, time=self._order, length=self._length, name=column
            )
        return self._with_seen(train)

    def apart(self, earlier: pl.DataFrame, later: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Keep what is later from what is earlier, in two parts of what `of` returned.

        Args:
            earlier: what a model learns from.
            later: what it is to predict.

        Returns:
            Both, with what a query has in `earlier` as all that is seen: in rows of `earlier` as in `of`, in rows of
            `later` all of it. What a query did last stays, as it tells nothing of the future.
        """
        query, candidate = self._query, self._candidate
        earlier, later = earlier.drop(self._seen), later.drop(self._seen)
        had = earlier.group_by(query, maintain_order=True).agg(pl.col(candidate).unique(maintain_order=True))
        for column in self._seen:
            lists = had.rename({candidate: column})
            later = later.join(lists, on=query, how="left", maintain_order="left").with_columns(
                pl.col(column).fill_null([]).list.set_difference(pl.concat_list(candidate))
            )
        return self._with_seen(earlier), later

    def _with_seen(self, table: pl.DataFrame) -> pl.DataFrame:
        for column in self._seen:
            table = with_seen_candidates(
                table, query=self._query, candidate=self._candidate, length=self._length, name=column
            )
        return table
