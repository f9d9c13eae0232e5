"""`Feature`: what every kind of feature can do."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeVar

import polars as pl

from retrank.core.batch import Column
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, NotFittedError
from retrank.core.schema import ColumnSchema
from retrank.features.state import State
from retrank.features.statistics import Agreement, Summary

__all__ = ["Emits", "Feature", "fitted"]

Emits = Literal["ids", "lists of ids", "numbers"]
"""What a kind makes of a column: one id a row, a `Jagged` of ids, or float32 numbers."""

T = TypeVar("T")


class Feature(Configurable, ABC):
    """One kind of feature: what it learns from a column and what it makes of it.

    Learning has two steps, so that it can be distributed: `summarize` says what one part of the table knows, and
    `learn` takes the merged summary of all parts. `FeatureSpace.fit` does both. Kinds that learn nothing keep the
    defaults of `learn`, `state` and `load_state`.

    Args:
        column: the column to read; None means the column that is named as the feature.
    """

    emits: ClassVar[Emits]
    """What the kind makes of a column."""
    can_grow: ClassVar[bool] = False
    """Whether the kind has a vocabulary that takes new keys."""

    def __init__(self, column: str | None) -> None:
        self.column = column

    @property
    def accepts_nulls(self) -> bool:
        """Whether a null has a meaning: the unknown key, an unknown number, or the number that fills it."""
        return getattr(self, "nulls", "error") == "unknown" or getattr(self, "fill", None) is not None

    @property
    def other_columns(self) -> tuple[str, ...]:
        """The columns that `transform_rows` reads besides `column`."""
        return ()

    @abstractmethod
    def summarize(self, values: pl.Series) -> Summary:
        """Check a part of the column and say what it knows.

        Args:
            values: `(rows,)` the part.

        Returns:
            Statistics that can be merged with those of other parts.

        Raises:
            DataError: a value that the kind refuses, with its row.
        """

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Learn from the statistics of all rows.

        Args:
            summary: what `summarize` returned, merged over all parts.
            where: the column, for messages.
        """
        assert isinstance(summary, Agreement)

    def grow(self, summary: Summary, *, where: str) -> None:
        """Add the keys of more rows without renumbering; only where `can_grow`.

        Args:
            summary: the merged statistics of the new rows.
            where: the column, for messages.

        Raises:
            ConfigError: a kind that has no vocabulary.
        """
        del summary
        raise ConfigError("a kind with a vocabulary, to grow", type(self).__name__, where)

    @abstractmethod
    def transform(self, values: pl.Series, name: str) -> Column:
        """Turn a column into a tensor.

        Args:
            values: `(rows,)` the column.
            name: the feature's name.

        Returns:
            `(rows,)` int64 ids, a `Jagged` of ids, or `(rows,)` float32 numbers (`(rows, width)` if wider than 1).

        Raises:
            DataError: a value that the kind refuses, with its row.
            NotFittedError: there is something to learn first.
        """

    def transform_rows(self, rows: pl.DataFrame, name: str) -> Column:
        """Turn the columns that the kind reads into a tensor.

        Args:
            rows: a table that has them.
            name: the feature's name.

        Returns:
            What `transform` makes of the column; a kind with `other_columns` adds what they say.

        Raises:
            DataError: a value that the kind refuses, with its row.
            NotFittedError: there is something to learn first.
        """
        return self.transform(rows.get_column(self.column or name), name)

    @abstractmethod
    def schema(self, name: str) -> ColumnSchema:
        """Describe what `transform` returns.

        Args:
            name: the feature's name.

        Returns:
            The description; of a kind that learns, only after `learn`.

        Raises:
            NotFittedError: there is something to learn first.
        """

    def state(self) -> State:
        """Return what was learned, to be saved."""
        return State({}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over what `state` returned.

        Args:
            state: of a feature of the same kind and arguments.
            where: the feature, for messages.

        Raises:
            StorageError: the state is of another kind.
        """

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{type(self).__name__}({arguments})"


def fitted(learned: T | None, kind: Feature) -> T:
    """Return what a feature learned.

    Args:
        learned: the attribute that `learn` sets.
        kind: whose it is.

    Returns:
        The attribute.

    Raises:
        NotFittedError: it is None.
    """
    if learned is None:
        raise NotFittedError("a fitted feature", "one that was not fitted", repr(kind), "call FeatureSpace.fit first")
    return learned
