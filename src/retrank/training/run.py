"""`Run`: what callbacks see of a running `fit`."""

from dataclasses import dataclass, field
from typing import final

from torch import nn
from torch.optim import Optimizer

from retrank.training.history import TrainingHistory

__all__ = ["Run"]


@final
@dataclass(slots=True)
class Run:
    """A running `fit`.

    Args:
        model: what is trained.
        optimizer: updates its weights.
        epochs: how many epochs were asked for.
        validates: whether epochs are validated.
        epoch: epochs that are done.
        step: steps that are done, over all epochs.
        history: the numbers of the epochs that are done.
        stop_reason: why training ends early; None while it continues.
    """

    model: nn.Module
    optimizer: Optimizer
    epochs: int
    validates: bool = False
    epoch: int = 0
    step: int = 0
    history: TrainingHistory = field(default_factory=TrainingHistory)
    stop_reason: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether no epoch will follow."""
        return self.epoch >= self.epochs or self.stop_reason is not None

    def stop(self, reason: str) -> None:
        """End training after this epoch.

        Args:
            reason: for the reader of the log.
        """
        self.stop_reason = reason
