"""Which weights are embedding tables, for optimizers that treat them differently."""

from torch import nn

from retrank.embeddings.table import EmbeddingTable

__all__ = ["dense_parameters", "embedding_parameters"]


def embedding_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of all embedding tables, whose gradients are row-sparse.

    Args:
        model: the module that contains them.

    Returns:
        Each table once, in module order.
    """
    return [module.weight for module in model.modules() if isinstance(module, EmbeddingTable)]


def dense_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return all other weights.

    Args:
        model: the module that contains them.

    Returns:
        Each parameter once, in module order.
    """
    tables = {id(weight) for weight in embedding_parameters(model)}
    return [parameter for parameter in model.parameters() if id(parameter) not in tables]
