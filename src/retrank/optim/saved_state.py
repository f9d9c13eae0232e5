"""What `state_dict` returned, checked before an optimizer loads it: all of it is loaded, or nothing."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from retrank.core.errors import ConfigError

__all__ = ["LOADING", "ExpectedGroup", "keep_dtypes", "require_saved"]

CheckState: TypeAlias = Callable[[Tensor, Mapping[str, Any], Mapping[str, Any], str], None]

LOADING: Final = "load_state_dict of an optimizer"
"""The place, for messages."""
_PARTS: Final = {"state": Mapping, "param_groups": Sequence}


@final
class ExpectedGroup(NamedTuple):
    """A group of parameters, and what a saved one must have in common with it."""

    group: Mapping[str, Any]
    settings: Collection[str]
    """Names of what it must hold. More is fine: schedulers have entries of their own."""
    check_state: CheckState
    """Raises if the state of a parameter does not fit: takes the parameter, its saved group and state, and its name."""


def require_saved(saved: Any, groups: Sequence[ExpectedGroup]) -> None:
    """Check that an optimizer can go on from a saved state.

    Args:
        saved: what `state_dict` returned.
        groups: those of the optimizer.

    Raises:
        ConfigError: other groups, settings or entries than those of the optimizer.
        ShapeError: a tensor that does not fit its parameter.
        DataError: a number of steps that cannot be.
    """
    if not isinstance(saved, Mapping) or not all(isinstance(saved.get(k), t) for k, t in _PARTS.items()):
        raise _error("a dict with the dict 'state' and the list 'param_groups'", _outline(saved))
    saved_groups, states = saved["param_groups"], saved["state"]
    if len(saved_groups) != len(groups):
        raise _error(f"{len(groups)} groups of parameters", str(len(saved_groups)))
    for number, (saved_group, expected) in enumerate(zip(saved_groups, groups, strict=True)):
        _require_group(saved_group, expected, number)
    numbers = list(chain.from_iterable(group["params"] for group in saved_groups))
    if len(set(numbers)) < len(numbers) or not states.keys() <= set(numbers):
        raise _error("a number for each parameter, and states of those alone", f"{numbers} and {list(states)}")
    for saved_group, (group, _, check_state) in zip(saved_groups, groups, strict=True):
        names = group.get("param_names") or saved_group["params"]
        for number, name, parameter in zip(saved_group["params"], names, group["params"], strict=True):
            state = states.get(number, {})
            if not isinstance(state, Mapping):
                raise _error(f"a dict as the state of parameter '{name}'", type(state).__name__)
            if not is_lazy(parameter):  # it has a shape; else its first step will look
                check_state(parameter, saved_group, state, name)


def keep_dtypes(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Undo what torch does to the state that it loads: it gives all of it the dtype of its parameter.

    Args:
        optimizer: has loaded `saved`.
        saved: what `state_dict` returned.
    """
    for saved_group, group in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        for number, parameter in zip(saved_group["params"], group["params"], strict=True):
            for name, value in saved["state"].get(number, {}).items():
                if not isinstance(value, Tensor):
                    continue
                loaded = optimizer.state[parameter][name]
                if loaded.dtype != value.dtype:
                    loaded = value.to(parameter.device, copy=True)
                optimizer.state[parameter][name] = loaded.contiguous()


def _require_group(saved: Any, expected: ExpectedGroup, number: int) -> None:
    where, num_parameters = f"group {number} of parameters", len(expected.group["params"])
    if not isinstance(saved, Mapping) or not isinstance(saved.get("params"), Sequence):
        raise _error(f"{where} as a dict with the list 'params'", _outline(saved))
    if missing := set(expected.settings) - saved.keys():
        raise _error(f"{where} with {sorted(missing)}", str(sorted(map(str, saved))))
    for name in ("params", "param_names"):
        if name in saved and (not isinstance(saved[name], Sequence) or len(saved[name]) != num_parameters):
            raise _error(f"{where} with {num_parameters} '{name}'", repr(saved[name])[:80])
    if not all(isinstance(entry, int) for entry in saved["params"]):
        raise _error(f"{where} with parameters by number", repr(saved["params"])[:80])


def _outline(value: Any) -> str:
    return str(sorted(map(str, value))) if isinstance(value, Mapping) else type(value).__name__


def _error(expected: str, got: str) -> ConfigError:
    return ConfigError(expected, got, LOADING, "load what state_dict() of an optimizer built the same way returned")
