"""`SampledNegatives`: what a sampler draws."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.models.negative_source import NegativeSource
from retrank.models.retrieval_step import RetrievalStep
from retrank.sampling.sampler import Negatives, Sampler
from retrank.tasks.retrieval import Retrieval

__all__ = ["SampledNegatives"]


@final
@dataclass(frozen=True, eq=False)
class SampledNegatives(NegativeSource):
    """Each positive competes with what a sampler drew for the batch, and with no other positive.

    Args:
        sampler: draws. In evaluation it draws the same every time, and leaves torch's generators alone.
    """

    sampler: Sampler

    def check(self, task: Retrieval, *, has_catalogue: bool, where: str) -> None:
        """Refuse a task with a correction of its own; see `NegativeSource.check`."""
        super().check(task, has_catalogue=has_catalogue, where=where)
        if not isinstance(task.log_q, bool):
            raise ConfigError(
                "log_q=True or False, for a sampler",
                f"log_q={task.log_q}",
                where,
                "a sampler knows its own probabilities",
            )

    def loss(self, step: RetrievalStep) -> Tensor:
        """Return the softmax cross-entropy of each positive among the negatives drawn; see `NegativeSource.loss`."""
        positives = step.embed_positives()
        drawn = self._draw(step, positives)
        if drawn.embeddings is None:
            raise self._error("a catalogue, to embed what is drawn", "none", "pass catalogue=space.catalogue(...)")
        if step.task.log_q is True and drawn.log_q_of is None:
            raise self._error(
                "a sampler that knows its probabilities, for log_q", "one that does not", "give it counts"
            )
        known = drawn.valid if step.candidates is None else drawn.valid & step.candidates.known(drawn.ids)
        columns = torch.cat([step.ids, drawn.ids])
        loss: Tensor = step.task(
            step.queries,
            torch.cat([positives, drawn.embeddings]),
            candidate_ids=columns,
            log_q=_log_shares(drawn, columns) if step.task.log_q is True else None,
            weight=step.weight,
            score_mask=torch.cat([torch.ones_like(step.ids, dtype=torch.bool), known]),
            in_batch_negatives=False,
        )
        return loss

    def _draw(self, step: RetrievalStep, positives: Tensor) -> Negatives:
        if step.training:
            drawn: Negatives = self.sampler(step.ids, positives, table=step.candidates, training=True)
            return drawn
        with torch.random.fork_rng([step.ids.device] if step.ids.is_cuda else []):
            torch.manual_seed(0)
            unseen: Negatives = self.sampler(step.ids, positives, table=step.candidates)
            return unseen

    def _error(self, expected: str, got: str, fix: str) -> ConfigError:
        return ConfigError(expected, got, f"negatives={type(self.sampler).__name__}(...)", fix)


def _log_shares(drawn: Negatives, ids: Tensor) -> Tensor | None:
    """Return the log-probability of each id in one draw of many, as good as expected counts for a softmax."""
    if drawn.log_q_of is None:
        return None
    num_draws = len(drawn.ids)
    return drawn.log_q_of(ids) - math.log(num_draws) if num_draws else torch.zeros(len(ids), device=ids.device)
