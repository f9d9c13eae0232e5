"""Which candidates may be recommended at all: conditions, allow-lists and deny-lists as rows of the catalogue."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError, RetrankWarning
from retrank.features.catalogue import Catalogue
from retrank.recommender.request import Key

__all__ = ["Conditions", "condition_text", "rows_of_keys"]

_KEPT_BYTES: Final = 2**26  # of masks, a byte per candidate


@final
class Conditions:
    """Evaluates conditions on a table of candidates, and keeps what the latest ones gave by their text.

    Args:
        table: the candidates; NaN counts as null, of which no condition is true.

    Example:
        >>> import polars as pl
        >>> from retrank.recommender.rules import Conditions
        >>> songs = Conditions(pl.DataFrame({"year": [1990.0, 2000.0, float("nan")]}))
        >>> songs.mask(pl.col("year") >= 1995).tolist()
        [False, True, False]
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table.with_columns(pl.selectors.float().fill_nan(None))
        self._masks: OrderedDict[bytes, Tensor] = OrderedDict()
        self._most = max(_KEPT_BYTES // max(table.height, 1), 1)
        self._lock = threading.Lock()

    def mask(self, where: pl.Expr) -> Tensor:
        """Return `(candidates,)` bool, for which candidates a condition is true.

        Args:
            where: the condition.

        Raises:
            DataError: it names a column that is not there, or is not a condition.
        """
        text = condition_text(where)
        with self._lock:
            found = None if text is None else self._masks.get(text)
            if found is not None and text is not None:
                self._masks.move_to_end(text)
                return found
        found = self._evaluated(where)
        if text is not None:
            with self._lock:
                self._masks[text] = found
                if len(self._masks) > self._most:
                    self._masks.popitem(last=False)
        return found

    def _evaluated(self, where: pl.Expr) -> Tensor:
        try:
            result = self._table.select(where)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"a condition on the columns {self._table.columns}",
                f"{type(error).__name__}: {error}",
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


def condition_text(where: pl.Expr) -> bytes | None:
    """Return what tells conditions apart.

    Args:
        where: the condition.

    Returns:
        None for a condition that cannot be written down, such as one with a Python function.
    """
    try:
        return where.meta.serialize()
    except (pl.exceptions.PolarsError, TypeError, AttributeError, ValueError):
        return None


def rows_of_keys(catalogue: Catalogue, keys: Iterable[Key], name: str, *, warn: bool) -> Tensor:
    """Look up the candidates that a rule names.

    Args:
        catalogue: the candidates.
        keys: of candidates.
        name: of the rule, for messages.
        warn: whether to warn of keys that are no candidates.

    Returns:
        Distinct ascending int64 rows.

    Raises:
        DataError: keys of another type than the catalogue's.
    """
    asked = list(keys)
    if not asked:
        return torch.empty(0, dtype=torch.int64)
    rows = catalogue.rows(asked)
    unknown = int((rows < 0).sum())
    if unknown and warn:
        warnings.warn(f"{name}: {unknown} of {len(asked)} keys are no candidates", RetrankWarning, stacklevel=2)
    distinct: Tensor = torch.unique(rows[rows >= 0])
    return distinct
