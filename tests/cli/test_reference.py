"""The page of settings says what the code checks."""

from pathlib import Path

from pydantic import BaseModel

from retrank.cli import config
from retrank.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_current():
    assert PAGE.read_text() == reference(), "run python tools/configuration.py"


def test_every_setting_is_described():
    models = [m for m in vars(config).values() if isinstance(m, type) and issubclass(m, BaseModel) and m.__doc__]
    fields = [
        (m.__name__, name, f) for m in models if m.__module__ == config.__name__ for name, f in m.model_fields.items()
    ]
    assert len(fields) > 40
    for model, name, field in fields:
        is_part = "Config" in str(field.annotation)
        assert is_part or field.description, f"{model}.{name}"
        assert is_part or f"| `{name}` |" in reference(), f"{model}.{name}"


def test_bounds_and_defaults_are_told():
    page = reference()
    assert "| `dropout` | number at least 0 and below 1 | `0.1` |" in page
    assert "| `query` | text | required | The column of query keys" in page
    assert "## `[features.NAME]`, required" in page
    assert "`separator`" in page
