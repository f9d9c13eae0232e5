"""`Trainable`: what the training loop and the evaluation know of a model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.optim.spec import OptimizerSpec
from retrank.training.device import Precision

__all__ = ["Trainable"]


class Trainable(nn.Module, ABC):
    """A module that takes steps on batches. Users subclass `Model`, which builds the steps from a loss."""

    @abstractmethod
    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:
        """Return the average loss over the rows of a batch, without regularization.

        Args:
            batch: columns by name, on the model's device.
            training: whether this loss will update the weights.

        Returns:
            A scalar tensor.
        """

    @abstractmethod
    def train_step(
        self, batch: Batch, optimizer: Optimizer, *, precision: Precision = "float32", clip_norm: float | None = None
    ) -> dict[str, Tensor]:
        """Update the weights once; return the scalars `loss`, `regularization_loss` and `total_loss`."""

    @abstractmethod
    def test_step(self, batch: Batch, *, precision: Precision = "float32") -> dict[str, Tensor]:
        """Update the metrics; return the scalars `loss`, `regularization_loss` and `total_loss`."""

    @abstractmethod
    def predict_step(self, batch: Batch) -> Any:
        """Return what `predict` collects for a batch."""

    def default_optimizer(self) -> OptimizerSpec:
        """Return how the weights are updated if `fit` is told nothing.

        Raises:
            ConfigError: unless overridden.
        """
        raise ConfigError(
            "an optimizer, as this kind of model has none by default", "none", f"{type(self).__name__}.fit",
            "pass e.g. optimizer=rr.optim.Adagrad(lr=0.1)",
        )  # fmt: skip

    def begin_fit(self, epoch: Iterable[Batch]) -> None:
        """Look at the training data before the first step; does nothing unless overridden.

        Args:
            epoch: its batches, to be iterated once at most; where the loader puts them. A resumed fit gives them again.
        """

    def end_fit(self) -> None:
        """Drop what `begin_fit` prepared; called even if training failed. Does nothing unless overridden."""

    def begin_evaluation(self) -> None:
        """Prepare what all batches of an evaluation share, e.g. embed the catalogue; does nothing unless overridden."""

    def end_evaluation(self) -> None:
        """Drop what `begin_evaluation` prepared; called even if the evaluation, or its preparation, failed."""

    def end_epoch(self) -> None:
        """Called after the last training batch of an epoch; does nothing unless overridden."""
