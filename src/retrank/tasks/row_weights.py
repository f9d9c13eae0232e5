"""Weights of rows in the forms in which they come: one a row, a column of them, or one for all."""

from torch import Tensor

from retrank.core.tensors import as_tensor

__all__ = ["as_row_weights"]


def as_row_weights(weight: Tensor | float | None, predictions: Tensor, where: str) -> Tensor | None:
    """Bring weights to one a row; those of the predictions' own shape, or of a wrong one, stay as they are.

    Args:
        weight: a number for all rows, `(batch,)`, `(batch, 1)`, or of the predictions' shape; None for 1.
        predictions: `(batch, ...)`.
        where: the task, for messages.

    Returns:
        The weights, still to be checked.

    Raises:
        ShapeError: neither a number nor a tensor.

    Example:
        >>> import torch
        >>> from retrank.tasks.row_weights import as_row_weights
        >>> as_row_weights(torch.tensor([[1.0], [2.0]]), torch.zeros(2), "Ranking")
        tensor([1., 2.])
        >>> as_row_weights(3.0, torch.zeros(2), "Ranking")
        tensor([3., 3.])
    """
    if weight is None:
        return None
    rows = predictions.shape[:1]
    if isinstance(weight, int | float):
        return predictions.detach().new_full(rows, weight)
    weight = as_tensor(weight, "weight", where)
    if weight.shape == predictions.shape:
        return weight
    if weight.dim() == 0:
        return weight.expand(rows)
    return weight.squeeze(1) if weight.shape == (*rows, 1) else weight
