"""Which candidates may be recommended at all: conditions, allow-lists and deny-lists as rows of the catalogue."""

import copy
import hashlib
import operator
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from typing import Final, NamedTuple, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError, RetrankWarning
from retrank.core.jagged import Jagged
from retrank.features.catalogue import Catalogue
from retrank.ops.best_candidates import Allowed
from retrank.recommender.request import Key

__all__ = ["AllowLists", "Conditions", "as_allowed", "condition_text", "rows_of_keys"]

_KEPT_BYTES: Final = 2**26  # of masks, a byte per candidate
_OVERHEAD: Final = 1024  # of a mask and what it is found by
_KEPT_LISTS: Final = 4
_FEW: Final = 32
_KEPT_TEXTS: Final = 1024
_TEXTS: Final[OrderedDict[int, tuple[pl.Expr, bytes]]] = OrderedDict()
_TEXTS_LOCK: Final = threading.Lock()
_LONG: Final = 1_000  # keys; fewer are looked up as quickly


@final
class Conditions:
    """Evaluates conditions on a table of candidates, and keeps what the latest ones gave by their text.

    Args:
        table: the candidates; NaN counts as null, of which no condition is true.
        available: `(candidates,)` bool, for which candidates alone a condition may be true; None for all.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.rules import Conditions
        >>> songs = Conditions(pl.DataFrame({"year": [1990.0, 2000.0, float("nan")]}))
        >>> songs.mask(pl.col("year") >= 1995).tolist()
        [False, True, False]
    """

    def __init__(self, table: pl.DataFrame, available: Tensor | None = None) -> None:
        self._given = table
        self._available, self._all_masks = available, _KeptMasks()
        self._masks = self._all_masks if available is None else _KeptMasks()

    def within(self, available: Tensor | None) -> "Conditions":
        """Return the conditions on the same table with other candidates available; what is true of all is kept.

        Args:
            available: `(candidates,)` bool; None for all.
        """
        other = copy.copy(self)
        other._available = available
        other._masks = self._all_masks if available is None else _KeptMasks()
        return other

    def mask(self, where: pl.Expr) -> Tensor:
        """Return `(candidates,)` bool, for which candidates a condition is true.

        Args:
            where: the condition.

        Raises:
            DataError: it names a column that is not there, or is not a condition.
        """
        text = condition_text(where)
        if text is None:
            return self._within_available(self._evaluated(where))
        found = self._masks.get(text)
        if found is None:
            of_all = self._all_masks.get(text)
            if of_all is None:
                of_all = self._all_masks.keep(text, self._evaluated(where))
            found = of_all if self._available is None else self._masks.keep(text, self._within_available(of_all))
        return found

    @cached_property
    def _table(self) -> pl.DataFrame:
        """The candidates, made when the first condition comes."""
        return self._given.with_columns(pl.selectors.float().fill_nan(None))

    def _within_available(self, mask: Tensor) -> Tensor:
        return mask if self._available is None else mask & self._available

    def _evaluated(self, where: pl.Expr) -> Tensor:
        try:
            result = self._table.select(where)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError) as error:
            raise DataError(
                f"a condition on the columns {self._table.columns}",
                f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}",
                "where",
                "name columns of the catalogue and compare them with values of their type",
            ) from error
        if list(result.schema.values()) != [pl.Boolean] or len(result) != len(self._table):
            raise DataError(
                "true or false for every candidate",
                f"{len(result)} rows of {dict(result.schema)}",
                "where",
                "write one condition; combine several with & or |",
            )
        return torch.from_numpy(result.to_series().fill_null(False).to_numpy(writable=True))


@final
class _KeptMasks:
    """The latest masks by the text of their condition, of bounded size whoever asks for what."""

    def __init__(self) -> None:
        self._masks: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._masks)

    def get(self, text: bytes) -> Tensor | None:
        with self._lock:
            found = self._masks.get(text)
            if found is not None:
                self._masks.move_to_end(text)
            return found

    def keep(self, text: bytes, mask: Tensor) -> Tensor:
        with self._lock:
            self._masks[text] = mask
            if len(self._masks) > max(_KEPT_BYTES // (len(mask) + _OVERHEAD), 1):
                self._masks.popitem(last=False)
        return mask


@final
class AllowLists:
    """Turns lists of allowed keys into masks, and keeps those of the latest long ones.

    To compare a list with an earlier one costs far less than looking up its keys.

    Args:
        catalogue: the candidates.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._kept: tuple[_AllowList, ...] = ()  # the latest first; threads replace it as a whole

    def mask(self, keys: Iterable[Key] | pl.Series) -> Tensor:
        """Return `(candidates,)` bool, which candidates are listed.

        Args:
            keys: of candidates; a warning tells how many are not.

        Raises:
            DataError: keys of another type than the catalogue's.
        """
        keys = keys if isinstance(keys, pl.Series) else tuple(keys)
        found = next((kept for kept in self._kept if _same(kept.keys, keys)), None)
        if found is None:
            rows = self._catalogue.rows(keys if isinstance(keys, pl.Series) else list(keys))
            mask, is_known = torch.zeros(len(self._catalogue), dtype=torch.bool), rows >= 0
            mask[rows[is_known]] = True
            found = _AllowList(keys, mask, len(rows) - int(is_known.sum()))
            if len(keys) >= _LONG:
                self._kept = (found, *self._kept)[:_KEPT_LISTS]
        _warn_of_unknown(found.num_unknown, len(keys), "allow")
        return found.mask


class _AllowList(NamedTuple):
    keys: tuple[Key, ...] | pl.Series
    mask: Tensor
    num_unknown: int


def _same(one: tuple[Key, ...] | pl.Series, other: tuple[Key, ...] | pl.Series) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, pl.Series) and isinstance(other, pl.Series):
        return one.equals(other, check_dtypes=True, null_equal=True)
    # Numbers of another type may be equal, and are refused: a key that is the same object is of the same type.
    return isinstance(one, tuple) and isinstance(other, tuple) and all(map(operator.is_, one, other))


def _warn_of_unknown(count: int, asked: int, name: str) -> None:
    if count:
        warnings.warn(f"{name}: {count} of {asked} keys are no candidates", RetrankWarning, stacklevel=3)


def condition_text(where: pl.Expr) -> bytes | None:
    """Return what tells conditions apart: a digest of how they are written down.

    Args:
        where: the condition; of one that comes again as the same object, the digest is remembered.

    Returns:
        None for a condition that cannot be written down, such as one with a Python function.
    """
    with _TEXTS_LOCK:
        found = _TEXTS.get(id(where))
    if found is not None:
        return found[1]
    try:
        text = hashlib.blake2b(where.meta.serialize(), digest_size=32).digest()
    except (pl.exceptions.PolarsError, TypeError, AttributeError, ValueError):
        return None
    with _TEXTS_LOCK:
        _TEXTS[id(where)] = where, text  # with the condition itself, or another could get its id
        if len(_TEXTS) > _KEPT_TEXTS:
            _TEXTS.popitem(last=False)
    return text


def as_allowed(mask: Tensor | None) -> Allowed | None:
    """Return what an index takes.

    Args:
        mask: `(candidates,)` bool for all queries, or `(queries, candidates)`; None for all candidates.

    Example:
        >>> import torch
        >>> from retrank.recommender.rules import as_allowed
        >>> as_allowed(torch.tensor([[True, False, True], [False, False, True]])).to_lists()
        [[0, 2], [2]]
    """
    if mask is None or mask.dim() == 1:
        return mask
    return Jagged.from_lengths(mask.nonzero()[:, 1], mask.sum(dim=1))


def rows_of_keys(catalogue: Catalogue, keys: Iterable[Key]) -> Tensor:
    """Look up the candidates that a rule names.

    Args:
        catalogue: the candidates.
        keys: of candidates; those of others fall out.

    Returns:
        Distinct ascending int64 rows.

    Raises:
        DataError: keys of another type than the catalogue's.
    """
    asked = list(keys)
    if not asked:
        return torch.empty(0, dtype=torch.int64)
    rows = catalogue.rows(asked)
    if len(rows) <= _FEW:  # each call of torch costs more than all of this
        return torch.tensor(sorted({row for row in rows.tolist() if row >= 0}), dtype=torch.int64)
    distinct: Tensor = torch.unique(rows[rows >= 0])
    return distinct
