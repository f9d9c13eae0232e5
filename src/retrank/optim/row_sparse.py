"""`RowSparseOptimizer`: an optimizer that moves weights by a rule, all of them or the rows that a gradient names."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.ops.optimizer_state import next_step, require_state
from retrank.ops.optimizer_step import Update
from retrank.ops.update_rules import Rule
from retrank.optim.checked import CheckedOptimizer, named_groups, step_together
from retrank.optim.saved_state import LOADING

__all__ = ["RowSparseOptimizer"]


class RowSparseOptimizer(CheckedOptimizer):
    """What all optimizers of the package but torch's own are once they are built.

    State is created by the first gradient of a parameter, so lazily sized layers are welcome, and it grows with the
    rows of the parameter; see `optimizer_step`.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient, or none if one of them cannot be updated.

        Args:
            closure: computes the loss and its gradients anew, or None.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        step_together(self.state, self.updates())
        return loss

    def updates(self) -> list[Update]:
        """Return what a step is to do."""
        found = []
        for group, names in named_groups(self):
            rule = self._rule_of(group)
            for name, parameter in zip(names, group["params"], strict=True):
                if (gradient := parameter.grad) is not None:
                    state = self.state[parameter]
                    own = rule.for_parameter(state, is_sparse=gradient.is_sparse)
                    found.append(Update(parameter, gradient, own, state, name))
        return found

    def check_state(self, parameter: Tensor, group: Mapping[str, Any], state: Mapping[str, Any], name: str) -> None:
        """Check what is about to be loaded for a parameter; see `CheckedOptimizer`."""
        where = f"{LOADING}, parameter '{name}'"
        rule = self._rule_of(group).for_parameter(state, is_sparse=False)
        if not state:
            return
        expected = {slot.name for slot in rule.slots} | ({"step"} if rule.counts_steps else set())
        if state.keys() != expected:
            raise ConfigError(
                f"a state of {sorted(expected)}", str(sorted(map(str, state))), where, "load that of the same optimizer"
            )
        if rule.counts_steps:
            next_step(state, name)
        require_state(parameter, rule.slots, state, where)

    @staticmethod
    @abstractmethod
    def rule(*settings: Any) -> Rule:
        """Return how parameters move.

        Args:
            settings: of a group of parameters, in the order of `CheckedOptimizer.settings`.

        Raises:
            ConfigError: a setting out of range.
        """

    def _rule_of(self, group: Mapping[str, Any]) -> Rule:
        settings = [group[name] for name in self.settings]
        try:
            return self.rule(*(tuple(value) if isinstance(value, list) else value for value in settings))
        except TypeError as error:  # what cannot be hashed is no setting
            got = str(dict(zip(self.settings, settings, strict=True)))
            raise ConfigError(
                "settings that are numbers", got, "optimizer", "correct the group of parameters"
            ) from error
