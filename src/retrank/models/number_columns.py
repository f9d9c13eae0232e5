"""Columns of numbers as matrices."""

from collections.abc import Sequence

from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.mlp import MLP

__all__ = ["number_columns", "number_schemas", "number_stack", "require_known"]


def number_columns(batch: Batch, names: Sequence[str]) -> list[Tensor]:
    """Return columns of numbers as matrices.

    Args:
        batch: has the columns, `(batch,)` or `(batch, width)`; a batch may have no rows.
        names: which.

    Returns:
        A float32 tensor `(batch, width)` per column.
    """
    columns = [batch[name].float() for name in names]
    return [column.unsqueeze(1) if column.dim() == 1 else column.flatten(1) for column in columns]


def number_schemas(columns: Sequence[str | ColumnSchema]) -> list[ColumnSchema]:
    """Return the schemas of dense features.

    Args:
        columns: schemas; a name is a column of one number per row.

    Raises:
        ConfigError: a column that may be NaN.
    """
    schemas = [ColumnSchema(column, "number") if isinstance(column, str) else column for column in columns]
    require_known(schemas, "dense_features")
    return schemas


def require_known(columns: Sequence[ColumnSchema], where: str) -> None:
    """Refuse columns in which NaN stands for what is unknown: every vector that they touch would become NaN.

    Args:
        columns: what a model is to read.
        where: the argument, for the message.

    Raises:
        ConfigError: a column that may be NaN.
    """
    for column in columns:
        if column.may_be_nan:
            raise ConfigError(
                "numbers that are all known, as inputs of a model",
                f"'{column.name}', which may be NaN",
                where,
                "use it as a label only, or give its feature a fill=",
            )


def number_stack(embeddings: Embeddings, columns: Sequence[str | ColumnSchema]) -> nn.Module | None:
    """Return a bottom stack that embeds numbers among ids: Σ xᵢ vᵢ, with a learned vector per number.

    Args:
        embeddings: whose vectors determine the length.
        columns: the dense features; there is no stack without them.

    Returns:
        A linear map without bias to the length of the embeddings, or None.
    """
    return MLP(None, [max(embeddings.dims.values())], bias=False) if columns else None
