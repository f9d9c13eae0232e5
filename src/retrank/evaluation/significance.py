"""Intervals and p-values by resampling queries."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, ShapeError
from retrank.core.seeds import generator

__all__ = ["Bootstrap", "bootstrap"]

_MAX_DRAWS = 4_000_000  # resampled indices held at once


@final
@dataclass(frozen=True)
class Bootstrap:
    """Means of columns over queries, with what resampling the queries says about them.

    Args:
        mean: `(columns,)` float64, the mean over all queries.
        low: `(columns,)`, the lower end of the 95% interval.
        high: `(columns,)`, the upper end.
        p_value: `(columns,)`, two-sided: how often the resampled mean lies on the other side of zero, doubled.

    Example:
        >>> import torch, retrank as rr
        >>> result = rr.evaluation.bootstrap(torch.tensor([[1.0], [1.0], [1.0]]), seed=0)
        >>> float(result.low[0]), float(result.mean[0]), float(result.high[0])
        (1.0, 1.0, 1.0)
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    p_value: Tensor


def bootstrap(values: Tensor, *, seed: int = 0, num_resamples: int = 2000) -> Bootstrap:
    """Resample queries with replacement and look at the spread of the means.

    All columns share the same resamples, so a column that holds the difference of two systems is a paired test.

    Args:
        values: `(queries, columns)`, a metric of each query.
        seed: of the resampling.
        num_resamples: how many; a p-value cannot be below `2 / (num_resamples + 1)`.

    Returns:
        Percentile intervals (95%) and two-sided p-values against a mean of zero.

    Raises:
        ShapeError: `values` is not a matrix with at least one row.
        ConfigError: fewer than 100 resamples.

    Example:
        >>> import torch, retrank as rr
        >>> better = torch.linspace(-0.2, 1.0, 200)[:, None]
        >>> bool(rr.evaluation.bootstrap(better).p_value < 0.01)
        True

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 13 and 16.
    """
    if values.dim() != 2 or len(values) == 0:
        raise ShapeError("(queries, columns)", str(tuple(values.shape)), "bootstrap")
    if num_resamples < 100:
        raise ConfigError("at least 100 resamples", str(num_resamples), "bootstrap")
    values = values.double()
    draw = generator(seed, "bootstrap")
    num_queries = len(values)
    chunk = max(1, _MAX_DRAWS // num_queries)
    means = []
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        index = torch.randint(num_queries, (rows, num_queries), generator=draw)
        index += torch.arange(rows)[:, None] * num_queries
        times = torch.bincount(index.reshape(-1), minlength=rows * num_queries).view(rows, num_queries)
        means.append(times.double() @ values / num_queries)
    resampled = torch.cat(means)
    low, high = torch.quantile(resampled, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    below, above = ((resampled <= 0).sum(dim=0) + 1, (resampled >= 0).sum(dim=0) + 1)
    p_value = (2 * torch.minimum(below, above) / (num_resamples + 1)).clamp(max=1.0)
    return Bootstrap(values.mean(dim=0), low, high, p_value)
