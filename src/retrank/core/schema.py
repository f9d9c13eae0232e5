"""What a transformed column holds: enough for a model to size its tables and inputs."""

from dataclasses import dataclass
from typing import Final, Literal, final

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError

__all__ = ["NUM_SPECIAL_IDS", "PADDING_ID", "UNKNOWN_ID", "ColumnSchema", "Schema"]

PADDING_ID: Final = 0
"""The id of a place that holds nothing; its embedding is zero."""
UNKNOWN_ID: Final = 1
"""The id of every key that the vocabulary does not know."""
NUM_SPECIAL_IDS: Final = 2
"""Ids below this are padding and unknown; vocabularies start here."""


@final
@dataclass(frozen=True)
class ColumnSchema(Configurable):
    """The description of one transformed column.

    Args:
        name: the column's name in a `Batch`.
        kind: `"ids"` (int64 vocabulary ids) or `"number"` (float32).
        is_jagged: whether a row holds a list of any length.
        num_ids: for ids, the number of table rows they need, padding and unknown included; None for numbers.
        width: for numbers, the values in a row.
        may_be_nan: for numbers, whether NaN stands for what is unknown. A label may be; what a model reads may not.

    Raises:
        ConfigError: ids without `num_ids`, numbers with it, ids that may be NaN, or a size below 1.

    Example:
        >>> import retrank as rr
        >>> rr.core.ColumnSchema("user_id", "ids", num_ids=945).num_ids
        945
    """

    name: str
    kind: Literal["ids", "number"]
    is_jagged: bool = False
    num_ids: int | None = None
    width: int = 1
    may_be_nan: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("ids", "number"):
            raise ConfigError("'ids' or 'number'", repr(self.kind), f"kind of column '{self.name}'")
        if (self.kind == "ids") != (self.num_ids is not None):
            raise ConfigError(
                "num_ids for ids and only for ids",
                f"kind={self.kind!r}, num_ids={self.num_ids}",
                f"schema of column '{self.name}'",
            )
        if self.kind == "ids" and self.may_be_nan:
            raise ConfigError("numbers, for may_be_nan", "ids", f"schema of column '{self.name}'")
        if self.width < 1 or (self.num_ids is not None and self.num_ids < NUM_SPECIAL_IDS):
            raise ConfigError(
                f"width >= 1 and num_ids >= {NUM_SPECIAL_IDS} (padding and unknown)",
                f"width={self.width}, num_ids={self.num_ids}",
                f"schema of column '{self.name}'",
            )


Schema = dict[str, ColumnSchema]
"""Column name to its description, in column order."""
