"""Every error and warning that retrank raises, one family.

RetrankError
├── DataError            a table, column or row is not what it must be       (also a ValueError)
├── ConfigError          an argument or a configuration value                (also a ValueError)
├── ShapeError           a tensor's shape, dtype or device                   (also a ValueError)
├── NotFittedError       used before `fit`                                   (also a RuntimeError)
├── TrainingError        training cannot go on, e.g. the loss is not finite  (also a RuntimeError)
├── StorageError         a file is damaged, half written or of another version (also a RuntimeError)
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
    "TrainingError",
]


class RetrankError(Exception):
    """The base of all errors; each says what was expected, what came, where, and what to do.

    Args:
        expected: what the code needed.
        got: what it received instead.
        where: the place: a column and row, a file, an argument.
        fix: what the reader can do about it.

    Example:
        >>> import retrank as rr
        >>> raise rr.errors.DataError(expected="no nulls", got="null", where="column 'age', row 3", fix="fill it first")
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: column 'age', row 3: expected no nulls, got null; fill it first
    """

    def __init__(self, expected: str, got: str, where: str, fix: str | None = None) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}" + (f"; {fix}" if fix else ""))
        self.expected, self.got, self.where, self.fix = expected, got, where, fix


class DataError(RetrankError, ValueError):
    """A table, a column or a row is not what it must be."""


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


class DownloadError(RetrankError, RuntimeError):
    """A dataset could not be fetched."""


class MissingExtraError(RetrankError, ImportError):
    """An optional dependency is not installed."""


class RetrankWarning(UserWarning):
    """Something was ignored, or counts differently than one may think."""
