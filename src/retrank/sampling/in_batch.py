"""`InBatch`: the positives of a batch as one another's negatives."""

from typing import final

from retrank.sampling.frequency import StreamingFrequency
from retrank.sampling.probabilities import Counts, Shares
from retrank.sampling.sampler import Negatives, Positives, Sampler

__all__ = ["InBatch"]


@final
class InBatch(Sampler):
    """The positives of the batch itself, in batch order; gradients flow into them.

    An id with share p of all positives is expected batch · p times; without `counts` or `frequency` the sampler does
    not know p.

    Args:
        counts: occurrences of each key among the positives, in id order, e.g. `space.vocabulary("movie_id").counts`.
            A key that never occurred counts as if it had once.
        frequency: estimates p from the batches of training steps, for a stream without known counts. Each batch is
            learned before its own draw.

    Raises:
        ConfigError: counts of another shape, or both counts and a frequency.
        DataError: a negative count.

    Example:
        >>> import torch, retrank as rr
        >>> sampler = rr.sampling.InBatch(counts=[3, 1])
        >>> negatives = sampler(torch.tensor([2, 2, 3, 2]), torch.zeros(4, 8))
        >>> negatives.ids, negatives.log_q.exp()
        (tensor([2, 2, 3, 2]), tensor([3., 3., 1., 3.]))
        >>> sampler = rr.sampling.InBatch(frequency=rr.sampling.StreamingFrequency(100))
        >>> sampler(torch.tensor([2, 2, 3, 2]), torch.zeros(4, 8), training=True).log_q.exp()
        tensor([3., 3., 1., 3.])

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item recommendations".
    """

    def __init__(self, *, counts: Counts | None = None, frequency: StreamingFrequency | None = None) -> None:
        super().__init__()
        self._shares = Shares(counts, frequency, "InBatch")
        self._record(counts=self._shares.counts)
        self.frequency = frequency

    def grow(self, counts: Counts) -> None:
        """Take over new counts, if there were any; see `Sampler.grow`."""
        self._shares.grow(counts)
        self._record(counts=self._shares.counts)

    def draw(self, positives: Positives) -> Negatives:
        """Return the batch; see `Sampler.forward`."""
        ids = positives.ids
        if positives.training:
            self._shares.observe(ids)
        return Negatives(ids, positives.embeddings, self._shares.log_q_of(len(ids), ids.device))
