"""What queries did before, as a baseline reads it: each candidate once, with a weight."""

import torch

from retrank.core.jagged import Jagged

__all__ = ["weighted_histories"]


def weighted_histories(lists: Jagged, num_columns: int, decay: float = 0.0) -> Jagged:
    """Weigh what each query did by how much it has done since.

    Columns come in ascending order, so that a sum over a history does not depend on the order in which it was read.

    Args:
        lists: columns of each query, oldest first; of repeats the last counts.
        num_columns: how many columns there are.
        decay: the weight of a column with m other ones after it is `exp(-decay * m)`.

    Returns:
        As many rows: the distinct columns, ascending, with float32 weights.

    Example:
        >>> import retrank as rr
        >>> from retrank.baselines.histories import weighted_histories
        >>> histories = weighted_histories(rr.Jagged.from_lists([[0, 2, 0, 1], []]), 3, decay=1.0)
        >>> histories.to_lists(), histories.weights
        ([[0, 1, 2], []], tensor([0.3679, 1.0000, 0.1353]))
    """
    codes = lists.row_index() * num_columns + lists.values
    # What comes last in time comes first in the sorted runs of equal codes.
    by_code, order = torch.sort(codes.flip(0), stable=True)
    is_last = torch.ones_like(by_code, dtype=torch.bool)
    is_last[1:] = by_code[1:] != by_code[:-1]
    kept, places = by_code[is_last], len(codes) - 1 - order[is_last]
    owners = kept // num_columns
    lengths = torch.bincount(owners, minlength=len(lists))
    if decay == 0:
        return Jagged.from_lengths(kept % num_columns, lengths, torch.ones(len(kept)))
    counts = torch.zeros(len(codes), dtype=torch.int64)
    counts[places] = 1
    later = lengths.cumsum(dim=0)[owners] - counts.cumsum(dim=0)[places]
    return Jagged.from_lengths(kept % num_columns, lengths, torch.exp(-decay * later.double()).float())
