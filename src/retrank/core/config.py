"""Objects that can be rebuilt from JSON: their constructor's arguments, recorded as they are built."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Self, TypeVar, cast

from torch import nn

from retrank.core.annotations import check_arguments
from retrank.core.errors import ConfigError, RetrankError
from retrank.core.names import known_by_name, public_name

__all__ = ["Configurable", "from_config", "recorded_change", "to_config"]

Value = TypeVar("Value")

_FIX: Final = "use what to_config returned"
_REGISTRY: Final[dict[str, type["Configurable"]]] = {}
_CHANGES: Final[dict[str, Callable[[Any], Any]]] = {}
_TORCH_MODULES: Final[dict[str, type[nn.Module]]] = {
    f"torch.nn.{kind.__name__}": kind
    for kind in (
        nn.BCELoss, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.Dropout, nn.ELU, nn.GELU, nn.HuberLoss, nn.Identity,
        nn.L1Loss, nn.LeakyReLU, nn.Linear, nn.MSELoss, nn.ReLU, nn.SELU, nn.Sequential, nn.SiLU, nn.Sigmoid,
        nn.SmoothL1Loss, nn.Softplus, nn.Softsign, nn.Tanh,
    )
}  # fmt: skip


class Configurable:
    """A base class whose objects remember their constructor's arguments, for `to_config` and `from_config`.

    A subclass writes its `__init__` as ever, or is a dataclass. Subclasses that set `config_context` are not
    rebuilt but looked up by that name, as a feature space is: many objects of one bundle share it. Where an argument
    was renamed, `former_arguments` maps its name of old to that of today, so that what was saved can still be read.

    Example:
        >>> import retrank as rr
        >>> mlp = rr.layers.MLP(4, [8, 1], dropout=0.1)
        >>> rr.core.to_config(mlp)["arguments"]["units"]
        [8, 1]
        >>> rr.core.from_config(rr.core.to_config(mlp)).config == mlp.config
        True

    Source: the config round trip of Keras layers, without its per-class `get_config`.
    """

    config_context: ClassVar[str | None] = None
    former_arguments: ClassVar[Mapping[str, str]] = {}
    _arguments: dict[str, Any]
    _changes: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _REGISTRY[public_name(cls)] = cls
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", _recording(cls.__init__))  # noqa: B010 (mypy refuses the assignment)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-able values."""
        arguments: dict[str, Any] = to_config(self)["arguments"]
        return arguments

    def recorded_arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments as they are: of a dataclass its fields, otherwise what was recorded."""
        fields: dict[str, dataclasses.Field[Any]] | None = getattr(self, "__dataclass_fields__", None)
        if fields is not None:
            return {name: getattr(self, name) for name, field in fields.items() if field.init}
        return dict(getattr(self, "_arguments", {}))

    def record_shared(self, **shared: Any) -> None:
        """Record other shared objects than were given, such as a feature space that has grown.

        Args:
            shared: arguments of the constructor whose types have a `config_context`.
        """
        self._record(**shared)

    def _record(self, **changed: Any) -> None:
        """Record other arguments than were given, which build an equal object: what they stood for, in plain values.

        Args:
            changed: arguments of the constructor.
        """
        self._arguments.update(changed)

    def _changed_by(self, change: str) -> Self:
        """Record a change that `from_config` makes again; see `recorded_change`."""
        object.__setattr__(self, "_changes", tuple(dict.fromkeys([*self._changes, change])))
        return self


def to_config(value: Any) -> Any:
    """Turn an object into JSON-able values.

    Args:
        value: None, a boolean, number or string; a list, tuple or dict (string keys) of such; a `Configurable`;
            a torch activation, loss, `Linear`, `Dropout` or `Sequential`.

    Returns:
        JSON-able values from which `from_config` builds an equal object (weights are not part of it). Types are named
        as users import them, e.g. `retrank.layers.MLP`.

    Raises:
        ConfigError: the object is of another kind.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_config(item) for item in value]
    if isinstance(value, Mapping):
        return {"type": "dict", "items": {_string(key): to_config(item) for key, item in value.items()}}
    if isinstance(value, Configurable):
        if value.config_context is not None:
            return {"type": "context", "name": value.config_context}
        arguments = {name: to_config(argument) for name, argument in value.recorded_arguments().items()}
        changes = {"changes": list(value._changes)} if value._changes else {}
        return {"type": public_name(type(value)), "arguments": arguments, **changes}
    if isinstance(value, nn.Module) and _TORCH_MODULES.get(f"torch.nn.{type(value).__name__}") is type(value):
        return {"type": f"torch.nn.{type(value).__name__}", "arguments": _torch_arguments(value)}
    raise ConfigError(
        "a plain value, a Configurable or a common torch module",
        type(value).__name__,
        "to_config",
        "derive its class from rr.core.Configurable",
    )


def from_config(config: Any, **context: Any) -> Any:
    """Build the object that `to_config` described.

    Args:
        config: the JSON-able values.
        context: shared objects by name, e.g. `space=...`.

    Returns:
        An equal object with new weights.

    Raises:
        ConfigError: an unknown type (import the module that defines it first), arguments that it does not take, or a
            missing context object.
    """
    match config:
        case list():
            return [from_config(item, **context) for item in config]
        case {"type": "dict", "items": dict(items), **others} if not others:
            return {name: from_config(item, **context) for name, item in items.items()}
        case {"type": "context", "name": str(name), **others} if not others:
            if name not in context:
                raise ConfigError(
                    f"the shared object '{name}'", f"only {sorted(context)}", "from_config", "pass it by name"
                )
            return context[name]
        case {"type": str(kind), "arguments": dict(given), **others} if others.keys() <= {"changes"}:
            arguments = {name: from_config(item, **context) for name, item in given.items()}
            return functools.reduce(
                lambda value, change: change(value), _known_changes(others.get("changes", [])), _built(kind, arguments)
            )
        case dict():
            raise ConfigError("a 'type' with its arguments", f"the keys {list(config)}", "from_config", _FIX)
    return config


def recorded_change(function: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """Decorate a function that returns a changed copy, so that `from_config` changes what it rebuilds in the same way.

    Args:
        function: takes an object and returns one of the same type; the change must depend on its arguments alone.

    Returns:
        The function, which leaves its name on `Configurable` results.
    """
    name = public_name(function)

    @functools.wraps(function)
    def changed(value: Value) -> Value:
        result = function(value)
        return cast("Value", result._changed_by(name)) if isinstance(result, Configurable) else result

    _CHANGES[name] = changed
    return changed


def _built(name: str, arguments: dict[str, Any]) -> Any:
    registry: Mapping[str, type] = _TORCH_MODULES if name.startswith("torch.nn.") else _REGISTRY
    kind = known_by_name(registry, name, "type")
    if kind is nn.Sequential:
        children = arguments.get("children")
        if not isinstance(children, list) or not all(isinstance(child, nn.Module) for child in children):
            raise ConfigError("modules as children", f"the arguments {list(arguments)}", name, _FIX)
        return nn.Sequential(*children)
    arguments = _renamed(arguments, getattr(kind, "former_arguments", {}), name)
    check_arguments(kind, arguments, name)
    try:
        return kind(**arguments)
    except RetrankError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ConfigError("arguments that fit together", f"{type(error).__name__}: {error}", name, _FIX) from error


def _renamed(arguments: dict[str, Any], former: Mapping[str, str], where: str) -> dict[str, Any]:
    """Give arguments that had other names in earlier versions those of today."""
    twice = [f"{old} and {new}" for old, new in former.items() if {old, new} <= arguments.keys()]
    if twice:
        raise ConfigError("one name per argument", f"both {twice[0]}", where, _FIX)
    return {former.get(argument, argument): value for argument, value in arguments.items()}


def _known_changes(names: Any) -> list[Callable[[Any], Any]]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError("a list of names as changes", repr(names), "from_config", _FIX)
    return [known_by_name(_CHANGES, name, "change") for name in names]


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        if "_arguments" not in self.__dict__:  # the outermost constructor wins over those it calls
            bound = signature.bind(self, *args, **kwargs)
            given = dict(list(bound.arguments.items())[1:])
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_POSITIONAL and parameter.name in given:
                    raise ConfigError(
                        "named arguments only", f"*{parameter.name}", type(self).__name__, "take a sequence instead"
                    )
            object.__setattr__(self, "_arguments", given)
        init(self, *args, **kwargs)

    return recorded


def _torch_arguments(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, nn.Sequential):
        return {"children": [to_config(child) for child in module]}
    if isinstance(module, nn.Linear):
        return {"in_features": module.in_features, "out_features": module.out_features, "bias": module.bias is not None}
    names = inspect.signature(type(module)).parameters
    values = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}


def _string(key: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError("string keys", type(key).__name__, "to_config", "name the entries by strings")
    return key
