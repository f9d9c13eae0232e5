"""Which candidates may be recommended at all: business rules as rows of the catalogue."""

import warnings
from collections.abc import Iterable

import polars as pl
import torch
from torch import Tensor

from retrank.core.errors import DataError, RetrankWarning
from retrank.features.catalogue import Catalogue

__all__ = ["allowed_rows"]


def allowed_rows(
    catalogue: Catalogue,
    table: pl.DataFrame,
    *,
    where: pl.Expr | None = None,
    allow: Iterable[str | int] | None = None,
    deny: Iterable[str | int] = (),
) -> Tensor | None:
    """Combine an expression, an allow list and a deny list.

    Args:
        catalogue: the candidates.
        table: their columns, in the order of the catalogue.
        where: a condition on the columns; a candidate for which it is null is left out.
        allow: the only candidate keys that may be recommended; keys that are no candidates are warned about.
        deny: candidate keys that must not be recommended; others are harmless.

    Returns:
        Ascending int64 rows of the catalogue, or None where every candidate is allowed.

    Raises:
        DataError: the condition names a column that is not there, or is not a condition.

    Example:
        >>> import polars as pl, retrank as rr
        >>> songs = pl.DataFrame({"song": ["x", "y", "z"], "year": [1990, 2000, None]})
        >>> space = rr.FeatureSpace({"song": rr.features.Categorical()}).fit(songs)
        >>> catalogue = space.catalogue(songs, key="song")
        >>> rr.recommender.allowed_rows(catalogue, songs, where=pl.col("year") >= 1990, deny=["y"]).tolist()
        [0]
    """
    mask = torch.ones(len(catalogue), dtype=torch.bool)
    if where is not None:
        mask &= torch.from_numpy(_condition(table, where).to_numpy(writable=True))
    if allow is not None:
        mask &= _named(catalogue, allow, "allow")
    mask &= ~_named(catalogue, deny, None)
    return None if bool(mask.all()) else torch.nonzero(mask)[:, 0]


def _condition(table: pl.DataFrame, where: pl.Expr) -> pl.Series:
    try:
        result = table.select(where)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"a condition on the columns {table.columns}",
            f"{type(error).__name__}: {error}",
            "where",
            "name columns of the catalogue and compare them with values of their type",
        ) from error
    if list(result.schema.values()) != [pl.Boolean] or len(result) != len(table):
        raise DataError(
            "true or false for every candidate",
            f"{len(result)} rows of {dict(result.schema)}",
            "where",
            "write one condition; combine several with & or |",
        )
    return result.to_series().fill_null(False)


def _named(catalogue: Catalogue, keys: Iterable[str | int], warn_as: str | None) -> Tensor:
    given: object = keys
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DataError("a list of keys", repr(given), "allow or deny", f"write [{given!r}], or leave it out")
    asked = list(keys)
    mask = torch.zeros(len(catalogue), dtype=torch.bool)
    if not asked:
        return mask
    rows = catalogue.rows(asked)
    unknown = int((rows < 0).sum())
    if unknown and warn_as is not None:
        warnings.warn(f"{warn_as}: {unknown} of {len(asked)} keys are no candidates", RetrankWarning, stacklevel=4)
    mask[rows[rows >= 0]] = True
    return mask
