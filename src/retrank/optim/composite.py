"""`Composite`: different optimizers for different parameters of one model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

import torch
from torch import Tensor, nn

from retrank.core.errors import ConfigError
from retrank.ops.optimizer_step import Update
from retrank.optim.checked import CheckedOptimizer, step_together
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.saved_state import ExpectedGroup
from retrank.optim.spec import NamedParameters, OptimizerSpec, require_parameters

__all__ = ["Composite"]

Selection = str | Iterable[str | nn.Parameter] | Callable[[], Iterable[nn.Parameter]]


@final
@dataclass(frozen=True)
class Composite(OptimizerSpec):
    """Several optimizers, each for its own part of the parameters; together they cover all.

    Args:
        parts: pairs of a spec and the parameters it updates: one or more name patterns, in which `*` stands for any
            text (`"embeddings.*"`); or the parameters; or a function without arguments that returns them. Only
            patterns can be written to JSON.

    Raises:
        ConfigError: no parts; when building, a parameter in two parts, in none, or not of the model. Parameters that
            do not require gradients may be left out.

    Example:
        >>> import torch, retrank as rr
        >>> model = torch.nn.ModuleDict({"table": rr.EmbeddingTable(10, 4), "score": rr.layers.MLP(4, [1])})
        >>> spec = rr.optim.Composite([(rr.optim.RowwiseAdagrad(lr=0.05), "table.*"), (rr.optim.Adam(), "score.*")])
        >>> [group["lr"] for group in spec.build(model.named_parameters()).param_groups]
        [0.05, 0.001]

    Source: `CompositeOptimizer` of TensorFlow Recommenders, which cannot be written down.
    """

    parts: Sequence[tuple[OptimizerSpec, Selection]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple((spec, _frozen(selection)) for spec, selection in self.parts))
        if not self.parts:
            raise _error("at least one part", "none")

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer, itself a `torch.optim.Optimizer` with the groups of all parts.

        Args:
            named_parameters: names and parameters, as from `model.named_parameters()`.

        Returns:
            One optimizer; each of its `param_groups` belongs to a part, in order.

        Raises:
            ConfigError: the parts are not disjoint, or do not cover the parameters.
        """
        parameters = require_parameters(named_parameters, self)
        owners: dict[str, int] = {}
        for place, (_, selection) in enumerate(self.parts):
            for name in _select(parameters, selection, place):
                if owners.setdefault(name, place) != place:
                    raise _error("disjoint parts", f"parameter '{name}' in parts {owners[name]} and {place}")
        if missing := [name for name, value in parameters if name not in owners and value.requires_grad]:
            raise _error("parts that cover all parameters", f"no part for {missing}")
        return _Composite(
            [
                spec.build((name, value) for name, value in parameters if owners.get(name) == place)
                for place, (spec, _) in enumerate(self.parts)
            ]
        )


class _Composite(CheckedOptimizer):
    """Parts that share the state and the groups of the whole, so that saving, loading and scheduling are torch's."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        step_together(self.state, self.updates())
        for part in self._parts:
            if not isinstance(part, RowSparseOptimizer):  # all that those had to do is done
                part.step()
        return loss

    def updates(self) -> list[Update]:
        return [update for part in self._parts if isinstance(part, CheckedOptimizer) for update in part.updates()]

    def expected_groups(self) -> list[ExpectedGroup]:
        return [expected for part in self._parts for expected in _expected_groups(part)]

    def check_state(self, parameter: Tensor, group: Mapping[str, Any], state: Mapping[str, Any], name: str) -> None:
        """Leave it to the part, see `expected_groups`."""

    def _share(self) -> None:
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[start:stop]
            start = stop


def _expected_groups(part: torch.optim.Optimizer) -> list[ExpectedGroup]:
    if isinstance(part, CheckedOptimizer):
        return part.expected_groups()
    return [ExpectedGroup(group, (), _take_any_state) for group in part.param_groups]  # of a spec of the user


def _take_any_state(*_: Any) -> None: ...


def _frozen(selection: Selection) -> Selection:
    return selection if isinstance(selection, str) or callable(selection) else tuple(selection)


def _select(parameters: list[tuple[str, nn.Parameter]], selection: Selection, place: int) -> list[str]:
    chosen = list(selection() if callable(selection) else [selection] if isinstance(selection, str) else selection)
    patterns = [pattern for pattern in chosen if isinstance(pattern, str)]
    ids = {id(parameter) for parameter in chosen if isinstance(parameter, nn.Parameter)}
    names = [
        name
        for name, value in parameters
        if id(value) in ids or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if not names:
        raise _error("parameters in every part", f"none in part {place}")
    if strangers := ids - {id(value) for _, value in parameters}:
        raise _error("parameters of the model", f"{len(strangers)} others in part {place}")
    return names


def _error(expected: str, got: str) -> ConfigError:
    return ConfigError(expected, got, "Composite", "give every parameter of the model to exactly one part")
