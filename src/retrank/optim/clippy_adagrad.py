"""`ClippyAdagrad`: Adagrad that shortens a step which would change a weight too much."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Final, final

import torch
from torch import Tensor

from retrank.ops.update_rules import Rule, Slot
from retrank.optim.row_sparse import RowSparseOptimizer
from retrank.optim.spec import NamedParameters, OptimizerSpec, require, require_parameters, require_rates

__all__ = ["ClippyAdagrad"]


@final
@dataclass(frozen=True)
class ClippyAdagrad(OptimizerSpec):
    """Adagrad with adaptive clipping, against training that diverges: w ← w - s · lr · p · g, p = 1 / √(a + eps).

    One factor s <= 1 for the whole parameter is as large as it may be such that no weight moves by more than
    variable_relative_threshold · abs(w) + accumulator_relative_threshold · p + absolute_threshold. Then a ← a + g². The
    state of each parameter holds the last s as `clipping_factor`.

    A single weight near zero holds back its whole parameter: where weights start at zero, as biases do and the row of
    unknown ids of every `EmbeddingTable`, raise `absolute_threshold`.

    A row-sparse gradient updates its rows alone, with the same result as the dense gradient: elsewhere g is 0.

    Args:
        lr: learning rate; a scheduler may change it.
        initial_accumulator: a before the first step.
        variable_relative_threshold: of the size of the weight.
        accumulator_relative_threshold: of p.
        absolute_threshold: how far a weight of zero may move.
        eps: inside of the root.
        clip_accumulator: add (s · g)² to a instead of g².
        accumulate_first: add g² to a before the step and not after it, as Adagrad does.

    Raises:
        ConfigError: a negative or infinite setting, eps and initial_accumulator both 0, or both clip_accumulator and
            accumulate_first, when a is needed to know s.

    Example:
        >>> import torch, retrank as rr
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = rr.optim.ClippyAdagrad(lr=1.0).build([("w", w)])
        >>> w.grad = torch.tensor([3.0])
        >>> optimizer.step()
        >>> w.data  # a tenth of its size
        tensor([0.9000])

    Source: Tang et al., Improving Training Stability for Multitask Ranking Models in Recommender Systems, KDD 2023;
    `ClippyAdagrad` of TensorFlow Recommenders, where accumulate_first is `use_standard_accumulator_update` and lost
    when a model is saved.
    """

    lr: float = 1e-3
    _: KW_ONLY
    initial_accumulator: float = 0.1
    variable_relative_threshold: float = 0.1
    accumulator_relative_threshold: float = 0.0
    absolute_threshold: float = 1e-7
    eps: float = 1e-7
    clip_accumulator: bool = False
    accumulate_first: bool = False

    def __post_init__(self) -> None:
        require_rates(self, "lr", "initial_accumulator", "variable_relative_threshold")
        require_rates(self, "accumulator_relative_threshold", "absolute_threshold", "eps")
        require(self.eps + self.initial_accumulator > 0, "eps > 0 or initial_accumulator > 0", self)
        require(
            not (self.clip_accumulator and self.accumulate_first),
            "clip_accumulator or accumulate_first, not both",
            self,
        )

    def build(self, named_parameters: NamedParameters) -> torch.optim.Optimizer:
        """Build the optimizer; see `OptimizerSpec.build`."""
        return _ClippyAdagrad(require_parameters(named_parameters, self), asdict(self))


_SETTINGS: Final = tuple(field.name for field in fields(ClippyAdagrad))


class _ClippyAdagrad(RowSparseOptimizer):
    settings = _SETTINGS

    @staticmethod
    @lru_cache(maxsize=64)
    def rule(*settings: Any) -> "_ClippyRule":
        spec = ClippyAdagrad(**dict(zip(_SETTINGS, settings, strict=True)))  # refuses what schedulers must not set
        slots = (Slot("accumulator", "number", spec.initial_accumulator), Slot("clipping_factor", "parameter", 1.0))
        return _ClippyRule(spec, slots)


@final
@dataclass(frozen=True)
class _ClippyRule(Rule):
    spec: ClippyAdagrad
    slots: tuple[Slot, ...]

    def move(self, weights: Tensor, gradient: Tensor, state: Sequence[Tensor], step: int, *, is_sparse: bool) -> None:  # noqa: ARG002
        spec, (accumulator, clipping_factor) = self.spec, state
        if spec.accumulate_first:
            accumulator.addcmul_(gradient, gradient)
        precondition = (accumulator + spec.eps).rsqrt_()
        delta = gradient * precondition * spec.lr
        bound = weights.abs().mul_(spec.variable_relative_threshold)
        bound.add_(precondition, alpha=spec.accumulator_relative_threshold).add_(spec.absolute_threshold)
        size = delta.abs()
        ratios = torch.where(bound < size, bound / size, 1.0)
        factor = ratios.amin() if ratios.numel() else ratios.new_ones(())
        if not spec.accumulate_first:
            added = gradient * factor if spec.clip_accumulator else gradient
            accumulator.addcmul_(added, added)
        weights.sub_(delta.mul_(factor))
        clipping_factor.copy_(factor)
