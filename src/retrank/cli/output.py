"""What the commands print: tables for people, JSON for machines."""

import datetime as dt
import json
import math
from typing import Any

import polars as pl
from rich.markup import escape
from rich.table import Table

__all__ = ["print_json", "table_of"]


def print_json(content: Any) -> None:
    """Print one JSON object on one line.

    Args:
        content: dicts, lists and any scalars that a table may hold: dates and times are written in ISO 8601, NaN and
            infinities as null, other things (decimals, durations) as text.

    Example:
        >>> import datetime
        >>> from retrank.cli.output import print_json
        >>> print_json({"day": datetime.date(2020, 2, 1), "score": float("nan")})
        {"day": "2020-02-01", "score": null}
    """
    print(json.dumps(_finite(content), default=_text_of, allow_nan=False))  # noqa: T201


def table_of(rows: pl.DataFrame, title: str) -> Table:
    """Lay out rows for the terminal.

    Args:
        rows: what to show.
        title: the line above.

    Returns:
        A table with all columns.
    """
    table = Table(*map(escape, rows.columns), title=escape(title), title_justify="left")
    for row in rows.iter_rows():
        table.add_row(*(escape(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text_of(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
