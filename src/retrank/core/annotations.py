"""Arguments against the annotations of a constructor: whether a value can be what a type hint says."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin

from retrank.core.errors import ConfigError

__all__ = ["check_arguments"]


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that a function does not have, lacks, or whose type is not the annotated one.

    Only what is certain is refused: annotations of other kinds than classes, literals, unions and collections of such
    accept everything.

    Args:
        function: a function, or a class for its constructor.
        arguments: by name, as they would be passed.
        where: names the function in messages.

    Raises:
        ConfigError: an argument that is unknown, missing or of another type.

    Example:
        >>> import retrank as rr
        >>> from retrank.core.annotations import check_arguments
        >>> check_arguments(rr.EmbeddingTable, {"rows": 10, "dim": "4"}, "EmbeddingTable")
        Traceback (most recent call last):
        retrank.core.errors.ConfigError: EmbeddingTable(dim=...): expected <class 'int'>, got '4'; ...
    """
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ConfigError("the arguments of the type", str(error), where, "use what to_config returned") from error
    hints = _hints(function)
    for name, value in arguments.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigError(
                str(hints[name]), repr(value)[:80], f"{where}({name}=...)", "give a value of the annotated type"
            )


@lru_cache(maxsize=512)
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    target = getattr(function, "__init__") if isinstance(function, type) else function  # noqa: B009 (mypy)
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):  # imported for type checkers alone
        return {}


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in inner)
    if hint is None or hint is types.NoneType:
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    kind = origin or hint
    if not isinstance(kind, type) or kind in (object, type) or getattr(kind, "_is_protocol", False):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values() if len(inner) == 2)
    if kind in (list, tuple, set, frozenset, Sequence, Collection, Iterable):  # all of them are lists in JSON
        return _fits_collection(value, kind, [part for part in inner if part is not ...])
    return isinstance(value, kind)


def _fits_collection(value: Any, kind: type, parts: list[Any]) -> bool:
    if isinstance(value, str) or not isinstance(value, list | tuple | kind):
        return False
    if not isinstance(value, list | tuple) or not parts:
        return True
    return all(_fits(item, parts[0]) for item in value) if len(parts) == 1 else len(value) == len(parts)
