"""Whether lists are the same: to the bit with the kernels, else up to rounding.

The kernels round a row alike wherever it stands. The products of other libraries need not, not even within one shape.
"""

import polars as pl
import pytest

from retrank.ops.dense import has_independent_rows

__all__ = ["same_lists"]


def same_lists(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    if has_independent_rows():
        return one.equals(other)
    scores = pytest.approx(other["score"].to_list(), rel=1e-5, abs=1e-6)
    return one.drop("score").equals(other.drop("score")) and one["score"].to_list() == scores
