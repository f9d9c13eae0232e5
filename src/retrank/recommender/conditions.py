"""Conditions on the catalogue, as polars expressions or written in SQL."""

import polars as pl

from retrank.core.errors import ConfigError

__all__ = ["condition"]


def condition(where: object, place: str) -> pl.Expr:
    """Take a condition.

    Args:
        where: a polars expression, or SQL.
        place: where it is from, for the message.

    Returns:
        The expression.

    Raises:
        ConfigError: it is neither.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.conditions import condition
        >>> songs = pl.DataFrame({"year": [1990, 2000], "genre": ["rock", "pop"]})
        >>> songs.filter(condition("year >= 1995 AND genre = 'pop'", "where")).rows()
        [(2000, 'pop')]
    """
    if isinstance(where, pl.Expr):
        return where
    if not isinstance(where, str):
        fix = "write e.g. 'year >= 1990', or pl.col(\"year\") >= 1990"
        raise ConfigError("a condition in SQL or a polars expression", repr(where), place, fix)
    try:
        return pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        said = str(error).strip().splitlines()[0]
        raise ConfigError("a condition in SQL", f"{where!r} ({said})", place, "write e.g. 'year >= 1990'") from error
