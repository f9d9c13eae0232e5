"""`FrozenModel`: a model as it is served, a private copy that nothing done to the original can reach."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Self, TypeVar, final

import torch
from torch import nn

from retrank.core.batch import Batch
from retrank.features.space import FeatureSpace
from retrank.recommender.row_independence import is_row_independent

__all__ = ["FrozenModel"]

Module = TypeVar("Module", bound=nn.Module)


@final
@dataclass(frozen=True)
class FrozenModel(Generic[Module]):
    """A model in evaluation mode that nobody else holds, so that threads need no lock.

    Args:
        model: the private copy.
        device: where it computes.
        features: the columns that it reads, if it says so.
    """

    model: Module
    device: torch.device
    features: frozenset[str] | None

    @classmethod
    def of(cls, model: Module, space: FeatureSpace) -> Self:
        """Copy a model.

        Args:
            model: as training left it.
            space: the frozen space, which takes the place of the one that the model was built with.
        """
        copied: Module = copy.deepcopy(model, _shared(model, space))
        return cls.holding(copied)

    @classmethod
    def holding(cls, model: Module) -> Self:
        """Take a model that nobody else holds."""
        model.eval().requires_grad_(False)
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        features = getattr(model, "features", None)
        return cls(model, device, None if features is None else frozenset(features))

    @cached_property
    def is_row_independent(self) -> bool:
        """Whether a row has the same bits whatever else is in the batch, if the kernels are in use."""
        return self.device.type == "cpu" and is_row_independent(self.model)

    def needed(self, batch: Batch) -> Batch:
        """Return the columns that the model reads, or one, to keep the number of rows, if it reads none of them."""
        if self.features is None:
            return batch
        return batch.select([name for name in batch.names if name in self.features] or batch.names[:1])


def _shared(model: nn.Module, space: FeatureSpace) -> dict[int, Any]:
    """Return what a deep copy takes as it is: values, the frozen space, and weights without their gradients."""
    shared: dict[int, Any] = {}
    for module in model.modules():
        for held in vars(module).values():
            if isinstance(held, FeatureSpace):
                shared[id(held)] = space
            elif isinstance(held, Batch):
                shared[id(held)] = held
        for parameter in module.parameters(recurse=False):
            if type(parameter) is nn.Parameter:
                shared[id(parameter)] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
    return shared
