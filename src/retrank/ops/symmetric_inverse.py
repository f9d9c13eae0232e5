"""`invert_strips`: the inverse of a large positive definite matrix, in the memory of its lower half."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError

__all__ = ["invert_strips"]


def invert_strips(strips: Sequence[Tensor], advance: Callable[[int], object] = lambda _: None) -> None:
    """Replace a symmetric, positive definite matrix by the negative of its inverse.

    Every strip is swept out of the others in turn, which takes as many operations as a Cholesky factorization and its
    inverse, n³, nearly all of them in products of matrices, but no second matrix.

    Args:
        strips: the matrix in strips of rows, all float64 of as many rows, the last perhaps of fewer, and each up to and
            with its own square on the diagonal: `(rows, columns before it + rows)`. Changed in place.
        advance: called with the number of rows of each strip that is done.

    Raises:
        ShapeError: strips of other shapes.
        DataError: the matrix is not positive definite.

    Example:
        >>> import torch
        >>> from retrank.ops.symmetric_inverse import invert_strips
        >>> strips = [torch.tensor([[4.0]]).double(), torch.tensor([[2.0, 2.0]]).double()]
        >>> invert_strips(strips)
        >>> [strip.tolist() for strip in strips]
        [[[-0.5]], [[0.5, -1.0]]]

    Source: Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician 1979, by blocks.
    """
    _check(strips)
    size = strips[-1].shape[1]
    for strip in strips:
        last = strip.shape[1]
        first = last - len(strip)
        column = strip.new_zeros(size, len(strip))  # of the whole matrix, without the square on the diagonal
        column[:first] = strip[:, :first].T
        for below in strips:
            end = below.shape[1]
            if end > last:
                column[end - len(below) : end] = below[:, first:last]
        inverse = _inverse(strip[:, first:last], first)
        swept = column @ inverse
        for other in strips:
            end = other.shape[1]
            start = end - len(other)
            if end != last:
                other.addmm_(swept[start:end], column[:end].T, alpha=-1)
            if end > last:
                other[:, first:last] = swept[start:end]
        strip[:, :first] = swept[:first].T
        strip[:, first:last] = -inverse
        advance(len(strip))


def _inverse(square: Tensor, first_row: int) -> Tensor:
    factor, failure = torch.linalg.cholesky_ex(square)
    if int(failure):
        row = first_row + int(failure) - 1
        raise DataError("a positive definite matrix", "one that is not", f"matrix to invert, row {row}")
    return torch.cholesky_inverse(factor)


def _check(strips: Sequence[Tensor]) -> None:
    rows, end = len(strips[0]) if strips else 0, 0
    for place, strip in enumerate(strips):
        end += len(strip)
        is_last = place == len(strips) - 1
        fits = strip.shape == (len(strip), end) and (len(strip) == rows or (is_last and 0 < len(strip) < rows))
        if strip.dtype != torch.float64 or not fits:
            raise ShapeError(
                f"float64 strips of {rows} rows, each up to its own square",
                f"{strip.dtype} of shape {tuple(strip.shape)}",
                f"matrix to invert, strip {place}",
            )
    if not rows:
        raise ShapeError("strips with rows", "none", "matrix to invert")
