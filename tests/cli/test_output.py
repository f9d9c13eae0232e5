import datetime as dt
import decimal
import json

import polars as pl
import pytest
from rich.console import Console

from retrank.cli.output import print_json, table_of


def test_json_holds_whatever_a_table_holds(capsys):
    row = pl.DataFrame(
        {
            "day": [dt.date(2020, 2, 1)],
            "at": [dt.datetime(2020, 2, 1, 10, 30)],
            "time": [dt.time(10, 30)],
            "long": [dt.timedelta(hours=1)],
            "price": [decimal.Decimal("1.50")],
            "score": [float("nan")],
            "scores": [[1.0, float("inf"), None]],
            "name": ["x"],
        }
    )
    print_json({"rows": row.to_dicts(), "tuple": (1, float("-inf"))})
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=pytest.fail) == {
        "rows": [
            {
                "day": "2020-02-01",
                "at": "2020-02-01T10:30:00",
                "time": "10:30:00",
                "long": "1:00:00",
                "price": "1.50",
                "score": None,
                "scores": [1.0, None, None],
                "name": "x",
            }
        ],
        "tuple": [1, None],
    }


def test_tables_show_text_as_it_is(capsys):
    Console(width=80).print(table_of(pl.DataFrame({"[id]": ["[bold]x"], "n": [0.12345]}), "[/title]"))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[id]", "[bold]x", "0.123", "[/title]"))
