"""Golden cases: numbers computed once by running the peers' own libraries."""

import json
from pathlib import Path
from typing import Any


def cases(stem: str) -> list[dict[str, Any]]:
    """Return the cases of one file, e.g. `cases("tfrs_mlp")`."""
    loaded: list[dict[str, Any]] = json.loads(Path(__file__).with_name(f"{stem}.json").read_text())
    return loaded
