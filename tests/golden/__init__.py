"""Golden cases: numbers computed once by running the peers' own libraries.

A test asks for them with `golden`. `tests/golden/test_coverage.py` reads what all tests ask for, and fails on a case
that none of them does.
"""

import json
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]


def cases(stem: str) -> list[Case]:
    """Return the cases of one file, e.g. `cases("tfrs_mlp")`."""
    loaded: list[Case] = json.loads(Path(__file__).with_name(f"{stem}.json").read_text())
    return loaded


def golden(stem: str, *names: str, without: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test for each `case` of a file: for those named, or for all but some."""
    chosen = {case["name"]: case for case in cases(stem)}
    unknown = {*names, *without} - chosen.keys()
    assert not unknown, f"{stem}.json has no {sorted(unknown)}"
    kept = [case for name, case in chosen.items() if name in (names or chosen) and name not in without]
    return pytest.mark.parametrize("case", kept, ids=lambda case: case["name"])
