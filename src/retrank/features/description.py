"""A feature space as a readable table."""

from collections.abc import Mapping

from retrank.core.schema import Schema
from retrank.features.cross import Cross
from retrank.features.fitting import column_of
from retrank.features.kinds import Feature

__all__ = ["describe"]


def describe(features: Mapping[str, Feature], crosses: Mapping[str, Cross], schema: Schema) -> str:
    """Write a line for each feature: its name, column, what it emits and its kind.

    Args:
        features: kind of each feature by name.
        crosses: each cross by name.
        schema: the fitted schema; empty before fitting, when sizes are left out.

    Returns:
        Lines in aligned columns, under a header.
    """
    rows = [("feature", "column", "emits", "kind")]
    rows += [
        (name, column_of(name, kind), _emits(kind.emits, name, schema), repr(kind)) for name, kind in features.items()
    ]
    rows += [(name, "", _emits("ids", name, schema), repr(cross)) for name, cross in crosses.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _emits(emits: str, name: str, schema: Schema) -> str:
    if name not in schema:
        return emits
    column = schema[name]
    return f"{emits}, {column.width if column.num_ids is None else column.num_ids:,}"
