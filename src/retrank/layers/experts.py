"""Experts that several tasks share: `MMoE`, `CGC`, and the stack of the latter, `PLE`."""

from collections.abc import Mapping, Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.gate import Gate
from retrank.layers.mlp import MLP

__all__ = ["CGC", "PLE", "SHARED", "MMoE"]

SHARED: Final = "shared"
"""The name of the vector of `CGC` that belongs to no task."""


@final
class MMoE(Configurable, nn.Module):
    """Multi-gate mixture of experts: all tasks use the same experts, each task mixes them by a gate of its own.

    Args:
        in_features: width of the input, None to take it from the first one.
        units: layers of each expert, a ReLU `MLP`.
        tasks: names, in the order of the output.
        num_experts: the number of experts.
        gate_units: layers of each gate before its softmax.
        dropout: within the experts.

    Raises:
        ConfigError: no tasks, a repeated one, or an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> experts = rr.layers.MMoE(None, [16, 8], tasks=["click", "like"], num_experts=4)
        >>> {task: vector.shape for task, vector in experts(torch.rand(3, 10)).items()}
        {'click': torch.Size([3, 8]), 'like': torch.Size([3, 8])}

    Source: Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018.
    """

    def __init__(
        self,
        in_features: int | None,
        units: Sequence[int],
        *,
        tasks: Sequence[str],
        num_experts: int = 4,
        gate_units: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tasks = _checked_tasks(tasks, "MMoE")
        self.experts = _experts(in_features, units, num_experts, dropout, "MMoE")
        self.out_features = units[-1]
        self.gates = nn.ModuleList(Gate(in_features, num_experts, units=gate_units) for _ in tasks)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute a vector for each task.

        Args:
            inputs: `(batch, in_features)`.

        Returns:
            Task to `(batch, units[-1])`.

        Raises:
            ShapeError: another width than that of the experts.
        """
        outputs = _stack(self.experts, inputs)
        return {task: gate(inputs, outputs) for task, gate in zip(self.tasks, self.gates, strict=True)}


@final
class CGC(Configurable, nn.Module):
    """Customized gate control: each task mixes its own experts and the shared ones, but not those of other tasks.

    Args:
        in_features: width of the input, None to take it from the first one.
        units: layers of each expert, a ReLU `MLP`.
        tasks: names, in the order of the output.
        num_task_experts: experts of each task.
        num_shared_experts: experts of all tasks.
        gate_units: layers of each gate before its softmax.
        dropout: within the experts.
        shared_output: whether to add, under the name `"shared"`, a mixture of all experts for the next level.

    Raises:
        ConfigError: no tasks, a repeated one or one named "shared", or an argument out of range.

    Example:
        >>> import torch, retrank as rr
        >>> experts = rr.layers.CGC(None, [8], tasks=["click", "like"], shared_output=True)
        >>> list(experts(torch.rand(3, 10)))
        ['click', 'like', 'shared']

    Source: Tang et al., Progressive Layered Extraction, RecSys 2020.
    """

    def __init__(
        self,
        in_features: int | None,
        units: Sequence[int],
        *,
        tasks: Sequence[str],
        num_task_experts: int = 1,
        num_shared_experts: int = 2,
        gate_units: Sequence[int] = (),
        dropout: float = 0.0,
        shared_output: bool = False,
    ) -> None:
        super().__init__()
        self.tasks = _checked_tasks(tasks, "CGC")
        counts = [num_task_experts] * len(tasks) + [num_shared_experts]
        self.experts = nn.ModuleList(_experts(in_features, units, count, dropout, "CGC") for count in counts)
        self.out_features = units[-1]
        mixed = [num_task_experts + num_shared_experts] * len(tasks) + [sum(counts)] * shared_output
        self.gates = nn.ModuleList(Gate(in_features, count, units=gate_units) for count in mixed)

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a vector for each task.

        Args:
            inputs: `(batch, in_features)`; or one such for each task and one named `"shared"`, as the level below
                returns them.

        Returns:
            Task, and with `shared_output` `"shared"`, to `(batch, units[-1])`.

        Raises:
            ShapeError: the input of a task or the shared one is missing, or of another width than the experts.
        """
        names = (*self.tasks, SHARED)
        if isinstance(inputs, Tensor):
            inputs = dict.fromkeys(names, inputs)
        if inputs.keys() != set(names):
            raise ShapeError(
                f"inputs named {list(names)}", str(list(inputs)), "CGC", "set shared_output one level below"
            )
        outputs = {name: _stack(experts, inputs[name]) for name, experts in zip(names, self.experts, strict=True)}
        mixed = {task: torch.cat([outputs[task], outputs[SHARED]], dim=1) for task in self.tasks}
        mixed[SHARED] = torch.cat(list(outputs.values()), dim=1)
        return {name: gate(inputs[name], mixed[name]) for name, gate in zip(names, self.gates, strict=False)}


@final
class PLE(Configurable, nn.Module):
    """Progressive layered extraction: levels of `CGC`, each fed by the one below.

    Args:
        in_features: width of the input, None to take it from the first one.
        levels: for each level, the layers of its experts; with one level this is `CGC`.
        tasks: names, in the order of the output.
        num_task_experts: experts of each task, in each level.
        num_shared_experts: experts of all tasks, in each level.
        gate_units: layers of each gate before its softmax.
        dropout: within the experts.

    Raises:
        ConfigError: no levels, or as for `CGC`.

    Example:
        >>> import torch, retrank as rr
        >>> experts = rr.layers.PLE(None, [[32], [16, 8]], tasks=["click", "like"])
        >>> {task: vector.shape for task, vector in experts(torch.rand(3, 10)).items()}
        {'click': torch.Size([3, 8]), 'like': torch.Size([3, 8])}

    Source: Tang et al., Progressive Layered Extraction, RecSys 2020.
    """

    def __init__(
        self,
        in_features: int | None,
        levels: Sequence[Sequence[int]],
        *,
        tasks: Sequence[str],
        num_task_experts: int = 1,
        num_shared_experts: int = 2,
        gate_units: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not levels or not all(levels):
            raise ConfigError(
                "one level or more, each of one layer or more",
                repr(levels),
                "PLE",
                "give each level its experts' layers",
            )
        self.tasks, self.out_features = _checked_tasks(tasks, "PLE"), levels[-1][-1]
        self.levels = nn.ModuleList(
            CGC(
                in_features if place == 0 else levels[place - 1][-1],
                units,
                tasks=tasks,
                num_task_experts=num_task_experts,
                num_shared_experts=num_shared_experts,
                gate_units=gate_units,
                dropout=dropout,
                shared_output=place < len(levels) - 1,
            )
            for place, units in enumerate(levels)
        )

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute a vector for each task.

        Args:
            inputs: `(batch, in_features)`.

        Returns:
            Task to `(batch, levels[-1][-1])`.

        Raises:
            ShapeError: another width than that of the experts.
        """
        first, *others = self.levels
        outputs: dict[str, Tensor] = first(inputs)
        for level in others:
            outputs = level(outputs)
        return outputs


def _checked_tasks(tasks: Sequence[str], layer: str) -> tuple[str, ...]:
    if not tasks or isinstance(tasks, str) or len(set(tasks)) < len(tasks) or SHARED in tasks:
        raise ConfigError(
            f"different task names, none of them '{SHARED}'", repr(tasks), layer, "name each task once, in a list"
        )
    return tuple(tasks)


def _experts(in_features: int | None, units: Sequence[int], count: int, dropout: float, layer: str) -> nn.ModuleList:
    if count < 1:
        raise ConfigError("one expert or more of each kind", str(count), layer)
    return nn.ModuleList(MLP(in_features, units, final_activation=nn.ReLU(), dropout=dropout) for _ in range(count))


def _stack(experts: nn.Module, inputs: Tensor) -> Tensor:
    assert isinstance(experts, nn.ModuleList)
    return torch.stack([expert(inputs) for expert in experts], dim=1)
