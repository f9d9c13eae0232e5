"""Corrections of retrieval scores: pure functions from scores to scores.

Scores have a row per query and a column per candidate, `(batch, columns)`; `batch` may be any number of leading
dimensions, or none. A removed score is -inf: its softmax weight and its gradient are exactly 0. Where a tensor is
meant, a NumPy array means the same.
"""

import torch
from torch import Tensor

from retrank.core.arguments import check_number
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.tensors import as_tensor, can_look
from retrank.losses.checks import checked_log_q

__all__ = ["apply_score_mask", "apply_temperature", "correct_log_q", "mine_hard_negatives", "remove_accidental_hits"]


def apply_score_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Remove the scores of pairs that must not be compared.

    Args:
        scores: `(batch, columns)`.
        mask: of the same shape, bool; False removes.

    Returns:
        `(batch, columns)` with -inf where the mask is False.

    Raises:
        ShapeError: a mask of another shape or dtype.

    Example:
        >>> import torch, retrank as rr
        >>> rr.tasks.apply_score_mask(torch.ones(1, 3), torch.tensor([[True, False, True]]))
        tensor([[1., -inf, 1.]])
    """
    scores, mask = _floats(scores, "apply_score_mask"), as_tensor(mask, "mask", "apply_score_mask")
    if mask.shape != scores.shape or mask.dtype != torch.bool:
        raise _shape_error(f"bool score_mask of shape {tuple(scores.shape)}", mask)
    return scores.masked_fill(~mask, -torch.inf)


def apply_temperature(scores: Tensor, temperature: float) -> Tensor:
    """Divide scores by a temperature: below 1 the softmax is sharper.

    Args:
        scores: any shape.
        temperature: above 0, finite.

    Returns:
        The same shape.

    Raises:
        ConfigError: the temperature is not above 0.

    Example:
        >>> import torch, retrank as rr
        >>> rr.tasks.apply_temperature(torch.tensor([[1.0, 2.0]]), 0.5)
        tensor([[2., 4.]])
    """
    check_number(temperature, "temperature", "apply_temperature", above=0)
    return as_tensor(scores, "scores", "apply_temperature") / temperature


def correct_log_q(scores: Tensor, log_q: Tensor) -> Tensor:
    """Subtract the log-probability with which each candidate was sampled, the positive's included.

    Without it a popular candidate, which is a negative more often than a rare one, is scored too low.

    Args:
        scores: `(batch, columns)`.
        log_q: `(columns,)` or `(batch, columns)` natural logarithms of sampling probabilities.

    Returns:
        `(batch, columns)`.

    Raises:
        ShapeError: `log_q` is of another shape.
        DataError: a `log_q` above 0 or not finite; on a GPU its scores become NaN instead.

    Example:
        >>> import torch, retrank as rr
        >>> rr.tasks.correct_log_q(torch.zeros(1, 2), torch.tensor([0.5, 0.25]).log()).exp()
        tensor([[2., 4.]])

    Source: Yi et al. (2019), "Sampling-bias-corrected neural modeling for large corpus item recommendations".
    """
    scores, log_q = _floats(scores, "correct_log_q"), as_tensor(log_q, "log_q", "correct_log_q")
    if log_q.shape not in (scores.shape, scores.shape[-1:]):
        raise _shape_error(f"log_q of shape {tuple(scores.shape[-1:])}", log_q)
    return scores - checked_log_q(log_q, "correct_log_q")


def remove_accidental_hits(scores: Tensor, candidate_ids: Tensor, positives: Tensor) -> Tensor:
    """Remove columns that hold the positive candidate again, as if it were a negative.

    Args:
        scores: `(batch, columns)`.
        candidate_ids: `(columns,)` or `(batch, columns)` integers, the candidate of each column.
        positives: `(batch,)` int64 column of each row's positive.

    Returns:
        `(batch, columns)` with -inf at columns other than the positive that have its id.

    Raises:
        ShapeError: tensors that do not fit.
        DataError: a positive outside of the columns.

    Example:
        >>> import torch, retrank as rr
        >>> ids = torch.tensor([7, 8, 7])
        >>> rr.tasks.remove_accidental_hits(torch.zeros(2, 3), ids, torch.tensor([0, 1]))
        tensor([[0., 0., -inf],
                [0., 0., 0.]])
    """
    where = "remove_accidental_hits"
    scores, candidate_ids = _floats(scores, where), as_tensor(candidate_ids, "candidate_ids", where)
    positives = as_tensor(positives, "positives", where)
    _check_positives(scores, positives)
    if candidate_ids.shape not in (scores.shape, scores.shape[-1:]) or candidate_ids.is_floating_point():
        raise _shape_error(f"integer candidate_ids of shape ({scores.shape[-1]},)", candidate_ids)
    own = positives[..., None]
    ids = candidate_ids.expand_as(scores)
    hits = (ids == ids.gather(-1, own)).scatter(-1, own, False)
    return scores.masked_fill(hits, -torch.inf)


def mine_hard_negatives(scores: Tensor, positives: Tensor, num_hard_negatives: int) -> tuple[Tensor, Tensor]:
    """Keep the positive and the negatives with the highest scores.

    Args:
        scores: `(batch, columns)`.
        positives: `(batch,)` int64 column of each row's positive.
        num_hard_negatives: how many negatives to keep, at least 1; all if there are fewer.

    Returns:
        Scores `(batch, 1 + min(num_hard_negatives, columns - 1))`, the positive in column 0 and the negatives after it
        in descending order, and the new `positives`, all 0.

    Raises:
        ConfigError: fewer than 1 negative: the loss would be 0 whatever the scores.
        ShapeError: tensors that do not fit.
        DataError: a positive outside of the columns.

    Example:
        >>> import torch, retrank as rr
        >>> scores = torch.tensor([[1.0, 5.0, 3.0, 4.0]])
        >>> rr.tasks.mine_hard_negatives(scores, torch.tensor([2]), num_hard_negatives=2)
        (tensor([[3., 5., 4.]]), tensor([0]))
    """
    scores, positives = _floats(scores, "mine_hard_negatives"), as_tensor(positives, "positives", "mine_hard_negatives")
    _check_positives(scores, positives)
    if num_hard_negatives < 1:
        raise ConfigError(
            "at least 1 hard negative", str(num_hard_negatives), "num_hard_negatives", "None keeps all negatives"
        )
    own = positives[..., None]
    negatives = scores.scatter(-1, own, -torch.inf)
    num_kept = max(min(num_hard_negatives, scores.shape[-1] - 1), 0)  # an empty batch may have no columns
    hardest = negatives.topk(num_kept, dim=-1).values
    return torch.cat([scores.gather(-1, own), hardest], dim=-1), torch.zeros_like(positives)


def _floats(scores: object, where: str) -> Tensor:
    scores = as_tensor(scores, "scores", where)
    if not scores.is_floating_point():  # -inf is no integer
        raise _shape_error("float scores", scores)
    return scores


def _check_positives(scores: Tensor, positives: Tensor) -> None:
    if scores.dim() < 1:
        raise _shape_error("scores of shape (..., columns)", scores)
    if positives.shape != scores.shape[:-1] or positives.dtype != torch.int64:
        raise _shape_error(f"int64 positives of shape {tuple(scores.shape[:-1])}", positives)
    if can_look(positives):  # on a GPU torch's assertion stops the program
        outside = (positives < 0) | (positives >= scores.shape[-1])
        if bool(outside.any()):
            row = outside.nonzero()[0].tolist()
            raise DataError(
                f"a column in [0, {scores.shape[-1]})",
                str(int(positives[tuple(row)])),
                "positives" + (f", row {', '.join(map(str, row))}" if row else ""),
            )


def _shape_error(expected: str, tensor: Tensor) -> ShapeError:
    got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
    return ShapeError(expected, got, "retrieval scores", "scores have a row per query and a column per candidate")
