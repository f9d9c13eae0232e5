"""The number of a bad row, told of the caller's table by whoever read it in parts."""

from collections.abc import Iterator
from contextlib import contextmanager

from retrank.core.errors import DataError
from retrank.data.source import Source

__all__ = ["rows_from"]


@contextmanager
def rows_from(first_row: int, table: Source | None = None) -> Iterator[None]:
    """Look at a part of a table: errors inside count its rows from 0, those that leave count them in the table.

    Args:
        first_row: the number in the table of the first row of the part.
        table: where the rows come from, if it can say in which file each is.

    Raises:
        DataError: what was raised inside, with the row in the table.

    Example:
        >>> import retrank as rr
        >>> from retrank.data.rows import rows_from
        >>> with rows_from(100):
        ...     raise rr.errors.DataError("a finite number", "nan", "column 'age'", row=1)
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: column 'age', row 101: expected a finite number, got nan
    """
    try:
        yield
    except DataError as error:
        if error.row is None:
            raise
        named = None if table is None else table.name_of(first_row + error.row)
        raise error.in_table(first_row, named).with_traceback(error.__traceback__) from error.__cause__
