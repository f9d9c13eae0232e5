"""Tensors as safetensors files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from retrank.core.errors import StorageError
from retrank.core.values import built_from

__all__ = ["load_weights_of", "parse_tensors", "write_tensors"]


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Args:
        path: the file, in a draft.
        tensors: by name; contiguous, on the CPU, and none a view of another.

    Raises:
        StorageError: the file cannot be written, e.g. because the disk is full.
    """
    try:
        save_file(dict(tensors), path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            "a file that can be written", str(error), str(path), "check the space on the disk"
        ) from error


def parse_tensors(content: bytes, where: str) -> dict[str, Tensor]:
    """Read the content of a safetensors file.

    Sizes that its header states are compared with its length before any memory is taken for them.

    Args:
        content: of the file.
        where: the file, for messages.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        StorageError: the content is damaged.
    """
    with built_from(where):
        return load(content)


def load_weights_of(module: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Load weights that must be exactly those of a module.

    Args:
        module: receives them.
        state: by name.
        where: the file, for messages.

    Raises:
        StorageError: a tensor that is missing, too many, or of another shape or dtype.
    """
    for name, mine in module.state_dict().items():
        found = state.get(name)
        if isinstance(mine, Tensor) and (not isinstance(found, Tensor) or found.dtype != mine.dtype):
            got = str(found.dtype) if isinstance(found, Tensor) else "nothing" if found is None else repr(found)[:80]
            raise StorageError(str(mine.dtype), got, f"{where}, {name}", "restore the file")
    with built_from(where):
        module.load_state_dict(state)
