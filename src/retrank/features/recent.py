"""`Recent`: what a query did last, in the ids of the candidates."""

from collections.abc import Mapping
from typing import ClassVar, final

import polars as pl
import torch

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.schema import ColumnSchema
from retrank.data.keys import Nulls, as_keys, key_type
from retrank.features.arguments import check_count, check_nulls, check_number
from retrank.features.categorical import VocabularyFeature
from retrank.features.kinds import Emits, Feature, fitted
from retrank.features.list_columns import flatten
from retrank.features.statistics import Agreement
from retrank.features.vocabulary import Vocabulary

__all__ = ["Recent", "share_vocabularies"]


@final
class Recent(Feature):
    """A column of lists of keys, the latest last, as a `Jagged` of ids in the vocabulary of another feature.

    Each id has a weight, 1 for the latest and less for older ones, that pooled embeddings honour.

    Args:
        of: the feature whose vocabulary the keys are in, e.g. `"movie_id"`.
        max_length: a longer list keeps its last keys, this many; None keeps all.
        decay: the weight of a key with n later ones is `exp(-decay * n)`.
        nulls: "error" refuses null lists and nulls in lists; "unknown" makes a null list empty and gives a null in a
            list id 1.
        column: the column to read; the feature's name by default.

    Raises:
        ConfigError: `max_length` below 1 or a negative `decay`.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"film": ["Big", "Heat", "Heat"], "recent": [[], ["Big"], ["Big", "Heat"]]})
        >>> kinds = {"film": rr.features.Categorical(), "recent": rr.features.Recent("film", decay=0.7)}
        >>> recent = rr.FeatureSpace(kinds).fit(views).transform(views)["recent"]
        >>> recent.to_lists(), recent.weights
        ([[], [3], [3, 2]], tensor([1.0000, 0.4966, 1.0000]))
    """

    emits: ClassVar[Emits] = "lists of ids"

    def __init__(
        self,
        of: str,
        *,
        max_length: int | None = None,
        decay: float = 0.0,
        nulls: Nulls = "error",
        column: str | None = None,
    ) -> None:
        super().__init__(column)
        check_count(max_length, "max_length", "Recent")
        check_nulls(nulls, "Recent")
        check_number(decay, "decay", "Recent", least=0)
        self.of, self.max_length, self.decay, self.nulls = of, max_length, decay, nulls
        self._vocabulary: Vocabulary | None = None

    def share(self, vocabulary: Vocabulary) -> None:
        """Use a vocabulary from now on.

        Args:
            vocabulary: that of the feature `of`.
        """
        self._vocabulary = vocabulary

    def summarize(self, values: pl.Series, *, first_row: int = 0) -> Agreement:
        """Check a part; there is nothing to learn from it; see `Feature.summarize`."""
        flat = flatten(values, self.nulls, first_row=first_row).values
        return Agreement(key_type(as_keys(flat, None, "unknown")) if len(flat) else None)

    def transform(self, values: pl.Series, name: str) -> Jagged:  # noqa: ARG002
        """Turn lists of keys into a `Jagged` of ids with weights, oldest first; see `Feature.transform`."""
        vocabulary = fitted(self._vocabulary, self)
        if self.max_length is not None and isinstance(values.dtype, pl.List):
            values = values.list.tail(self.max_length)
        lists = flatten(values, self.nulls)
        recent = lists.jagged(vocabulary.ids(lists.values))
        later = recent.offsets[1:][recent.row_index()] - torch.arange(1, len(recent.values) + 1)
        return Jagged(recent.values, recent.offsets, torch.exp(-self.decay * later))

    def schema(self, name: str) -> ColumnSchema:
        """Describe the ids; see `Feature.schema`."""
        return ColumnSchema(name, "ids", is_jagged=True, num_ids=fitted(self._vocabulary, self).num_ids)


def share_vocabularies(features: Mapping[str, Feature]) -> None:
    """Give every `Recent` the vocabulary it names, if that is fitted.

    Args:
        features: kind of each feature by name.

    Raises:
        ConfigError: a `Recent` of a feature that does not exist or has no vocabulary.
    """
    for name, feature in features.items():
        if isinstance(feature, Recent):
            owner = features.get(feature.of)
            if not isinstance(owner, VocabularyFeature):
                with_one = [other for other, kind in features.items() if isinstance(kind, VocabularyFeature)]
                raise ConfigError(
                    f"one of {with_one}", f"'{feature.of}'", f"feature '{name}'", "name the candidates' key"
                )
            if owner.is_fitted:
                feature.share(owner.vocabulary)
