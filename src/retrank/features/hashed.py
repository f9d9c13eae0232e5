"""Keys as ids without a vocabulary: by a stable hash."""

from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from typing_extensions import TypedDict

from retrank.core.arguments import check_count
from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID, ColumnSchema
from retrank.core.values import checked
from retrank.data.blocks import in_blocks
from retrank.data.keys import KeyType, Nulls, as_keys, check_nulls, key_type
from retrank.features.hashing import bucket_ids, hash_integers, hash_strings, salt_of
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.state import State
from retrank.features.statistics import Agreement, Summary

__all__ = ["Hashed"]


class _Learned(TypedDict):
    key_type: KeyType


@final
class Hashed(Feature):
    """A column of keys as the ids of hash buckets, for keys that are too many or too new for a vocabulary.

    Several keys share a bucket, and no key is unknown. The hash is salted with the feature's name: two features that
    hash one column collide on different keys. Fitting only learns the type of the keys.

    Args:
        bins: number of buckets; ids run from 2 to `bins + 1`.
        nulls: "error" refuses nulls, "unknown" gives them id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `bins` below 1.

    Example:
        >>> import polars as pl, retrank as rr
        >>> clicks = pl.DataFrame({"url": ["a.org", "b.org", "a.org"]})
        >>> space = rr.FeatureSpace({"url": rr.features.Hashed(100)}).fit(clicks)
        >>> space.schema["url"].num_ids, space.transform(clicks)["url"].unique().numel()
        (102, 2)

    Source: `string_hashed` and `integer_hashed` of Keras' FeatureSpace, with a hash of our own.
    """

    emits: ClassVar[Emits] = "ids"

    def __init__(self, bins: int, *, nulls: Nulls = "error", column: str | None = None) -> None:
        super().__init__(column)
        check_count(bins, "bins", "Hashed")
        check_nulls(nulls, "Hashed")
        self.bins, self.nulls = bins, nulls
        self._key_type: KeyType | None = None

    def summarize(self, values: pl.Series) -> Agreement:
        """Tell the key type; see `Feature.summarize`."""
        return Agreement(key_type(as_keys(values, None, self.nulls)))

    def learn(self, summary: Summary, *, where: str) -> None:  # noqa: ARG002
        """Keep the key type; see `Feature.learn`."""
        assert isinstance(summary, Agreement)
        self._key_type = summary.fact

    def transform(self, values: pl.Series, name: str) -> Tensor:
        """Turn keys into `(rows,)` int64 bucket ids; see `Feature.transform`."""
        keys, salt = as_keys(values, fitted(self._key_type, self), self.nulls), salt_of(name)

        def convert(block: pl.Series) -> npt.NDArray[np.int64]:
            if block.dtype == pl.String:
                hashes = hash_strings(block.fill_null(""), salt)
            else:
                hashes = hash_integers(block.cast(pl.Int64).fill_null(0).to_numpy(), salt)
            ids = bucket_ids(hashes, self.bins)
            return np.where(block.is_null().to_numpy(), UNKNOWN_ID, ids) if block.null_count() else ids

        return torch.from_numpy(in_blocks(keys, np.int64, convert))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", num_ids=self.bins + NUM_SPECIAL_IDS)

    def state(self) -> State:
        """Return the key type; see `Feature.state`."""
        return State({"key_type": fitted(self._key_type, self)}, {})

    def load_state(self, state: State, *, where: str) -> None:
        """Take over a key type; see `Feature.load_state`."""
        self._key_type = checked(state.values, _Learned, where)["key_type"]
