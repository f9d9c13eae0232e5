"""Checks of the numbers that losses are given, where they enter.

On the CPU a bad number raises. On a GPU looking would mean waiting, and a trace has no numbers: there it becomes NaN,
as does the loss it is part of, and training ends with an error when the losses are next read.
"""

import sys
from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import DataError
from retrank.core.tensors import can_look

__all__ = ["FINITE", "checked", "checked_log_q", "checked_weight"]

FINITE: Final = sys.float_info.max
_ROUNDING: Final = 1e-5  # that a logarithm of 1 may be above 0


def checked(
    values: Tensor, least: float, most: float, *, expected: str, where: str, name: str, fix: str | None = None
) -> Tensor:
    """Refuse numbers out of a range; one pass, a few microseconds for a batch.

    Args:
        values: any shape.
        least: the smallest number allowed.
        most: the largest number allowed.
        expected: what the numbers should be, for the message.
        where: the loss or task, for the message.
        name: what they are, for the message.
        fix: what to do about it.

    Returns:
        The same numbers; on a GPU, bad ones are replaced by NaN.

    Raises:
        DataError: a number out of the range, or NaN; not on a GPU.

    Example:
        >>> import torch
        >>> from retrank.losses.checks import checked
        >>> checked(torch.tensor([1.0, 5.0]), 0, 1, expected="labels from 0 to 1", where="Ranking", name="labels")
        Traceback (most recent call last):
        ...
        retrank.core.errors.DataError: Ranking, labels, row 1: expected labels from 0 to 1, got 5
    """
    if values.numel() == 0 or values.is_meta:
        return values
    if not can_look(values):
        return values.where(_in_range(values, least, most), torch.nan)
    smallest, largest = torch.aminmax(values.detach())  # NaN wins, and lies in no range
    if least <= float(smallest) and float(largest) <= most:
        return values
    place = (~_in_range(values, least, most)).nonzero()[0].tolist()
    row, got = ", ".join(map(str, place)), f"{float(values[tuple(place)]):g}"
    raise DataError(expected, got, f"{where}, {name}" + (f", row {row}" if place else ""), fix)


def checked_weight(weight: Tensor, where: str) -> Tensor:
    """Refuse weights that are negative, infinite or NaN; see `checked`.

    Args:
        weight: any shape.
        where: the loss or task, for the message.

    Returns:
        The weights.

    Raises:
        DataError: a bad weight.
    """
    return checked(weight, 0, FINITE, expected="finite weights of at least 0", where=where, name="weight")


def checked_log_q(log_q: Tensor, where: str) -> Tensor:
    """Refuse what is no logarithm of a probability, or that of 0; see `checked`.

    Args:
        log_q: any shape.
        where: the loss or task, for the message.

    Returns:
        The same.

    Raises:
        DataError: a number above 0, infinity or NaN.
    """
    expected, fix = "logarithms of probabilities, finite and at most 0", "pass the logarithm of each probability"
    return checked(log_q, -FINITE, _ROUNDING, expected=expected, where=where, name="log_q", fix=fix)


def _in_range(values: Tensor, least: float, most: float) -> Tensor:
    inside = values.isfinite()  # in float32, the greatest float64 would be taken for infinity
    if least > -FINITE:
        inside &= values >= least
    return inside & (values <= most) if most < FINITE else inside
