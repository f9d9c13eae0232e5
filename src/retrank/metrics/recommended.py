"""What metrics of recommended lists share: the checks of their input, and means over lists."""

from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError

__all__ = ["EXPECTED", "at_k", "check_num_places", "filled_places", "first_places", "mean_sums"]

EXPECTED: Final = "candidate rows or -1, and finite weights of at least 0"
"""What `filled_places` calls good, for messages."""


def at_k(name: str, k: int | None) -> str:
    """Return the name of a metric of the first k places, like `"recall@10"`, or of whole lists.

    Args:
        name: of the kind.
        k: the first k places count; None for all.
    """
    return name if k is None else f"{name}@{k}"


def check_num_places(k: int | None, where: str) -> None:
    """Raise unless k is None or at least 1.

    Args:
        k: the first k places count; None for all.
        where: the metric, for the message.

    Raises:
        ConfigError: a k below 1.
    """
    if k is not None and k < 1:
        raise ConfigError("k of at least 1, or None", str(k), where, "None takes the whole list")


def first_places(recommended: Tensor, weight: Tensor | None, k: int | None, name: str) -> tuple[Tensor, Tensor]:
    """Check a batch of lists and cut them.

    Args:
        recommended: `(queries, places)` int64 candidate rows, best place first; -1 for an empty place.
        weight: `(queries,)` or None for 1.
        k: the first k places count; None for all.
        name: of the metric, for messages.

    Returns:
        The first k places, and `(queries,)` float64 weights on their device.

    Raises:
        ShapeError: tensors that do not fit.
    """
    if recommended.dim() != 2 or recommended.dtype != torch.int64:
        raise ShapeError(
            "int64 candidate rows of shape (queries, places)",
            f"{recommended.dtype} of shape {tuple(recommended.shape)}",
            f"metric '{name}'",
            "give the rows of `Index.search_rows`",
        )
    if weight is None:
        weight = torch.ones(len(recommended), device=recommended.device)
    if weight.shape != recommended.shape[:1]:
        raise ShapeError(f"weight of shape ({len(recommended)},)", str(tuple(weight.shape)), f"metric '{name}'")
    return recommended[:, :k], weight.detach().to(recommended.device, torch.float64)


def filled_places(rows: Tensor, weight: Tensor, num_candidates: int) -> tuple[Tensor, Tensor]:
    """Find the places that hold a candidate, and the lists that are invalid.

    Args:
        rows: `(queries, places)` candidate rows.
        weight: `(queries,)`.
        num_candidates: rows of the catalogue.

    Returns:
        `(queries, places)` bool; and `(queries,)` bool, True for lists that mean nothing for their rows or weights.
    """
    bad = ((rows < -1) | (rows >= num_candidates)).any(dim=1) | ~weight.isfinite() | (weight < 0)
    return rows >= 0, bad


def mean_sums(totals: Tensor, numbers: Tensor, weight: Tensor, bad: Tensor) -> Tensor:
    """Sum up the means of a batch of lists; a list without anything to take the mean of is left out.

    Args:
        totals: `(queries,)` sum of each list's values.
        numbers: `(queries,)` how many values that were.
        weight: `(queries,)`.
        bad: `(queries,)` bool.

    Returns:
        Σ weight·mean, Σ weight and the number of bad lists.
    """
    weight = weight.where(numbers > 0, 0)
    means = (totals / numbers.clamp(min=1)).where(weight != 0, 0)  # infinity times a weight of 0 would be NaN
    return torch.stack([(weight * means).sum(), weight.sum(), bad.sum()])
