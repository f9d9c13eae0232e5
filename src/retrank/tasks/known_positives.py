"""What a query is known to like is no negative of it: the pairs of a batch that must not be compared."""

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.jagged import Jagged
from retrank.core.tensors import as_tensor

__all__ = ["mask_known_positives"]


def mask_known_positives(query_ids: Tensor, candidate_ids: Tensor, known: Jagged | None = None) -> Tensor:
    """Find the pairs of a batch in which the candidate is another known positive of the query.

    Known are the positives of all rows that the batch has of the query, and what `known` lists.

    Args:
        query_ids: `(batch,)` integers, the query of each row.
        candidate_ids: `(columns,)` integers, the candidate of each column; column i is the positive of row i, and
            further columns are positives of nobody.
        known: the candidate ids that each row's query is known to like, besides; ids that no column has are fine.

    Returns:
        `(batch, columns)` bool for the `score_mask` of `Retrieval`: False where the pair must not be compared. A row's
        own column is True, others with the same candidate are False.

    Raises:
        ShapeError: tensors that do not fit.

    Example:
        >>> import torch, retrank as rr
        >>> rr.tasks.mask_known_positives(torch.tensor([7, 7, 8]), torch.tensor([2, 3, 4]))
        tensor([[ True, False,  True],
                [False,  True,  True],
                [ True,  True,  True]])
        >>> rr.tasks.mask_known_positives(torch.tensor([7, 8]), torch.tensor([2, 3]), rr.Jagged.from_lists([[3], []]))
        tensor([[ True, False],
                [ True,  True]])
    """
    where = "mask_known_positives"
    query_ids, candidate_ids = (
        as_tensor(query_ids, "query_ids", where),
        as_tensor(candidate_ids, "candidate_ids", where),
    )
    _check(query_ids, candidate_ids, known, where)
    batch = len(query_ids)
    queries, query_of = torch.unique(query_ids, return_inverse=True)
    candidates, candidate_of = torch.unique(candidate_ids, return_inverse=True)
    likes = torch.zeros(len(queries), len(candidates), dtype=torch.bool, device=query_ids.device)
    likes[query_of, candidate_of[:batch]] = True
    if known is not None and len(candidates):
        places = torch.searchsorted(candidates, known.values).clamp(max=len(candidates) - 1)
        here = candidates[places] == known.values
        likes[query_of[known.row_index()[here]], places[here]] = True
    mask = ~likes[query_of][:, candidate_of]
    mask[:, :batch].fill_diagonal_(True)
    return mask


def _check(query_ids: Tensor, candidate_ids: Tensor, known: Jagged | None, where: str) -> None:
    for name, ids in (("query_ids", query_ids), ("candidate_ids", candidate_ids)):
        if ids.dim() != 1 or ids.is_floating_point():
            raise ShapeError(f"one-dimensional integer {name}", f"{ids.dtype} of shape {tuple(ids.shape)}", where)
    if len(candidate_ids) < len(query_ids):
        raise ShapeError(f"a candidate for each of {len(query_ids)} rows", str(len(candidate_ids)), where)
    if known is not None and (len(known) != len(query_ids) or known.values.is_floating_point()):
        expected = f"known with {len(query_ids)} rows of integer ids"
        raise ShapeError(expected, f"{len(known)} rows of {known.values.dtype}", where)
