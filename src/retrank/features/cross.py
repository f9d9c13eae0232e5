"""Crosses: one id for a combination of ids."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError
from retrank.core.schema import NUM_SPECIAL_IDS, ColumnSchema
from retrank.features.hashing import bucket_ids, combine, salt_of
from retrank.features.kinds import Emits

__all__ = ["Cross"]

_ROWS: Final = 2**16  # of a block, whose hashes stay in the cache


@final
class Cross:
    """The combination of two or more id features, hashed to buckets.

    The ids are combined, not the raw values: bins cross as bins, and an unknown or rare key as the one key "unknown".
    The order of the features counts, and so does the name: two crosses collide on different combinations.

    Args:
        features: names of features of the same space that emit one id a row.
        bins: number of buckets; ids run from 2 to `bins + 1`.
        name: the cross's name; by default the names joined by `_x_`.

    Raises:
        ConfigError: fewer than two features, a feature twice, or `bins` below 1.

    Example:
        >>> import polars as pl, retrank as rr
        >>> people = pl.DataFrame({"gender": ["f", "m", "f"], "age": [20, 20, 20]})
        >>> space = rr.FeatureSpace({"gender": rr.features.Categorical(), "age": rr.features.Bucketized([18, 65])},
        ...                         crosses=[rr.features.Cross("gender", "age", bins=20)]).fit(people)
        >>> first, second, third = space.transform(people)["gender_x_age"].tolist()
        >>> first == third, first == second
        (True, False)

    Source: crosses of Keras' FeatureSpace, which hash raw values and refuse fitted bins.
    """

    def __init__(self, *features: str, bins: int, name: str | None = None) -> None:
        if len(features) < 2 or len(set(features)) != len(features):
            raise ConfigError("two or more different features", str(list(features)), "Cross")
        check_count(bins, "bins", "Cross")
        self.features, self.bins = features, bins
        self.name = name if name is not None else "_x_".join(features)

    def check(self, emits: Mapping[str, Emits]) -> None:
        """Refuse to cross anything but features that emit one id a row.

        Args:
            emits: what each feature of the space emits, by name.

        Raises:
            ConfigError: a feature that does not exist, or emits numbers or lists.
        """
        where = f"cross '{self.name}'"
        for name in self.features:
            if name not in emits:
                raise ConfigError(f"one of the features {list(emits)}", f"'{name}'", where)
            if emits[name] != "ids":
                is_number = emits[name] == "numbers"
                fix = "discretise it first, e.g. rr.features.Discretized(bins=10)" if is_number else "leave it out"
                raise ConfigError(
                    "features that emit one id per row", f"'{name}', which emits {emits[name]}", where, fix
                )

    def combine(self, columns: Sequence[Tensor]) -> Tensor:
        """Combine the ids of each row.

        Args:
            columns: `(rows,)` int64 ids of each feature, in the order of `features`.

        Returns:
            `(rows,)` int64 ids in `[2, 2 + bins)`.
        """
        salt = salt_of(self.name)
        ids = np.empty(len(columns[0]), dtype=np.int64)
        for first in range(0, len(ids), _ROWS):
            block = [column[first : first + _ROWS].numpy() for column in columns]
            ids[first : first + _ROWS] = bucket_ids(combine(block, salt), self.bins)
        return torch.from_numpy(ids)

    def schema(self) -> ColumnSchema:
        """Describe the ids."""
        return ColumnSchema(self.name, "ids", num_ids=self.bins + NUM_SPECIAL_IDS)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments as JSON-able values."""
        return {"features": list(self.features), "bins": self.bins, "name": self.name}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Cross":
        """Build from what `to_json` returned.

        Args:
            content: the arguments.

        Returns:
            An equal cross.
        """
        return cls(*content["features"], bins=content["bins"], name=content["name"])

    def __repr__(self) -> str:
        return f"Cross({', '.join(map(repr, self.features))}, bins={self.bins})"
