"""How many candidates a vocabulary knows, and how often each is a positive, hence an in-batch negative."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.features.categorical import VocabularyFeature
from retrank.features.space import FeatureSpace

__all__ = ["CandidateFrequencies", "log_frequencies"]


@final
class CandidateFrequencies(nn.Module):
    """The size of the candidates' vocabulary and, if asked for, the log-probability of each as a positive.

    It moves with its model and is not part of its weights. When the space has grown, it follows.

    Args:
        candidate_id: the feature that identifies candidates.
        num_ids: how many ids there are, padding and unknown included.
        space: knows them, and how frequent each is; None if nobody does.
        counted: whether frequencies are needed, which takes a space.
    """

    log_q: Tensor | None
    """`(num_ids,)` float32, with `counted`."""

    def __init__(self, candidate_id: str, num_ids: int, space: FeatureSpace | None, *, counted: bool) -> None:
        super().__init__()
        self.candidate_id, self.num_ids, self.space = candidate_id, num_ids, space
        counts = self.counts if counted else None
        self.register_buffer("log_q", None if counts is None else log_frequencies(counts, num_ids), persistent=False)

    @property
    def counts(self) -> np.ndarray | None:
        """`(num_ids - 2,)` occurrences of each key in the space, in id order; None without a vocabulary."""
        kind = None if self.space is None else self.space.features.get(self.candidate_id)
        return kind.vocabulary.counts if isinstance(kind, VocabularyFeature) else None

    def follow(self) -> bool:
        """Take over what the space has gained since; say whether there was anything."""
        counts = self.counts
        if counts is None or len(counts) + NUM_SPECIAL_IDS <= self.num_ids:
            return False
        self.use(counts)
        return True

    def use(self, counts: Sequence[int] | np.ndarray) -> None:
        """Count candidates anew.

        Args:
            counts: occurrences of each key, in id order.
        """
        self.num_ids = len(counts) + NUM_SPECIAL_IDS
        if self.log_q is not None:
            self.log_q = log_frequencies(counts, self.num_ids).to(self.log_q.device)


def log_frequencies(counts: Sequence[int] | np.ndarray, num_ids: int) -> Tensor:
    """Return the log-probability of each candidate to be the positive of a row, hence a column of its batch.

    Args:
        counts: `(num_ids - 2,)` occurrences of each key, in id order.
        num_ids: how many ids there are, padding and unknown included.

    Returns:
        `(num_ids,)` float32 natural logarithms of the shares. A key that never occurred, and the unknown id, count as
        if they had occurred once.
    """
    shares = torch.ones(num_ids, dtype=torch.float64)
    shares[NUM_SPECIAL_IDS:] = torch.as_tensor(np.asarray(counts, dtype=np.float64)).clamp(min=1)
    return (shares.log() - shares[NUM_SPECIAL_IDS:].sum().log()).float()
