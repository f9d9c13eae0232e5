"""`quantized`: a model with smaller tables, for serving."""

import copy
from typing import Any, TypeVar

from torch import nn

from retrank.core.config import Configurable, recorded_change
from retrank.core.errors import ConfigError
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.int8 import BYTES_A_ROW, Int8Table

__all__ = ["quantized"]

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@recorded_change
def quantized(model: AnyModule) -> AnyModule:
    """Copy a model, with an `Int8Table` in place of every `EmbeddingTable` that gets smaller by it.

    Those are float32 tables of 3 dimensions or more, and half-precision ones of 9 or more; biases stay as they are.
    Tables that make up others, such as the buckets of a `HashedTable`, are replaced too, and shared tables stay shared.
    The copy is in evaluation mode, cannot be trained, and is saved and loaded as any model is. Its feature space and
    catalogue are those of the model itself.

    Args:
        model: a trained model, or any module that holds tables.

    Returns:
        The copy; for a table itself see `EmbeddingTable.to_int8`.

    Raises:
        ConfigError: no table would get smaller.
        DataError: a weight is not finite.

    Example:
        >>> import torch, retrank as rr
        >>> model = rr.EmbeddingCollection({"movie_id": rr.EmbeddingTable(100, 32), "tag": rr.EmbeddingTable(50, 1)})
        >>> [type(table).__name__ for table in rr.embeddings.quantized(model).tables]
        ['Int8Table', 'EmbeddingTable']
    """
    modules = list(model.modules())
    replaced = {id(part): part.to_int8() for part in modules if isinstance(part, EmbeddingTable) and _shrinks(part)}
    if not replaced and not any(isinstance(part, Int8Table) for part in modules):
        raise ConfigError(
            "a float32 table of 3 dimensions or more, or one in half precision of 9 or more",
            "none",
            f"quantized of {type(model).__name__}",
            "serve the model as it is",
        )
    copied = copy.deepcopy(model, {**replaced, **_shared(modules)})
    return copied.eval()


def _shrinks(table: EmbeddingTable) -> bool:
    return table.dim + BYTES_A_ROW < table.dim * table.weight.element_size()


def _shared(modules: list[nn.Module]) -> dict[int, Any]:
    """Return what a copy refers to as the original does: what bundles keep once, too."""
    values = [value for part in modules for value in vars(part).values()]
    values += [
        value for part in modules if isinstance(part, Configurable) for value in part.recorded_arguments().values()
    ]
    return {
        id(value): value for value in values if isinstance(value, Configurable) and value.config_context is not None
    }
