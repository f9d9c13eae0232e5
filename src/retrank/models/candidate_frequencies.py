"""How often each candidate is a positive, hence an in-batch negative."""

import numpy as np
import torch
from torch import Tensor

from retrank.core.schema import NUM_SPECIAL_IDS

__all__ = ["log_frequencies"]


def log_frequencies(counts: np.ndarray, num_ids: int) -> Tensor:
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
