"""Columns of numbers as matrices."""

from collections.abc import Sequence

from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.mlp import MLP

__all__ = ["number_schemas", "number_stack", "number_columns"]


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
    """
    return [ColumnSchema(column, "number") if isinstance(column, str) else column for column in columns]


def number_stack(embeddings: Embeddings, columns: Sequence[str | ColumnSchema]) -> nn.Module | None:
    """Return a bottom stack that embeds numbers among ids: Σ xᵢ vᵢ, with a learned vector per number.

    Args:
        embeddings: whose vectors determine the length.
        columns: the dense features; there is no stack without them.

    Returns:
        A linear map without bias to the length of the embeddings, or None.
    """
    return MLP(None, [max(embeddings.dims.values())], bias=False) if columns else None
