"""The reference of all settings of a run, made from the models that check them."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, Final

from retrank import features
from retrank.cli.config import RunConfig

__all__ = ["reference"]

_INTRODUCTION: Final = """\
# Configuration

`retrank train run.toml` reads a run from a TOML file; `retrank config` prints one to begin with. Paths are relative to
the file. An entry that is unknown, of another type or out of range is refused before anything is computed; numbers
stand without quotes. This page is made from the code that checks the file, by `python tools/configuration.py`.
"""
_BOUNDS: Final = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_TYPES: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}


def reference() -> str:
    """Describe every setting.

    Returns:
        A page of Markdown.

    Example:
        >>> from retrank.cli.reference import reference
        >>> print(reference().splitlines()[0])
        # Configuration
    """
    schema = RunConfig.model_json_schema()
    lines = [_INTRODUCTION, *_part(schema, schema["$defs"], "The whole file", ""), *_kinds()]
    return "\n".join(lines).rstrip() + "\n"


def _part(part: dict[str, Any], parts: dict[str, Any], title: str, prefix: str) -> Iterator[str]:
    yield from (f"## {title}", "", part["description"], "")
    required, inner = part.get("required", []), []
    yield from ("| entry | type | default | meaning |", "|---|---|---|---|")
    for name, entry in part["properties"].items():
        if found := _part_of(entry):
            inner.append((name, entry, found))
            continue
        default = "required" if name in required else _written(entry["default"])
        yield f"| `{name}` | {_type_of(entry)} | {default} | {entry['description']} |"
    yield ""
    for name, entry, found in inner:
        place = f"{prefix}{name}"
        shown = {"object": f"[{place}.NAME]", "array": f"[[{place}]]"}.get(entry.get("type", ""), f"[{place}]")
        is_required = ", required" if name in required else ""
        yield from _part(parts[found], parts, f"`{shown}`{is_required}", f"{place}.")


def _part_of(entry: dict[str, Any]) -> str | None:
    """Return the name of the part of the file that an entry is, or holds several of."""
    inner = [entry, entry.get("items", {}), entry.get("additionalProperties", {}), *entry.get("anyOf", [])]
    found = (one["$ref"].rpartition("/")[2] for one in inner if isinstance(one, dict) and "$ref" in one)
    return next(found, None)


def _type_of(entry: dict[str, Any]) -> str:
    if "anyOf" in entry:
        return " or ".join(_type_of(one) for one in entry["anyOf"] if one.get("type") != "null")
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if entry["type"] == "array":
        return f"list of: {_type_of(entry['items'])}"
    if entry["type"] == "object":
        return f"table of: {_type_of(entry['additionalProperties'])}"
    if entry.get("format") == "path":
        return "path"
    bounds = [f"{words} {_number(entry[name])}" for name, words in _BOUNDS.items() if name in entry]
    return " ".join([_TYPES[entry["type"]], " and ".join(bounds)]).strip()


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


def _written(value: Any) -> str:
    return "" if value in (None, {}) else f"`{json.dumps(value)}`"


def _kinds() -> Iterator[str]:
    yield from ("## Kinds of features", "", "The arguments of each are entries beside `kind`.", "")
    yield from ("| kind | arguments | what it is |", "|---|---|---|")
    yield "| `History` | those of `Recent` | `Recent` if interactions have an order, and else `Seen`. |"
    for name in features.__all__:
        kind = getattr(features, name)
        if inspect.isclass(kind) and issubclass(kind, features.Feature) and not inspect.isabstract(kind):
            arguments = ", ".join(map(_argument, inspect.signature(kind).parameters.values()))
            yield f"| `{name}` | {arguments} | {(inspect.getdoc(kind) or '').splitlines()[0]} |"


def _argument(argument: inspect.Parameter) -> str:
    if argument.default is inspect.Parameter.empty:
        return f"`{argument.name}` (required)"
    return f"`{argument.name}`" if argument.default is None else f"`{argument.name} = {json.dumps(argument.default)}`"
