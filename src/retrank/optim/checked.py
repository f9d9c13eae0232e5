"""`CheckedOptimizer`: an optimizer that looks at everything before it changes anything."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from retrank.core.errors import RetrankError
from retrank.ops.optimizer_step import Update, optimizer_step
from retrank.optim.saved_state import ExpectedGroup, keep_dtypes, require_saved

__all__ = ["CheckedOptimizer", "named_groups", "step_together"]


class CheckedOptimizer(torch.optim.Optimizer, ABC):
    """A step is taken by all parameters or by none; a saved state is loaded whole or not at all."""

    settings: ClassVar[tuple[str, ...]]
    """What each of its groups has."""

    @abstractmethod
    def updates(self) -> list[Update]:
        """Return what `optimizer_step` is to do for a step; nothing if the optimizer steps by itself.

        Raises:
            RetrankError: a step that cannot be taken, as far as it can be seen here.
        """

    @abstractmethod
    def check_state(self, parameter: Tensor, group: Mapping[str, Any], state: Mapping[str, Any], name: str) -> None:
        """Check what is about to be loaded for a parameter.

        Args:
            parameter: as it is now.
            group: its settings, as saved.
            state: as saved, empty if the parameter has taken no step.
            name: of the parameter, for messages.

        Raises:
            RetrankError: it does not fit.
        """

    def expected_groups(self) -> list[ExpectedGroup]:
        """Say what saved groups must hold."""
        return [ExpectedGroup(group, self.settings, self.check_state) for group in self.param_groups]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another optimizer of the same parameters stopped.

        Args:
            state_dict: what its `state_dict` returned. A state from before a parameter grew is fine.

        Raises:
            ConfigError: other groups, settings or entries than this optimizer has; nothing is loaded then, nor in the
                other cases.
            ShapeError: a tensor of another shape or dtype than its parameter needs.
            DataError: a number of steps that cannot be.
        """
        require_saved(state_dict, self.expected_groups())
        super().load_state_dict(state_dict)
        keep_dtypes(self, state_dict)


def named_groups(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], Sequence[str]]]:
    """Go through groups of parameters.

    Args:
        optimizer: whose groups.

    Returns:
        Each group, and a name for each of its parameters.
    """
    for number, group in enumerate(optimizer.param_groups):
        yield group, group.get("param_names") or [f"{place} of group {number}" for place in range(len(group["params"]))]


def step_together(states: dict[Tensor, Any], updates: list[Update]) -> None:
    """Take a step, or leave everything as it is.

    Args:
        states: by parameter; those of the updates are among them.
        updates: of one optimizer, or of several.

    Raises:
        RetrankError: see `optimizer_step`.
    """
    try:
        optimizer_step(updates)
    except RetrankError:
        for update in updates:
            if not update.state:  # torch makes an entry for every parameter that is asked for
                states.pop(update.parameter, None)
        raise
