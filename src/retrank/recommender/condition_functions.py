"""What conditions compute: functions and operations whose cost grows with the text that they read, and no faster."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import polars as pl

from retrank.recommender.condition_tokens import NoConditionError

__all__ = ["FUNCTIONS", "Function", "divided", "like", "listed", "number", "remainder"]

_MOST_WILDCARDS: Final = 8
_EXACT: Final = 2**53  # integers below are exact in floating point


@final
@dataclass(frozen=True)
class Function:
    """A function that conditions may call.

    Args:
        make: from its arguments to its value.
        arguments: of each, whether it is any value, or must be a text or constant as it is written.
        is_truth: whether its value is true or false.
        cost: for a candidate, in comparisons of two numbers.
    """

    make: Callable[..., pl.Expr]
    arguments: tuple[Literal["value", "text", "constant"], ...] = ("value",)
    is_truth: bool = False
    cost: int = 1


FUNCTIONS: Final[Mapping[str, Function]] = {
    "ABS": Function(pl.Expr.abs),
    "ARRAY_CONTAINS": Function(
        lambda lists, value: lists.list.contains(value), ("value", "constant"), is_truth=True, cost=4
    ),
    "ARRAY_LENGTH": Function(lambda lists: lists.list.len()),
    "CEIL": Function(pl.Expr.ceil),
    "ENDS_WITH": Function(lambda text, end: text.str.ends_with(end), ("value", "text"), is_truth=True, cost=2),
    "FLOOR": Function(pl.Expr.floor),
    "LENGTH": Function(lambda text: text.str.len_chars(), cost=4),
    "LOWER": Function(lambda text: text.str.to_lowercase(), cost=10),
    "ROUND": Function(pl.Expr.round),
    "STARTS_WITH": Function(lambda text, start: text.str.starts_with(start), ("value", "text"), is_truth=True, cost=2),
    "UPPER": Function(lambda text: text.str.to_uppercase(), cost=10),
}
"""By name: all that conditions may call."""


def number(value: pl.Expr) -> pl.Expr:
    """Take a value in floating point, so that nothing wraps around; text and dates are refused by the table.

    Args:
        value: of each candidate.
    """
    return value + 0.0


def divided(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Divide numbers; unknown where the divisor is zero.

    Args:
        left: what is divided.
        right: by what.
    """
    return left / pl.when(right != 0).then(right)


def remainder(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Return the remainder of a division that rounds down; unknown where the divisor is zero.

    Args:
        left: what is divided.
        right: by what.
    """
    return left % pl.when(right != 0).then(right)


def listed(value: pl.Expr, values: Sequence[Any]) -> pl.Expr:
    """Tell whether a value is one of some.

    Args:
        value: of each candidate.
        values: of one kind: numbers, texts, truths, dates or times.

    Raises:
        NoConditionError: values of several kinds.
    """
    kinds = {float if type(one) is int else type(one) for one in values}
    if len(kinds) > 1:
        raise NoConditionError("the values of IN are of several kinds")
    if kinds == {float} and all(abs(one) < _EXACT for one in values):
        return number(value).cast(pl.Float64).is_in(pl.Series(list(map(float, values))))
    try:
        return value.is_in(pl.Series(values))
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise NoConditionError(f"the values of IN are of several kinds ({error})") from error


def like(text: pl.Expr, pattern: str, *, ignore_case: bool) -> pl.Expr:
    """Tell whether texts match a pattern of SQL: % stands for any text, and _ for one character.

    Args:
        text: of each candidate.
        pattern: what to match, from beginning to end.
        ignore_case: whether capitals matter.

    Raises:
        NoConditionError: too many wildcards.
    """
    if ignore_case:
        text, pattern = text.str.to_lowercase(), pattern.lower()
    if pattern.count("%") + pattern.count("_") > _MOST_WILDCARDS:
        raise NoConditionError(f"a pattern of LIKE with more than {_MOST_WILDCARDS} of % and _")
    inner = pattern.strip("%")
    if "%" not in pattern and "_" not in pattern:
        return text.str.starts_with(pattern) & (text.str.len_bytes() == len(pattern.encode()))
    if "%" not in inner and "_" not in inner:
        if not pattern.startswith("%"):
            return text.str.starts_with(inner)
        return text.str.contains(inner, literal=True) if pattern.endswith("%") else text.str.ends_with(inner)
    # The engine that polars uses needs time in proportion to pattern and text, whatever they are.
    parts = {"%": ".*", "_": "."}
    return text.str.contains(f"(?s)^{''.join(parts.get(one) or pl.escape_regex(one) for one in pattern)}$")
