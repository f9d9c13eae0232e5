"""`Uniform`: every candidate is as likely as any other."""

import math
from typing import final

import torch

from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.sampling.probabilities import Counts, log_q_of_draws
from retrank.sampling.sampler import Negatives, Positives, Sampler
from retrank.sampling.sizes import check_num_negatives, known_num_ids

__all__ = ["Uniform"]


@final
class Uniform(Sampler):
    """Draws candidates uniformly; padding and unknown never.

    Each of n candidates is expected num_negatives / n times, with repeats as without.

    Args:
        num_negatives: how many to draw.
        num_ids: the ids there are, padding and unknown included; by default as many as the table of the call has.
        unique: whether no id comes twice in a draw.

    Raises:
        ConfigError: an argument out of its range, or more negatives than there are candidates to draw once each.

    Example:
        >>> import torch, retrank as rr
        >>> movies = rr.EmbeddingTable(10, dim=4)
        >>> negatives = rr.sampling.Uniform(8)(torch.tensor([5]), table=movies)
        >>> negatives.ids.sort().values, negatives.embeddings.shape
        (tensor([2, 3, 4, 5, 6, 7, 8, 9]), torch.Size([8, 4]))
    """

    def __init__(self, num_negatives: int, *, num_ids: int | None = None, unique: bool = True) -> None:
        super().__init__()
        self.num_negatives, self.num_ids, self.unique = num_negatives, num_ids, unique
        check_num_negatives(num_negatives, num_ids, unique, "Uniform")

    def grow(self, counts: Counts) -> None:
        """Draw from as many ids as there now are; see `Sampler.grow`."""
        if self.num_ids is not None:
            self.num_ids = len(counts) + NUM_SPECIAL_IDS
            self._record(num_ids=self.num_ids)

    def draw(self, positives: Positives) -> Negatives:
        """Draw from all ids; see `Sampler.forward`."""
        num_ids = known_num_ids(self.num_ids, positives.table, "Uniform")
        check_num_negatives(self.num_negatives, num_ids, self.unique, "Uniform")
        num_candidates, device = num_ids - NUM_SPECIAL_IDS, positives.ids.device
        if self.unique:
            ranks = torch.randperm(num_candidates, device=device)[: self.num_negatives]
        else:
            ranks = torch.randint(num_candidates, (self.num_negatives,), device=device)
        ids = ranks + NUM_SPECIAL_IDS
        log_q = torch.full((), -math.log(num_candidates), device=device).expand(num_ids)
        return Negatives(ids, positives.embed(ids), log_q_of_draws(log_q, self.num_negatives))
