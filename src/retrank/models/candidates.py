"""What a vocabulary id says about a candidate: its row in the catalogue, and how often it is a positive."""

import numpy as np
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.features.catalogue import Catalogue

__all__ = ["log_shares", "rows_of_ids"]


def rows_of_ids(catalogue: Catalogue, candidate_id: str, num_ids: int) -> Tensor:
    """Find the catalogue row of every vocabulary id.

    Args:
        catalogue: all candidates.
        candidate_id: the column with their vocabulary ids.
        num_ids: how many ids there are, padding and unknown included.

    Returns:
        `(num_ids,)` int64; -1 for padding, unknown, and ids that are not in the catalogue.

    Raises:
        ConfigError: the catalogue has no such column of ids.
        DataError: two rows have the same id, so that it names no candidate.
    """
    if candidate_id not in catalogue.batch or not isinstance(catalogue.batch[candidate_id], Tensor):
        raise ConfigError(
            f"a column '{candidate_id}' of ids",
            f"the columns {list(catalogue.batch.names)}",
            "catalogue",
            "make the catalogue with the feature space of the model",
        )
    ids: Tensor = catalogue.batch[candidate_id].cpu()
    places = (ids >= NUM_SPECIAL_IDS).nonzero().flatten()
    rows = torch.full((num_ids,), -1)
    rows[ids[places]] = places
    doubles = places[rows[ids[places]] != places]
    if len(doubles):
        row = int(doubles[0])
        raise DataError(
            f"one candidate per id of '{candidate_id}'",
            f"id {int(ids[row])} again in row {int(rows[ids[row]])}",
            f"catalogue, row {row}",
            "choose as candidate_id the feature that identifies candidates",
        )
    return rows


def log_shares(counts: np.ndarray, num_ids: int) -> Tensor:
    """Return how likely each candidate is to be drawn as a positive, hence as an in-batch negative.

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
