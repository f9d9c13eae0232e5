"""`Embeddings`: what all collections of vectors by feature have in common."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.schema import Schema
from retrank.embeddings.table import Table

__all__ = ["Embeddings"]


class Embeddings(Configurable, nn.Module, ABC):
    """A batch goes in, a vector for every feature comes out: `EmbeddingCollection`, `UnifiedEmbedding`, or your own.

    Example:
        >>> import torch, retrank as rr
        >>> class OneHot(rr.embeddings.Embeddings):
        ...     features, dims = ("gender",), {"gender": 4}
        ...     def forward(self, batch):
        ...         return {"gender": torch.nn.functional.one_hot(batch["gender"], 4).float()}
        >>> model = rr.models.dcn_v2(OneHot(), layers=[8])
        >>> model(rr.Batch({"gender": torch.tensor([2, 3])})).shape
        torch.Size([2])
    """

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """The feature names, in order."""

    @property
    @abstractmethod
    def dims(self) -> dict[str, int]:
        """The length of each feature's vector."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Look up every feature.

        Args:
            batch: has a column for every feature.

        Returns:
            Feature name to `(batch, dim)`.
        """

    def grow(self, schema: Schema) -> None:  # noqa: ARG002 (what subclasses take)
        """Make room for the ids of vocabularies that have grown, keeping the vectors of all others.

        Args:
            schema: of the grown feature space.

        Raises:
            ConfigError: these embeddings do not implement it, or a feature that the schema does not have.
        """
        raise ConfigError(
            "embeddings that know how to grow",
            f"{type(self).__name__} without grow",
            "grow",
            "define grow(schema), or build a new model",
        )

    def tables_by_feature(self) -> dict[str, Table]:
        """Return the tables that hold one vector an id, by feature; none unless a subclass has some."""
        return {}

    def linear_terms(self) -> "Embeddings":
        """Make a weight, at first 0, for every id that has a vector: the same features with vectors of length 1.

        Raises:
            ConfigError: these embeddings do not implement it.
        """
        raise ConfigError(
            "embeddings that know a weight for every id",
            f"{type(self).__name__} without linear_terms",
            "linear terms",
            "define linear_terms(), or choose a model without them",
        )
