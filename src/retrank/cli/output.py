"""What the commands print: tables for people, JSON for machines."""

import json
from typing import Any

import polars as pl
from rich.markup import escape
from rich.table import Table

from retrank.core.plain_json import to_json

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
    print(json.dumps(to_json(content), allow_nan=False))  # noqa: T201


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
