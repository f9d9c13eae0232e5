"""What is typed on the command line, or written in a configuration, as values of tables."""

from typing import Any

import polars as pl

from retrank.core.errors import ConfigError

__all__ = ["cast"]


def cast(value: str, dtype: pl.DataType, where: str) -> Any:
    """Read a value of a column's type.

    Args:
        value: as typed; the members of a list are separated by commas.
        dtype: the column's type.
        where: what the value is, for the message.

    Returns:
        The value.

    Raises:
        ConfigError: it is not of that type.

    Example:
        >>> import polars as pl
        >>> from retrank.cli.values import cast
        >>> cast("7", pl.Int64(), "age"), cast("a,b", pl.List(pl.String), "genres")
        (7, ['a', 'b'])
    """
    try:
        if isinstance(dtype, pl.List):
            return pl.Series(value.split(",") if value else [], dtype=pl.String).cast(dtype.inner).to_list()
        return pl.Series([value]).cast(dtype)[0]
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"a value of type {dtype}", repr(value), where) from error
