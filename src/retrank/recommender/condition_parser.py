"""Conditions in a subset of SQL, read word by word: what is not listed here does not exist.

Nothing of the text is evaluated as code or handed to another parser. Comparisons with what is unknown are unknown, as
in SQL. Numbers are computed with in floating point, and what has no value, such as a division by zero, is unknown.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from operator import and_, or_
from typing import Any, Final, final

import polars as pl

from retrank.recommender.condition_functions import FUNCTIONS, divided, like, listed, number, remainder
from retrank.recommender.condition_tokens import NoConditionError, Token, tokens_of

__all__ = ["ALLOWED", "parse_condition"]

_MOST_DEPTH: Final = 30  # of parentheses and calls
_MOST_COST: Final = 100  # of what is computed; see `_take_cost`
_MOST_LISTED: Final = 500  # values of IN (...)
_COMPARISONS: Final[dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]]] = {
    "=": pl.Expr.eq,
    "<>": pl.Expr.ne,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}
_ARITHMETIC: Final[dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]]] = {
    "+": pl.Expr.add,
    "-": pl.Expr.sub,
    "*": pl.Expr.mul,
    "/": divided,
    "%": remainder,
}
_KEYWORDS: Final = frozenset(("AND", "OR", "NOT", "IN", "BETWEEN", "IS", "LIKE", "ILIKE", "NULL", "TRUE", "FALSE"))

ALLOWED: Final = (
    "columns, numbers, 'text', TRUE, FALSE, DATE '2024-01-31', TIMESTAMP '2024-01-31 10:00:00', = <> < <= > >=, "
    "AND, OR, NOT, IN (...), BETWEEN ... AND ..., IS [NOT] NULL, [NOT] LIKE and ILIKE, + - * / %, and "
    f"{', '.join(FUNCTIONS)}"
)
"""What a condition may be written with, for messages."""


@final
@dataclass(frozen=True)
class _Part:
    """A part of a condition.

    Args:
        expression: its value.
        is_truth: whether it is true, false or unknown; None for a column, which may be.
        constant: the value of a literal, else None.
    """

    expression: pl.Expr
    is_truth: bool | None = False
    constant: str | float | bool | date | None = None


def parse_condition(text: str) -> pl.Expr:
    """Read a condition.

    Args:
        text: in SQL.

    Returns:
        The expression.

    Raises:
        NoConditionError: it is none, or not one of the subset, or too much to compute; the message says what and where.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.condition_parser import parse_condition
        >>> films = pl.DataFrame({"year": [1990, 2000, None], "genres": [["rock"], ["pop", "rock"], ["pop"]]})
        >>> films.filter(parse_condition("year + 5 > 2000 OR NOT array_contains(genres, 'rock')")).rows()
        [(2000, ['pop', 'rock']), (None, ['pop'])]
    """
    parser = _Parser(tokens_of(text))
    part = parser.disjunction()
    found = part.expression if part.is_truth is None else parser.truth(part)  # of a column alone, the table says more
    if parser.ahead.kind != "end":
        raise NoConditionError(f"{parser.ahead.shown} is not expected here", parser.ahead.place)
    return found


class _Parser:
    """One method a level of precedence, from OR down to a single value."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._place = tokens, 0
        self._depth = self._cost = 0

    @property
    def ahead(self) -> Token:
        """The next word."""
        return self._tokens[self._place]

    def disjunction(self) -> _Part:
        return self._chain("OR", self._conjunction, or_)

    def truth(self, part: _Part) -> pl.Expr:
        """Take a part as true, false or unknown; a column that holds anything else is refused by the table."""
        if part.is_truth:
            return part.expression
        if part.is_truth is None:
            return part.expression & pl.lit(True)
        raise NoConditionError("a value is no condition: compare it with something", self.ahead.place)

    def _chain(self, keyword: str, read: Callable[[], _Part], join: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> _Part:
        first = read()
        if self.ahead.keyword != keyword:
            return first
        parts = [self.truth(first)]
        while self._took(keyword):
            self._take_cost(1)
            parts.append(self.truth(read()))
        return _Part(reduce(join, parts), is_truth=True)

    def _conjunction(self) -> _Part:
        return self._chain("AND", self._negation, and_)

    def _negation(self) -> _Part:
        count = 0
        while self._took("NOT"):  # a loop: text of any depth is read
            self._take_cost(1)
            count += 1
        part = self._predicate()
        if not count:
            return part
        truth = self.truth(part)
        return _Part(~truth if count % 2 else truth, is_truth=True)

    def _predicate(self) -> _Part:
        left = self._sum()
        word = self.ahead.keyword
        if word in _COMPARISONS:
            self._advance()
            self._take_cost(1)
            return _Part(_COMPARISONS[word](left.expression, self._sum().expression), is_truth=True)
        if self._took("IS"):
            self._take_cost(1)
            is_not = self._took("NOT")
            self._expect("NULL")
            return _Part(left.expression.is_not_null() if is_not else left.expression.is_null(), is_truth=True)
        is_not = word == "NOT" and self._tokens[self._place + 1].keyword in ("IN", "BETWEEN", "LIKE", "ILIKE")
        if is_not:
            self._advance()
        made = self._membership(left)
        if made is None:
            return left
        return _Part(~made if is_not else made, is_truth=True)

    def _membership(self, left: _Part) -> pl.Expr | None:
        if self._took("BETWEEN"):
            self._take_cost(2)
            low = self._sum().expression
            self._expect("AND")
            return (left.expression >= low) & (left.expression <= self._sum().expression)
        if self._took("IN"):
            self._take_cost(2)
            return listed(left.expression, self._values())
        word = self.ahead.keyword
        if word in ("LIKE", "ILIKE"):
            self._advance()
            self._take_cost(20 if word == "ILIKE" else 10)
            pattern = self._advance()
            if pattern.kind != "text":
                raise NoConditionError(f"{word} takes a 'pattern' in quotes", pattern.place)
            return like(left.expression, pattern.text, ignore_case=word == "ILIKE")
        return None

    def _values(self) -> list[Any]:
        """Read the literals of IN (...)."""
        self._expect("(")
        values: list[Any] = []
        while not values or self._took(","):
            place, value = self.ahead.place, self._signed().constant
            if value is None:
                raise NoConditionError("IN takes a list of values; of NULL, say IS NULL", place)
            values.append(value)
        if len(values) > _MOST_LISTED:
            raise NoConditionError(f"IN takes at most {_MOST_LISTED} values, not {len(values)}", self.ahead.place)
        self._expect(")")
        return values

    def _sum(self) -> _Part:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> _Part:
        return self._arithmetic(("*", "/", "%"), self._signed)

    def _arithmetic(self, signs: tuple[str, ...], read: Callable[[], _Part]) -> _Part:
        part = read()
        while self.ahead.keyword in signs:
            sign = self._advance().keyword
            self._take_cost(1)
            made = _ARITHMETIC[sign](number(self._value(part)), number(self._value(read())))
            part = _Part(made.fill_nan(None))
        return part

    def _signed(self) -> _Part:
        count = 0
        while self.ahead.keyword in ("+", "-"):
            count += self._advance().keyword == "-"
        part = self._primary()
        if not count:
            return part
        self._take_cost(1)
        is_number = isinstance(part.constant, int | float) and not isinstance(part.constant, bool)
        if not is_number:
            made = number(self._value(part))
            return _Part(-made if count % 2 else made)
        value = -part.constant if count % 2 else part.constant  # type: ignore[operator]
        return _Part(pl.lit(value), constant=value)

    def _primary(self) -> _Part:
        token, after = self._advance(), self.ahead
        if token.kind == "number":
            return _literal(_number(token))
        if token.kind == "text":
            return _literal(token.text)
        if token.kind == "quoted":
            return _column(token)
        if token.keyword == "(":
            self._enter(token)
            part = self.disjunction()
            self._leave()
            return part
        if token.kind != "name" or token.keyword in _KEYWORDS - {"TRUE", "FALSE", "NULL"}:
            raise NoConditionError(f"{token.shown}, where a column or a value is expected", token.place)
        if token.keyword in ("TRUE", "FALSE"):
            value = token.keyword == "TRUE"
            return _Part(pl.lit(value), is_truth=True, constant=value)
        if token.keyword == "NULL":
            return _Part(pl.lit(None), is_truth=None)
        if token.keyword in ("DATE", "TIMESTAMP") and after.kind == "text":
            self._advance()
            return _literal(_moment(token.keyword, after))
        return self._call(token) if after.keyword == "(" else _column(token)

    def _call(self, token: Token) -> _Part:
        function = FUNCTIONS.get(token.keyword)
        if function is None:
            raise NoConditionError(f"no function {token.shown}", token.place)
        self._enter(self._advance())
        self._take_cost(function.cost)
        parts = [self._sum()]
        while self._took(","):
            parts.append(self._sum())
        self._leave()
        if len(parts) != len(function.arguments):
            expected = f"{token.keyword} takes {len(function.arguments)} arguments, not {len(parts)}"
            raise NoConditionError(expected, token.place)
        made: list[Any] = []
        for part, kind in zip(parts, function.arguments, strict=True):
            if kind != "value" and (part.constant is None or (kind == "text" and not isinstance(part.constant, str))):
                raise NoConditionError(f"{token.keyword} takes a {kind} as it is written, not computed", token.place)
            made.append(self._value(part) if kind == "value" else part.constant)
        return _Part(function.make(*made), is_truth=function.is_truth)

    def _value(self, part: _Part) -> pl.Expr:
        if part.is_truth:
            raise NoConditionError("a condition is no value to compute with", self.ahead.place)
        return part.expression

    def _enter(self, token: Token) -> None:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise NoConditionError(f"more than {_MOST_DEPTH} parentheses within each other", token.place)

    def _leave(self) -> None:
        self._expect(")")
        self._depth -= 1

    def _take_cost(self, cost: int) -> None:
        """Add up what a candidate costs, in comparisons of two numbers."""
        self._cost += cost
        if self._cost > _MOST_COST:
            raise NoConditionError(f"more than {_MOST_COST} comparisons, joints and computations", self.ahead.place)

    def _took(self, keyword: str) -> bool:
        if self.ahead.keyword != keyword:
            return False
        self._advance()
        return True

    def _expect(self, keyword: str) -> None:
        if not self._took(keyword):
            raise NoConditionError(f"{self.ahead.shown}, where {keyword} is expected", self.ahead.place)

    def _advance(self) -> Token:
        token = self.ahead
        if token.kind != "end":
            self._place += 1
        return token


def _literal(value: str | float | date) -> _Part:
    return _Part(pl.lit(value), constant=value)


def _column(token: Token) -> _Part:
    name = token.text
    if not name or name == "*" or (name.startswith("^") and name.endswith("$")):  # polars takes it as a pattern
        raise NoConditionError(f"{token.shown} is no name of a column", token.place)
    return _Part(pl.col(name), is_truth=None)


def _number(token: Token) -> float:
    if token.text.isdecimal():
        if len(token.text) > 19 or int(token.text) >= 2**63:
            raise NoConditionError("an integer of more than 64 bits", token.place)
        return int(token.text)
    value = float(token.text)
    if not math.isfinite(value):
        raise NoConditionError(f"{token.shown} is too large", token.place)
    return value


def _moment(keyword: str, token: Token) -> date:
    try:
        return date.fromisoformat(token.text) if keyword == "DATE" else datetime.fromisoformat(token.text)
    except ValueError:
        raise NoConditionError(f"{token.shown} is no {keyword} in ISO 8601", token.place) from None
