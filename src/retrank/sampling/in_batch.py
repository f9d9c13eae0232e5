"""`InBatch`: the positives of a batch as one another's negatives."""

from typing import final

from retrank.sampling.probabilities import Counts, Shares
from retrank.sampling.sampler import Negatives, Positives, Sampler

__all__ = ["InBatch"]


@final
class InBatch(Sampler):
    """The positives of the batch itself, in batch order; gradients flow into them.

    An id with share p of all positives is expected batch · p times; without `counts` the sampler does not know p.

    Args:
        counts: occurrences of each key among the positives, in id order, e.g. `space.vocabulary("movie_id").counts`.
            A key that never occurred counts as if it had once.

    Raises:
        ConfigError: counts of another shape.
        DataError: a negative count.

    Example:
        >>> import torch, retrank as rr
        >>> sampler = rr.sampling.InBatch(counts=[3, 1])
        >>> negatives = sampler(torch.tensor([2, 2, 3, 2]), torch.zeros(4, 8))
        >>> negatives.ids, negatives.log_q.exp()
        (tensor([2, 2, 3, 2]), tensor([3., 3., 1., 3.]))

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item recommendations".
    """

    def __init__(self, *, counts: Counts | None = None) -> None:
        super().__init__()
        self._shares = Shares(counts, "InBatch")
        self.__dict__["_arguments"].update(counts=self._shares.counts)

    def draw(self, positives: Positives) -> Negatives:
        """Return the batch; see `Sampler.forward`."""
        ids = positives.ids
        return Negatives(ids, positives.embeddings, self._shares.log_q_of(len(ids), ids.device))
