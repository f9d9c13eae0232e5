"""`Tower`: the features of a query or candidate, in one vector."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.schema import UNKNOWN_ID, ColumnSchema
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.table import EmbeddingTable
from retrank.features.space import FeatureSpace
from retrank.layers.mlp import MLP

__all__ = ["Tower"]


@final
class Tower(Configurable, nn.Module):
    """Embeds id features, pools lists of ids by their mean, takes numbers as they are, and mixes all in an `MLP`.

    The first feature is the one that identifies the row, such as `movie_id`. A key that is new after training has no
    vector of its own there; with `unknown_rate` the tower learns to do without.

    Args:
        space: a fitted feature space, whose schema sizes the tables and inputs.
        features: names of its features, the identifying one first.
        layers: width of each dense layer, the last without activation. None: the inputs side by side are the output.
        dim: length of the vector of every id feature.
        dropout: share of the hidden values set to zero in training.
        l2: factor of the squared norm of the vectors that a batch looks up.
        unknown_rate: share of the rows whose first feature is taken for unknown in training.
        id_residual: whether another vector of the first feature is added to the output of the dense layers, so that
            deep towers can still tell every key from every other.

    Raises:
        ConfigError: no features, one that the space does not have, or an option that would do nothing.

    Example:
        >>> import polars as pl, retrank as rr
        >>> movies = pl.DataFrame({"movie_id": [1, 2, 3], "genres": [["a"], ["a", "b"], []]})
        >>> space = rr.FeatureSpace({"movie_id": rr.features.Categorical(), "genres": rr.features.CategoricalList()})
        >>> tower = rr.models.Tower(space.fit(movies), ["movie_id", "genres"], layers=[16, 8])
        >>> tower(space.transform(movies)).shape
        torch.Size([3, 8])

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, 2016.
    """

    def __init__(
        self,
        space: FeatureSpace,
        features: Sequence[str],
        layers: Sequence[int] = (64, 32),
        *,
        dim: int = 32,
        dropout: float = 0.0,
        l2: float = 0.0,
        unknown_rate: float = 0.0,
        id_residual: bool = False,
    ) -> None:
        super().__init__()
        self.space, self.features, self.unknown_rate = space, tuple(features), unknown_rate
        schemas = [_column(space, name) for name in self.features]
        ids = [schema for schema in schemas if schema.kind == "ids"]
        self._check(schemas, layers, dropout, l2, id_residual=id_residual)
        self.numbers = tuple(schema.name for schema in schemas if schema.kind == "number")
        self.embeddings = (
            EmbeddingCollection({schema.name: EmbeddingTable(schema, dim, l2=l2) for schema in ids}) if ids else None
        )
        width = len(ids) * dim + sum(schema.width for schema in schemas if schema.kind == "number")
        self.mlp = MLP(width, layers, dropout=dropout) if layers else None
        self.out_features = width if self.mlp is None else self.mlp.out_features
        self.residual = (
            EmbeddingTable(schemas[0], self.out_features, scale=0.01, l2=l2, name=f"{self.id_feature}_residual")
            if id_residual
            else None
        )

    @property
    def id_feature(self) -> str:
        """The feature that identifies a row: the first."""
        return self.features[0]

    def forward(self, batch: Batch) -> Tensor:
        """Embed rows.

        Args:
            batch: has the tower's features.

        Returns:
            `(batch, out_features)`.
        """
        if self.training and self.unknown_rate > 0:
            batch = self._hide(batch)
        vectors = [] if self.embeddings is None else list(self.embeddings(batch).values())
        numbers = [batch[name].float().reshape(len(batch), -1) for name in self.numbers]
        output = torch.cat([*vectors, *numbers], dim=1)
        if self.mlp is not None:
            output = self.mlp(output)
        return output if self.residual is None else output + self.residual(batch[self.id_feature])

    def _hide(self, batch: Batch) -> Batch:
        ids = batch[self.id_feature]
        hidden = torch.rand(len(batch), device=ids.device) < self.unknown_rate
        return batch.merge({self.id_feature: ids.masked_fill(hidden, UNKNOWN_ID)})

    def _check(
        self, schemas: list[ColumnSchema], layers: Sequence[int], dropout: float, l2: float, *, id_residual: bool
    ) -> None:
        problem = None
        starts_with_id = bool(schemas) and schemas[0].kind == "ids" and not schemas[0].is_jagged
        if not schemas or len({schema.name for schema in schemas}) < len(schemas):
            problem = ("one feature or more, each once", str(list(self.features)))
        elif any(schema.kind == "number" and schema.is_jagged for schema in schemas):
            problem = ("numbers of fixed width", "a list of numbers")
        elif not 0 <= self.unknown_rate < 1:
            problem = ("0 <= unknown_rate < 1", str(self.unknown_rate))
        elif self.unknown_rate > 0 and not starts_with_id:
            problem = ("one id a row as first feature, for unknown_rate", f"'{schemas[0].name}'")
        elif id_residual and not (starts_with_id and layers):
            problem = ("one id a row as first feature, and layers, for id_residual", f"'{schemas[0].name}', {layers}")
        elif dropout > 0 and len(layers) < 2:
            problem = ("two layers or more, for dropout", str(list(layers)))
        elif l2 > 0 and all(schema.kind == "number" for schema in schemas):
            problem = ("an id feature, for l2", str(list(self.features)))
        if problem is not None:
            raise ConfigError(*problem, "Tower", "correct the argument")


def _column(space: FeatureSpace, name: str) -> ColumnSchema:
    if name not in space.schema:
        raise ConfigError(
            f"one of {list(space.schema)}", repr(name), "features of Tower", "add it to the feature space"
        )
    return space.schema[name]
