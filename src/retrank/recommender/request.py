"""`Request`: what one query asks for."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import polars as pl

from retrank.core.errors import ConfigError, DataError
from retrank.recommender.conditions import condition
from retrank.recommender.rerank import Rerank

__all__ = ["Key", "Request"]

Key = str | int | bool
"""A raw key of a query or candidate."""


@final
@dataclass(frozen=True, eq=False)  # expressions and columns have no truth of being equal
class Request:
    """One query, and the rules of its list.

    Args:
        query: its key and, if they are new or have changed, its feature values, by column name.
        k: the length of the list; shorter where fewer candidates are allowed.
        exclude_seen: leave out what the query interacted with, also what it brings as recent candidates.
        where: a condition on the columns of the catalogue, as a polars expression or in SQL (kept as an expression); a
            candidate for which it is unknown (null or NaN) is left out.
        allow: the only candidate keys that may be recommended; None allows all. Many are quickest as a polars Series or
            a NumPy array of integers, above all if they are the same in every request.
        deny: candidate keys that must not be recommended.
        history: what the query has done: candidate keys, the oldest first, in place of what past events say. Then
            `query` may lack the key, as an anonymous visitor does. Keys of no known candidate fall out.
        rerank: business rules: caps, diversity, boosts and exploration; None for none.

    Raises:
        ConfigError: k is not an integer of at least 1, or another argument is of a wrong type.
        DataError: `query`, `allow`, `deny` or `history` is of a wrong type.

    Example:
        >>> import retrank as rr
        >>> rr.recommender.Request({"user": "a"}, k=3, deny=["x"]).deny
        ('x',)
    """

    query: Mapping[str, Any]
    k: int = 10
    exclude_seen: bool = True
    where: pl.Expr | str | None = None
    allow: Iterable[Key] | None = None
    deny: Iterable[Key] = ()
    history: Iterable[Key] | None = None
    rerank: Rerank | None = None

    def __post_init__(self) -> None:
        query, exclude_seen, where = (_given(self, name) for name in ("query", "exclude_seen", "where"))
        if not isinstance(query, Mapping):
            fix = 'name its column, e.g. {"user_id": 42}'
            raise DataError("a query as column names and values", repr(query), "query", fix)
        object.__setattr__(self, "query", dict(query))
        object.__setattr__(self, "k", _length(self.k))
        if not isinstance(exclude_seen, bool):
            raise ConfigError("True or False", repr(exclude_seen), "exclude_seen")
        if where is not None:
            object.__setattr__(self, "where", condition(where, "where"))
        if self.allow is not None:
            object.__setattr__(
                self, "allow", _column(self.allow) if _is_column(self.allow) else _keys(self.allow, "allow")
            )
        object.__setattr__(self, "deny", _keys(self.deny, "deny"))
        if self.history is not None:
            object.__setattr__(self, "history", _keys(self.history, "history"))
        if self.rerank is not None:
            _check_rerank(_given(self, "rerank"), self.k)


def _check_rerank(rerank: object, k: int) -> None:
    if not isinstance(rerank, Rerank):
        raise ConfigError("a rr.recommender.Rerank", repr(rerank), "rerank")
    if rerank.exploration is not None and rerank.exploration.position > k:
        raise ConfigError(f"a position in a list of {k}", str(rerank.exploration.position), "exploration of Rerank")


def _given(request: Request, name: str) -> object:
    """Return an argument as what it may be, not as what it was declared."""
    return getattr(request, name)


def _length(k: object) -> int:
    try:
        length = operator.index(k)  # type: ignore[arg-type]  # NumPy's integers too, but no float or text
    except TypeError:
        length = 0
    if length < 1 or isinstance(k, bool):
        raise ConfigError("an integer k >= 1", repr(k), "k")
    return length


def _is_column(given: object) -> bool:
    return isinstance(given, pl.Series) or (
        isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "iu"
    )


def _column(given: Iterable[Key]) -> pl.Series:
    """Take keys that need not become Python objects; a copy, so that nobody changes them."""
    return given.clone() if isinstance(given, pl.Series) else pl.Series("allow", np.array(given))


def _keys(given: Iterable[Key], name: str) -> tuple[Key, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError("a list of keys", repr(given), name, f"write [{given!r}], or leave it out")
    values = given.tolist() if hasattr(given, "tolist") else given
    return tuple(values)
