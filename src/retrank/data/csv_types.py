"""What the columns of CSV files hold, which say nothing of types: looked up in all of their rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, final

import polars as pl

from retrank.core.errors import DataError

__all__ = ["SEPARATORS", "CsvTypes", "Types", "csv_types", "guessed_of_text", "reading", "scan_csv"]

Types = Mapping[str, pl.DataType | type[pl.DataType]]
"""Column name to type."""

SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
"""What stands between the values of a file, by its ending."""

_GUESS_ROWS: Final = 10_000
_UTC: Final = pl.Datetime("us", "UTC")
_CLOCK: Final = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_WRITTEN: Final[dict[pl.DataType, str]] = {
    pl.Date(): r"^\d{4}-\d{2}-\d{2}$",
    pl.Datetime("us"): rf"^\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK}$",
    _UTC: rf"^\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK}( ?UTC|Z|[+-]\d{{2}}(:?\d{{2}})?)$",
}
"""How dates, times, and times with a zone are written in ISO 8601."""


@final
class CsvTypes(NamedTuple):
    """What a look at all rows of CSV files gave.

    Attributes:
        types: column name to type, in order.
        counts: the rows of each file.
    """

    types: dict[str, pl.DataType]
    counts: list[int]


def csv_types(files: Sequence[Path], given: Types) -> CsvTypes:
    """Find out the types of CSV files' columns.

    Types are guessed from the first rows of the first file, and then held against every row: a number with leading
    zeros or a plus sign is a key and no number, so that its column is text; a column of nothing but dates or times in
    ISO 8601 holds dates or times.

    Args:
        files: with the same columns.
        given: types that are not guessed.

    Returns:
        The types and the number of rows.

    Raises:
        DataError: a file cannot be read, or a date is none.
    """
    with reading(files[0]):
        first = pl.scan_csv(
            files[0], separator=SEPARATORS[files[0].suffix.lower()], schema_overrides=_stored(given),
            infer_schema_length=_GUESS_ROWS, glob=False,
        )  # fmt: skip
        types = dict(first.collect_schema())
        head = scan_csv(files[0], {}).head(_GUESS_ROWS).collect()
    types |= {name: _instance(dtype) for name, dtype in given.items()}
    numbers = [name for name, dtype in types.items() if name not in given and dtype.is_numeric()]
    texts = [name for name, dtype in types.items() if name not in given and dtype == pl.String]
    maybe = {name: dtype for name in texts if (dtype := _time_type(head[name])) is not None}
    found, counts = _looked_up(files, numbers, maybe)
    for name in numbers:
        types[name] = pl.String() if found[name] else types[name]
    for name, dtype in maybe.items():
        types[name] = types[name] if found[name] else dtype
    _require_times(files, types)
    return CsvTypes(types, counts)


def scan_csv(file: Path, types: Types) -> pl.LazyFrame:
    """Read a CSV file whose types are known, when it is collected.

    Args:
        file: the file.
        types: of its columns; those of others are text.

    Returns:
        The table.
    """
    written = pl.scan_csv(
        file, separator=SEPARATORS[file.suffix.lower()], schema_overrides=_stored(types), infer_schema=False, glob=False
    )
    return written.with_columns(
        _parsed(pl.col(name), dtype) for name, dtype in types.items() if _instance(dtype).is_temporal()
    )


def guessed_of_text(values: pl.Series) -> pl.Series:
    """Give texts the type that they would have in a CSV file.

    Args:
        values: texts, with nulls.

    Returns:
        The same as integers, dates or times, or as they are.

    Example:
        >>> import polars as pl
        >>> from retrank.data.csv_types import guessed_of_text
        >>> guessed_of_text(pl.Series(["1", "20"])).to_list(), guessed_of_text(pl.Series(["01", "20"])).to_list()
        ([1, 20], ['01', '20'])
    """
    if values.drop_nulls().str.contains(r"^(0|-?[1-9]\d{0,17})$").all() and values.null_count() < len(values):
        return values.cast(pl.Int64)
    dtype = _time_type(values)
    if dtype is None:
        return values
    parsed = values.to_frame().select(_parsed(pl.first(), dtype)).to_series()
    return parsed if parsed.null_count() == values.null_count() else values


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what polars says about a file into a `DataError` that names the file.

    Args:
        file: what is read inside.

    Raises:
        DataError: it cannot be read.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        summary = str(error).strip().partition("\n")[0]
        raise DataError(
            "a readable table",
            f"{type(error).__name__}: {summary}",
            str(file),
            "the file is damaged, cut short or of another kind; for CSV whose types were guessed wrongly, pass schema= "
            "(in TOML: [data.types])",
        ) from error


def _looked_up(
    files: Sequence[Path], numbers: Sequence[str], times: Mapping[str, pl.DataType]
) -> tuple[dict[str, bool], list[int]]:
    """Say which columns hold a padded number, or something that is not written as a time, and count the rows."""
    checks = [pl.col(name).str.contains(r"^\s|^\+|^-?0\d|^-0$|\s$").any() for name in numbers]
    checks += [(~pl.col(name).str.contains(_WRITTEN[dtype])).any() for name, dtype in times.items()]
    found = dict.fromkeys((*numbers, *times), False)
    counts = []
    for file in files:
        with reading(file):
            row = (
                scan_csv(file, {})
                .select(*checks, pl.len().alias("\0len"))
                .collect(engine="streaming")
                .row(0, named=True)
            )
        counts.append(int(row.pop("\0len")))
        found = {name: found[name] or bool(is_bad) for name, is_bad in row.items()}
    return found, counts


def _require_times(files: Sequence[Path], types: Mapping[str, pl.DataType]) -> None:
    times = {name: dtype for name, dtype in types.items() if dtype.is_temporal()}
    if not times:
        return
    bad = {name: pl.col(name).is_not_null() & _parsed(pl.col(name), dtype).is_null() for name, dtype in times.items()}
    for file in files:
        with reading(file):
            table = scan_csv(file, {}).select(*times)
            rows = (
                table.select(
                    pl.struct(
                        pl.arg_where(expression).first().alias("row"),
                        pl.col(name).filter(expression).first().alias("text"),
                    ).alias(name)
                    for name, expression in bad.items()
                )
                .collect()
                .row(0, named=True)
            )
        for name, first in rows.items():
            if first["row"] is not None:
                raise DataError(
                    f"a {'date' if times[name] == pl.Date else 'time'} in ISO 8601, as {times[name]}",
                    repr(first["text"]), f"column '{name}'", "correct it, or declare the column as text",
                    row=first["row"], table=str(file),
                )  # fmt: skip


def _time_type(values: pl.Series) -> pl.DataType | None:
    """Return the one type as which all texts of a column are written."""
    given = values.drop_nulls()
    if not len(given):
        return None
    return next((dtype for dtype, pattern in _WRITTEN.items() if given.str.contains(pattern).all()), None)


def _parsed(column: pl.Expr, dtype: pl.DataType | type[pl.DataType]) -> pl.Expr:
    if dtype == pl.Date:
        return column.str.to_date("%Y-%m-%d", strict=False)
    if dtype == pl.Time:
        return column.str.to_time("%H:%M:%S%.f", strict=False)
    if not isinstance(_instance(dtype), pl.Datetime):
        return column.cast(dtype, strict=False)
    exact = _instance(dtype)
    assert isinstance(exact, pl.Datetime)
    text = column.str.replace(r" ?(UTC|Z)$", "+00:00").str.replace("T", " ", literal=True)
    text = text.str.replace(r"( \d{2}:\d{2})([+-]|$)", "$1:00$2").str.replace(r"(:\d{2}(?:\.\d+)?[+-]\d{2})$", "$1:00")
    zone = "" if exact.time_zone is None else "%z"
    parsed = text.str.to_datetime(f"%Y-%m-%d %H:%M:%S%.f{zone}", time_unit=exact.time_unit, strict=False)
    return parsed if exact.time_zone is None else parsed.dt.convert_time_zone(exact.time_zone)


def _stored(types: Types) -> dict[str, pl.DataType]:
    """Return the types as which a file is read: what is a time is text first."""
    exact = {name: _instance(dtype) for name, dtype in types.items()}
    return {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in exact.items()}


def _instance(dtype: pl.DataType | type[pl.DataType]) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
