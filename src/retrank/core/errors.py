"""Every error and warning that retrank raises, one family.

RetrankError
├── DataError            a table, column or row is not what it must be       (also a ValueError)
├── ConfigError          an argument or a configuration value                (also a ValueError)
├── ShapeError           a tensor's shape, dtype or device                   (also a ValueError)
├── NotFittedError       used before `fit`                                   (also a RuntimeError)
├── TrainingError        training cannot go on, e.g. the loss is not finite  (also a RuntimeError)
├── StorageError         a file is damaged, half written or of another version (also a RuntimeError)
│   └── StoreUnavailableError  the store of a service is down, busy or full: later it may work
├── DownloadError        a dataset could not be fetched                      (also a RuntimeError)
└── MissingExtraError    an optional dependency is not installed             (also an ImportError)

RetrankWarning           something was ignored or counts differently than one may think
"""

__all__ = [
    "ConfigError",
    "DataError",
    "DownloadError",
    "MissingExtraError",
    "NotFittedError",
    "RetrankError",
    "RetrankWarning",
    "ShapeError",
    "StorageError",
    "StoreUnavailableError",
    "TrainingError",
]


class RetrankError(Exception):
    """The base of all errors; each says what was expected, what came, where, and, if there is a remedy, what to do.

    Args:
        expected: what the code needed.
        got: what it received instead.
        where: the place: a column and row, a file, an argument.
        fix: what the reader can do about it; None where the rest says it all.

    Example:
        >>> import retrank as rr
        >>> raise rr.errors.ConfigError(expected="k of at least 1", got="0", where="recommend")
        Traceback (most recent call last):
        ...
        retrank.core.errors.ConfigError: recommend: expected k of at least 1, got 0
    """

    def __init__(self, expected: str, got: str, where: str, fix: str | None = None) -> None:
        super().__init__(expected, got, where, fix)
        self.expected, self.got, self.where, self.fix = expected, got, where, fix

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}" + (f"; {self.fix}" if self.fix else "")


class DataError(RetrankError, ValueError):
    """A table, a column or a row is not what it must be.

    Args:
        expected: what the code needed.
        got: what it received instead.
        where: the place: a column, an argument.
        fix: what the reader can do about it; None where the rest says it all.
        row: the number of the bad row in what was looked at, from 0; it is appended to `where`. Whoever looked at a
            part of a table alone moves it with `in_table`.
        table: the table of the row; appended to `where` as well.

    Example:
        >>> import retrank as rr
        >>> raise rr.errors.DataError("no nulls", "null", "column 'age'", "fill it first", row=3, table="users")
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: column 'age', row 3 of users: expected no nulls, got null; fill it first
    """

    def __init__(
        self,
        expected: str,
        got: str,
        where: str,
        fix: str | None = None,
        *,
        row: int | None = None,
        table: str | None = None,
    ) -> None:
        place = where if row is None else f"{where}, row {row}"
        super().__init__(expected, got, place if table is None else f"{place} of {table}", fix)
        self.row, self.table, self._what = row, table, where

    def in_table(self, first_row: int, table: str | None = None) -> "DataError":
        """Return the error as the whole table has it.

        Args:
            first_row: the number in the table of the row that counts as 0 here.
            table: what the table is called, if this error does not know.

        Returns:
            An equal error with another row; the error itself if it speaks of no row.
        """
        if self.row is None:
            return self
        table = self.table if self.table is not None else table
        return DataError(self.expected, self.got, self._what, self.fix, row=first_row + self.row, table=table)


class ConfigError(RetrankError, ValueError):
    """An argument or a configuration value is not usable."""


class ShapeError(RetrankError, ValueError):
    """A tensor has the wrong shape, dtype or device."""


class NotFittedError(RetrankError, RuntimeError):
    """Something was used before it was fitted."""


class TrainingError(RetrankError, RuntimeError):
    """Training cannot go on."""


class StorageError(RetrankError, RuntimeError):
    """A file on disk is damaged, half written, or of another version."""


class StoreUnavailableError(StorageError):
    """The store of a service cannot be reached, does not answer in time, or cannot write; nothing is damaged."""


class DownloadError(RetrankError, RuntimeError):
    """A dataset could not be fetched."""


class MissingExtraError(RetrankError, ImportError):
    """An optional dependency is not installed."""


class RetrankWarning(UserWarning):
    """Something was ignored, or counts differently than one may think."""
