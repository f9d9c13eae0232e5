"""`CatalogueNegatives`: all other candidates."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.models.negative_source import NegativeSource
from retrank.models.retrieval_step import RetrievalStep
from retrank.tasks.retrieval import Retrieval

__all__ = ["CatalogueNegatives"]


@final
@dataclass(frozen=True)
class CatalogueNegatives(NegativeSource):
    """Each positive competes with the whole catalogue; `"catalogue"` for short.

    Nothing is sampled, so there is nothing to correct. Every step passes all candidates through their tower. A positive
    that the catalogue does not have is left out of the loss; a warning at the end of the epoch says how many.

    Example:
        >>> import torch, retrank as rr
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=5)
        >>> songs = rr.features.Catalogue(["x", "y", "z"], rr.Batch({"song": torch.tensor([2, 3, 4])}), "song")
        >>> model = rr.models.MatrixFactorization(
        ...     schema("user"), schema("song"), rr.tasks.Retrieval(),
        ...     catalogue=songs, negatives=rr.models.CatalogueNegatives())
        >>> batch = rr.Batch({"user": torch.tensor([1]), "song": torch.tensor([3])})
        >>> model.compute_loss(batch, training=True).exp().round().item()  # an unknown user: each song has a third
        3.0
    """

    reads_catalogue = True

    def check(self, task: Retrieval, *, has_catalogue: bool, where: str) -> None:
        """Refuse a task that corrects for sampling; see `NegativeSource.check`."""
        super().check(task, has_catalogue=has_catalogue, where=where)
        if task.log_q is not False:
            raise ConfigError(
                "log_q=False, for negatives=CatalogueNegatives()",
                "a task that corrects for log_q",
                where,
                "a softmax over all candidates samples none, so there is nothing to correct",
            )

    def loss(self, step: RetrievalStep) -> Tensor:
        """Return the softmax cross-entropy of each positive among all candidates; see `NegativeSource.loss`."""
        assert step.rows is not None  # `check` has seen a catalogue
        candidates = step.embed_catalogue()
        known = (step.rows >= 0).float()  # a positive outside of the catalogue has no negatives to be told from
        loss: Tensor = step.task(
            step.queries,
            candidates,
            positives=step.rows.clamp(min=0),
            candidate_ids=torch.arange(len(candidates), device=step.rows.device),
            weight=known if step.weight is None else known * step.weight,
        )
        return loss
