"""`NegativeSource`: where the negatives of a retrieval model's training come from."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.models.retrieval_step import RetrievalStep
from retrank.tasks.retrieval import Retrieval

__all__ = ["NegativeSource"]


class NegativeSource(Configurable, ABC):
    """What each positive competes with in the loss of a `RetrievalModel`: `InBatchNegatives`, `CatalogueNegatives`.

    Example:
        >>> import torch, retrank as rr
        >>> class Hardest(rr.models.NegativeSource):
        ...     def loss(self, step):  # each positive against the best of the other positives of its batch
        ...         scores = step.queries @ step.embed_positives().T
        ...         others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf).amax(dim=1)
        ...         return torch.nn.functional.softplus(others - scores.diagonal()).mean()
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=10)
        >>> model = rr.models.MatrixFactorization(
        ...     schema("user"), schema("song"), rr.tasks.Retrieval(), negatives=Hardest())
        >>> batch = rr.Batch({"user": torch.tensor([2, 3]), "song": torch.tensor([5, 6])})
        >>> model.compute_loss(batch, training=True).shape
        torch.Size([])
    """

    reads_catalogue: ClassVar[bool] = False
    """Whether the loss calls `RetrievalStep.embed_catalogue`, which an evaluation then does once for all batches."""
    reads_log_q: ClassVar[bool] = False
    """Whether the loss reads `RetrievalStep.log_q`, for a task that corrects for it."""

    @abstractmethod
    def loss(self, step: RetrievalStep) -> Tensor:
        """Return the mean loss of a batch of positive pairs, a scalar tensor."""

    def check(self, task: Retrieval, *, has_catalogue: bool, where: str) -> None:  # noqa: ARG002 (for subclasses)
        """Refuse a model that this cannot train; a subclass may check more.

        Args:
            task: the model's.
            has_catalogue: whether the model knows all candidates.
            where: the model, for messages.

        Raises:
            ConfigError: the loss needs what the model does not have.
        """
        if self.reads_catalogue and not has_catalogue:
            raise ConfigError(
                f"a catalogue, for negatives={type(self).__name__}()",
                "none",
                where,
                "pass catalogue=space.catalogue(candidates, key=...)",
            )
