"""Conditions on the catalogue, as polars expressions or written in SQL."""

from functools import lru_cache
from typing import Final

import polars as pl

from retrank.core.errors import ConfigError
from retrank.recommender.condition_parser import ALLOWED, parse_condition
from retrank.recommender.condition_tokens import NoConditionError

__all__ = ["condition"]

_MOST_CHARACTERS: Final = 2_000
_SHOWN: Final = 100


def condition(where: object, place: str) -> pl.Expr:
    """Take a condition.

    What is written in SQL may come from anybody: it is read word by word, and is refused if it is not of the documented
    subset, or long, deep or costly. A polars expression is taken as it is.

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
        raise ConfigError("a condition in SQL or a polars expression", repr(where)[:_SHOWN], place, fix)
    if len(where) > _MOST_CHARACTERS:
        expected = f"a condition in SQL of at most {_MOST_CHARACTERS:,} characters"
        raise ConfigError(expected, f"{len(where):,} characters", place, "use allow= for a list of candidates")
    try:
        return _parsed(where)
    except NoConditionError as error:
        shown = repr(where if len(where) <= _SHOWN else f"{where[:_SHOWN]}...")
        fix = f"write e.g. 'year >= 1990'; a condition may have {ALLOWED}"
        raise ConfigError("a condition in SQL", f"{shown} ({error})", place, fix) from error


@lru_cache(maxsize=1024)
def _parsed(text: str) -> pl.Expr:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoConditionError("half of a character", error.start) from error
    return parse_condition(text)
