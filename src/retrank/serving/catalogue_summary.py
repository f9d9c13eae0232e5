"""`CatalogueSummary`: what a person must know of a catalogue to look around in it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, final

import polars as pl

from retrank.core.errors import ConfigError
from retrank.recommender.conditions import condition

__all__ = ["CatalogueSummary"]

_SAMPLE: Final = 10_000  # rows that the examples are made from
_LONGEST: Final = 40  # characters of an example's value
_TEXT: Final = (pl.String, pl.Categorical, pl.Enum)
_TITLES: Final = ("title", "name", "headline", "label")  # the likeliest first
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@final
@dataclass(frozen=True)
class CatalogueSummary:
    """What there is to read and to filter by.

    Args:
        title: the column that names candidates to people, by the look of it; None if no column does.
        columns: the type of each column without the key, by name.
        groups: the columns whose values candidates share, such as genres.
        conditions: examples of conditions in SQL, each true for some candidates.
    """

    title: str | None
    columns: Mapping[str, str]
    groups: tuple[str, ...]
    conditions: tuple[str, ...]

    @classmethod
    def of(cls, table: pl.DataFrame, key: str) -> Self:
        """Look at a catalogue; of a large one, at its first rows.

        Args:
            table: one row per candidate.
            key: the column of their keys.

        Example:
            >>> import polars as pl
            >>> from retrank.serving.catalogue_summary import CatalogueSummary
            >>> films = {"id": [1, 2, 3], "film_title": ["Heat", "Big", "Jaws"], "year": [1995, 1988, 1975]}
            >>> summary = CatalogueSummary.of(pl.DataFrame(films), "id")
            >>> summary.title, summary.conditions
            ('film_title', ('year >= 1988',))
        """
        columns = table.drop(key)
        title = _title(columns)
        sample = (columns if title is None else columns.drop(title)).head(_SAMPLE)
        groups = tuple(column.name for column in sample if _is_shared(column))
        conditions: dict[type, str] = {}  # one of each kind
        for column in sample:
            for kind, text in _conditions(column):
                if kind not in conditions and _is_true_for_some(text, sample):
                    conditions[kind] = text
        return cls(
            title, {name: str(dtype) for name, dtype in columns.schema.items()}, groups, tuple(conditions.values())
        )


def _title(columns: pl.DataFrame) -> str | None:
    names = [name for name, dtype in columns.schema.items() if dtype in _TEXT]
    for wanted in _TITLES:
        for name in names:
            if name.lower() == wanted:
                return name
    for wanted in _TITLES:
        for name in names:
            if re.split(r"[\W_]+", name.lower())[-1] == wanted:
                return name
    return None


def _is_shared(column: pl.Series) -> bool:
    if column.dtype.is_integer() or column.dtype == pl.Boolean:
        return 0 < column.drop_nulls().n_unique() <= (len(column) - column.null_count()) / 2
    return _most_common(column) is not None


def _most_common(column: pl.Series) -> str | None:
    """Return the text that most candidates of a column have; None if they hardly share any."""
    if isinstance(column.dtype, pl.List) and column.dtype.inner in _TEXT:
        column = column.explode()
    elif column.dtype not in _TEXT:
        return None
    values = column.drop_nulls().cast(pl.String)
    values = values.filter(values.str.len_chars().is_between(1, _LONGEST))
    if not len(values) or values.n_unique() > len(values) / 2:
        return None
    counts = values.value_counts(sort=True)
    top = counts.filter(pl.col("count") == counts["count"][0])[values.name]
    return str(top.sort()[0])  # among equals always the same


def _conditions(column: pl.Series) -> Iterator[tuple[type, str]]:
    """Yield conditions that may be true for some candidates, each with its kind."""
    name = column.name if _PLAIN.fullmatch(column.name) else '"' + column.name.replace('"', '""') + '"'
    if column.dtype.is_numeric():
        middle: Any = column.cast(pl.Float64, strict=False).fill_nan(None).median()
        if middle is not None and middle - middle == 0 and column.n_unique() > 1:
            yield float, f"{name} >= {int(middle) if column.dtype.is_integer() else round(middle, 3)}"
    elif column.dtype == pl.Boolean:
        yield bool, f"{name} = TRUE"
    elif (value := _most_common(column)) is not None:
        quoted = "'" + value.replace("'", "''") + "'"
        is_list = isinstance(column.dtype, pl.List)
        yield (list, f"array_contains({name}, {quoted})") if is_list else (str, f"{name} = {quoted}")


def _is_true_for_some(text: str, sample: pl.DataFrame) -> bool:
    """Tell whether a condition can be read and is true for some rows; not everything can be written in SQL."""
    try:
        return sample.filter(condition(text, "where")).height > 0
    except (ConfigError, pl.exceptions.PolarsError):
        return False
