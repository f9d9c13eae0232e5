"""Checks of what a ranking model is built from and fed with."""

from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, DataError
from retrank.embeddings.embeddings import Embeddings

__all__ = ["require_embeddings", "row_weights"]


def require_embeddings(value: object, where: str) -> None:
    """Refuse a lone table, or a dict of them.

    Args:
        value: what was given as embeddings.
        where: the argument, for the message.

    Raises:
        ConfigError: it is of another kind.
    """
    if not isinstance(value, Embeddings):
        raise ConfigError(
            "rr.embeddings.Embeddings, such as an EmbeddingCollection or a UnifiedEmbedding",
            type(value).__name__,
            where,
            "put the tables into rr.EmbeddingCollection({feature: table})",
        )


def row_weights(batch: Batch, column: str | None, where: str) -> Tensor | None:
    """Return the weight of each row, which a model that has weights needs in evaluation as in training.

    Args:
        batch: the examples.
        column: where the weights are, None for equal weights.
        where: the model, for the message.

    Returns:
        `(batch,)`, also of a column `(batch, 1)`.

    Raises:
        DataError: the column is missing.
    """
    if column is None:
        return None
    if column not in batch:
        raise DataError(
            f"the column '{column}' with the weight of each row",
            f"the columns {list(batch.names)}",
            where,
            "give every row a weight, in evaluation too; 1 leaves it as it is",
        )
    weight: Tensor = batch[column]
    return weight.squeeze(1) if weight.shape == (len(batch), 1) else weight
