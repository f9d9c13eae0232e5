"""What a baseline has learned, checked when it comes back from a file."""

from collections.abc import Mapping

import torch
from torch import Tensor

from retrank.core.errors import DataError

__all__ = ["require_tensors"]


def require_tensors(
    learned: Mapping[str, Tensor], expected: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], where: str
) -> dict[str, Tensor]:
    """Require tensors of certain types and shapes, and finite numbers in them.

    Args:
        learned: by name.
        expected: the dtype and shape of each.
        where: whose they are, for messages.

    Returns:
        The tensors, as they are.

    Raises:
        DataError: one is missing, too many, of another dtype or shape, or not finite.
    """
    if learned.keys() != expected.keys():
        raise DataError(f"the tensors {sorted(expected)}", str(sorted(learned)), where)
    for name, (dtype, shape) in expected.items():
        tensor = learned[name]
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise DataError(f"{dtype} {shape}", got, f"{name} of {where}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError("finite numbers", "NaN or infinity", f"{name} of {where}")
    return dict(learned)
