"""Nested state as JSON and tensors, so that nothing is pickled.

Optimizers, schedules and callbacks keep their state in nested dicts and lists with tensors at the leaves. `flatten`
takes the tensors out, each under the name of its path, and leaves references in JSON; `unflatten` puts them back.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from retrank.core.errors import ConfigError, StorageError

__all__ = ["flatten", "unflatten"]


def flatten(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a nested value into JSON and tensors.

    Args:
        value: dicts (string or integer keys), lists, tuples, tensors, numbers, strings, booleans and None.

    Returns:
        JSON-able structure, and the tensors by name, detached, contiguous and on the CPU. A tensor that occurs
        twice is stored once.

    Raises:
        ConfigError: a leaf of another type; the message names its path.

    Example:
        >>> import torch, retrank as rr
        >>> structure, tensors = rr.training.flatten({"state": {0: {"sum": torch.ones(2)}}, "betas": (0.9, 0.99)})
        >>> list(tensors), rr.training.unflatten(structure, tensors)["betas"]
        (['state.0.sum'], (0.9, 0.99))
    """
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[Any, ...], str] = {}
    return _flatten(value, "", tensors, names), tensors


def unflatten(structure: Any, tensors: Mapping[str, Tensor], *, where: str = "saved state") -> Any:
    """Undo `flatten`.

    Args:
        structure: the JSON-able part.
        tensors: the tensors by name.
        where: the file, for messages.

    Returns:
        The nested value; tensors are on the CPU.

    Raises:
        StorageError: a tensor that the structure names is missing, or the structure is not one that `flatten` makes.
    """
    match structure:
        case list():
            return [unflatten(item, tensors, where=where) for item in structure]
        case {"tensor": str(name), **others} if not others:
            if name not in tensors:
                raise StorageError(f"the tensor '{name}'", "no such tensor", where, "use an older copy")
            return tensors[name]
        case {"tuple": list(items), **others} if not others:
            return tuple(unflatten(item, tensors, where=where) for item in items)
        case {"float": "nan" | "inf" | "-inf" as text, **others} if not others:
            return float(text)
        case {"dict": list(items), **others} if not others and all(map(_is_item, items)):
            return {key: unflatten(item, tensors, where=where) for key, item in items}
        case dict():
            raise StorageError("a saved value", repr(structure)[:80], where, "use an older copy")
    return structure


def _is_item(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and type(item[0]) in (str, int)


def _flatten(value: Any, path: str, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": _name_tensor(value, path, tensors, names)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_flatten(item, _join(path, place), tensors, names) for place, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_flatten(item, _join(path, place), tensors, names) for place, item in enumerate(value)]}
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _flatten(item, _join(path, key), tensors, names)] for key, item in value.items()]}
    raise ConfigError("dicts, lists, tensors, numbers and strings", type(value).__name__, f"state '{path}'")


def _name_tensor(value: Tensor, path: str, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> str:
    value = value.detach()
    place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype)
    shared = names.get(place) if value.numel() else None
    if shared is not None:
        return shared
    while path in tensors:  # {"a.b": x, "a": {"b": y}}
        path += "'"
    names[place] = path
    value = value.cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    tensors[path] = value if whole else value.clone()  # a file holds tensors, not views of them
    return path


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
