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
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.space import FeatureSpace
from retrank.layers.mlp import MLP
from retrank.models.number_columns import number_columns, require_known
from retrank.models.prepared_tower import PreparedTower

__all__ = ["Tower"]


@final
class Tower(Configurable, nn.Module):
    """Embeds id features, pools lists of ids by their mean, takes numbers as they are, and mixes all in an `MLP`.

    The first feature is the one that identifies the row, such as `movie_id`. A key that is new after training has no
    vector of its own there; with `unknown_rate` the tower learns to do without.

    Args:
        space: a fitted feature space, whose schema sizes the tables and inputs.
        features: names of its features, the identifying one first.
        layers: width of each dense layer, the last without activation. None: the concatenated inputs are the output.
        dim: length of the vector of every id feature.
        dropout: share of the hidden values set to zero in training.
        l2: factor of the squared norm of the vectors that a batch looks up.
        unknown_rate: share of the rows whose first feature is replaced by unknown in training.
        residual: an id feature, one id or a list, with a table of its own whose vector is added to the output of the
            dense layers, so that deep towers can still distinguish all keys: the candidate's own id, or the query's
            `Recent` candidates. If it is not among `features`, the dense layers see that vector too.

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
        residual: str | None = None,
    ) -> None:
        super().__init__()
        self.space, self.features, self.unknown_rate = space, tuple(features), unknown_rate
        self.residual_feature = residual
        schemas = [_schema_of(space, name) for name in self.features]
        ids = [schema for schema in schemas if schema.kind == "ids"]
        self._check(schemas, layers, dropout, l2)
        require_known(schemas, "features of Tower")
        self.numbers = tuple(schema.name for schema in schemas if schema.kind == "number")
        self.embeddings = (
            EmbeddingCollection({schema.name: EmbeddingTable(schema, dim, l2=l2) for schema in ids}) if ids else None
        )
        width = len(ids) * dim + sum(schema.width for schema in schemas if schema.kind == "number")
        if layers and residual is not None and residual not in self.features:
            width += layers[-1]
        self.mlp = MLP(width, layers, dropout=dropout) if layers else None
        self.out_features = width if self.mlp is None else self.mlp.out_features
        self.residual = None if residual is None else self._residual_table(residual, l2)

    @property
    def id_feature(self) -> str:
        """The feature that identifies a row: the first."""
        return self.features[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every feature that `forward` reads."""
        return tuple(
            dict.fromkeys([*self.features, *([] if self.residual_feature is None else [self.residual_feature])])
        )

    def forward(self, batch: Batch) -> Tensor:
        """Embed rows.

        Args:
            batch: has the tower's features.

        Returns:
            `(batch, out_features)`.
        """
        if self.training and self.unknown_rate > 0:
            batch = self._replace_by_unknown(batch)
        others, residual = number_columns(batch, self.numbers), None
        if self.residual is not None and self.residual_feature is not None:
            residual = self.residual(batch[self.residual_feature])
            others += [] if self.residual_feature in self.features else [residual]
        inputs = torch.cat(others, dim=1) if self.embeddings is None else self.embeddings.concatenate(batch, others)
        output: Tensor = inputs if self.mlp is None else self.mlp(inputs)
        return output if residual is None else residual + output

    def prepared(self) -> PreparedTower:
        """Return what embeds rows as `forward` does out of training, in less time, for a model that does not change.

        Returns:
            Takes a batch, and gives the bits of `forward`. It does not call the modules, nor their hooks.
        """
        feature, table = self.residual_feature, self.residual
        return PreparedTower(
            [] if self.embeddings is None else [(name, self.embeddings[name]) for name in self.embeddings.features],
            self.numbers,
            self.mlp,
            None if feature is None or table is None else (feature, table),
            shows_residual=feature is not None and feature not in self.features,
        )

    def _replace_by_unknown(self, batch: Batch) -> Batch:
        ids = batch[self.id_feature]
        hidden = torch.rand(len(batch), device=ids.device) < self.unknown_rate
        return batch.merge({self.id_feature: ids.masked_fill(hidden, UNKNOWN_ID)})

    def _residual_table(self, name: str, l2: float) -> EmbeddingTable:
        schema = _schema_of(self.space, name)
        if schema.kind != "ids" or self.mlp is None:
            raise ConfigError("an id feature, and layers", f"'{name}', {schema.kind}", "residual of Tower")
        return EmbeddingTable(schema, self.out_features, combiner="sqrtn", scale=0.03, l2=l2, name=f"{name}_residual")

    def _check(self, schemas: list[ColumnSchema], layers: Sequence[int], dropout: float, l2: float) -> None:
        problem = None
        starts_with_id = bool(schemas) and schemas[0].kind == "ids" and not schemas[0].is_jagged
        if not schemas or len({schema.name for schema in schemas}) < len(schemas):
            problem = ("one feature or more, each once", str(list(self.features)))
        elif any(schema.kind == "number" and schema.is_jagged for schema in schemas):
            problem = ("numbers of fixed width", "a list of numbers")
        elif not 0 <= self.unknown_rate < 1:
            problem = ("0 <= unknown_rate < 1", str(self.unknown_rate))
        elif self.unknown_rate > 0 and not starts_with_id:
            problem = ("one id per row as first feature, for unknown_rate", f"'{schemas[0].name}'")
        elif dropout > 0 and len(layers) < 2:
            problem = ("two layers or more, for dropout", str(list(layers)))
        elif l2 > 0 and all(schema.kind == "number" for schema in schemas):
            problem = ("an id feature, for l2", str(list(self.features)))
        if problem is not None:
            raise ConfigError(*problem, "Tower")


def _schema_of(space: FeatureSpace, name: str) -> ColumnSchema:
    if name not in space.schema:
        raise ConfigError(f"one of {list(space.schema)}", repr(name), "features of Tower")
    return space.schema[name]
