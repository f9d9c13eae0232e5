"""The k best scores with ties in row order, mergeable over blocks.

`torch.topk` does not say which of equal scores it returns. Here a score and its row are packed into one integer that
orders by score, then by row: no two are equal, so the best k are unique.
"""

from typing import Final

import torch
from torch import Tensor

__all__ = ["best_of_block", "empty_result", "merge", "pack", "unpack"]

_ROW_MASK: Final = 0xFFFFFFFF
_SIGN_MASK: Final = 0x7FFFFFFF
_TIE_WIDTH: Final = 256  # columns


def empty_result(num_rows: int, k: int, device: torch.device) -> Tensor:
    """Return the packed result of a search that has seen no candidate.

    Args:
        num_rows: queries.
        k: places.
        device: where it lives.

    Returns:
        `(num_rows, k)` int64, `k` missing places per row.
    """
    return pack(torch.full((num_rows, k), -torch.inf, device=device), torch.zeros(k, dtype=torch.int64, device=device))


def pack(scores: Tensor, rows: Tensor) -> Tensor:
    """Put scores and rows into integers that order by score, then by row.

    Args:
        scores: `(queries, places)` float32 without NaN; -inf is a candidate that is not there.
        rows: candidate rows below 2**32, of a shape that broadcasts to that of the scores.

    Returns:
        `(queries, places)` int64.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0 in its bits, too
    ordered = torch.where(bits < 0, bits ^ _SIGN_MASK, bits)
    return (ordered.to(torch.int64) << 32) | (_ROW_MASK - rows)


def best_of_block(scores: Tensor, first_row: int, k: int) -> Tensor:
    """Find the best of one block of candidates.

    Args:
        scores: `(queries, width)` float32 without NaN; -inf is a candidate that is not there.
        first_row: candidate row of column 0.
        k: how many, at most width of them are returned.

    Returns:
        `(queries, min(k, width))` int64, packed and in no particular order.
    """
    k = min(k, scores.shape[1])
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)  # one more, to see whether it is as good
    values, columns, next_best = values[:, :k], columns[:, :k], values[:, k:]
    lowest = values[:, -1:]
    cut_tie = ((next_best == lowest) & (lowest > -torch.inf)).any(dim=1)
    if bool(cut_tie.any()):  # only where equal scores straddle the cut is topk's choice not ours
        rows = cut_tie.nonzero()[:, 0]
        is_lowest = values[rows] == lowest[rows]
        chosen = columns[rows]
        chosen[is_lowest] = _first_equal(scores, rows, lowest[rows], is_lowest.sum(dim=1))
        columns[rows] = chosen
    return pack(values, columns + first_row)


def _first_equal(scores: Tensor, rows: Tensor, value: Tensor, num_wanted: Tensor) -> Tensor:
    """Return the first so many columns, at least one, where each row has its value: a row's columns after another's."""
    found_rows, found_columns = [], []
    places = torch.arange(len(rows), device=rows.device)
    first, width = 0, _TIE_WIDTH
    while len(places):  # where many scores are equal, the first few columns have enough
        is_equal = scores[rows[places], first : first + width] == value[places]
        order = is_equal.cumsum(dim=1, dtype=torch.int32)
        row, column = (is_equal & (order <= num_wanted[places, None])).nonzero(as_tuple=True)
        found_rows.append(places[row])
        found_columns.append(first + column)
        num_wanted[places] -= order[:, -1]
        places = places[num_wanted[places] > 0]
        first, width = first + width, width * 8
    by_row = torch.argsort(torch.cat(found_rows), stable=True)
    return torch.cat(found_columns)[by_row]


def merge(packed: Tensor, more: Tensor) -> Tensor:
    """Keep the best of two packed results.

    Args:
        packed: `(queries, k)`.
        more: `(queries, any)`.

    Returns:
        `(queries, k)`, best first.
    """
    return torch.cat([packed, more], dim=1).topk(packed.shape[1], dim=1).values


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Take scores and rows apart.

    Args:
        packed: `(queries, k)`.

    Returns:
        Scores float32 and candidate rows int64, both `(queries, k)`; a missing place has score -inf and row -1.
    """
    bits = (packed >> 32).to(torch.int32)
    scores = torch.where(bits < 0, bits ^ _SIGN_MASK, bits).view(torch.float32)
    return scores, torch.where(scores > -torch.inf, _ROW_MASK - (packed & _ROW_MASK), -1)
