"""`concatenate_lookups`: vectors in one tensor, those that have yet to be looked up in tables included."""

from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native
from retrank.core.schema import PADDING_ID
from retrank.core.tensors import can_look
from retrank.ops.checks import described, require_floats, require_integers
from retrank.ops.lookup import Pooling, gather, pool, row_gradient

__all__ = ["POOLING", "Lookup", "concatenate_lookups"]

POOLING: Final = {"sum": 0, "mean": 1, "sqrtn": 2}
"""The numbers that the kernel has for them."""


@final
class Lookup(NamedTuple):
    """Rows of a table that are asked for and not read yet."""

    weight: Tensor
    """`(rows, dim)` floats."""
    ids: Tensor | Jagged
    """`(batch,)` int64, or lists of them that are pooled. Id 0 is padding."""
    pooling: Pooling
    """How lists are."""


def concatenate_lookups(parts: Sequence[Tensor | Lookup]) -> Tensor:
    """Put the vectors of each row one after another.

    On the CPU one kernel reads all tables and lists, and writes each row once; its gradient goes back in one pass as
    well, row-sparse to the tables. `torch.cat` leaves the parts of a gradient far apart, where they are slow to read.

    Args:
        parts: at least one: `(batch, width)` floats, or what to look up; all floats of one dtype.

    Returns:
        `(batch, sum of the widths)`.

    Raises:
        ShapeError: no parts, or ones that do not fit each other.
        DataError: an id outside of its table; on a GPU, torch's own device-side assertion stops the program instead.

    Example:
        >>> import torch
        >>> from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups
        >>> table, ids = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([1, 0])
        >>> concatenate_lookups([torch.tensor([[5.0], [6.0]]), Lookup(table, ids, "mean")])
        tensor([[5., 1., 2.],
                [6., 0., 0.]])
    """
    floats = _checked(parts)
    learns_weights = any(isinstance(part, Lookup) and _weights_learn(part) for part in parts)
    if learns_weights or torch.is_autocast_enabled("cpu") or not is_native(*floats):
        return _by_torch(parts)
    values = [part.weight if isinstance(part, Lookup) else part for part in parts]
    if not torch.is_grad_enabled():  # a request, for which autograd's bookkeeping is a good part of the cost
        return _by_kernel(parts, values)[0]
    rows: Tensor = _ConcatenateLookups.apply(parts, *values)  # type: ignore[no-untyped-call]
    return rows


def _weights_learn(part: Lookup) -> bool:
    return isinstance(part.ids, Jagged) and part.ids.weights is not None and part.ids.weights.requires_grad


def _checked(parts: Sequence[Tensor | Lookup]) -> list[Tensor]:
    """Return all floats of the parts, if the parts fit each other."""
    if not parts:
        raise _error("at least one part", "none", "parts")
    floats, names = [], []
    for place, part in enumerate(parts):
        floats.append(part.weight if isinstance(part, Lookup) else part)
        names.append(f"part {place}")
        if isinstance(part, Lookup) and isinstance(part.ids, Jagged) and part.ids.weights is not None:
            floats.append(part.ids.weights)
            names.append(f"weights of part {place}")
    require_floats("concatenate_lookups", floats, names)
    batch = _num_rows(parts[0])
    for place, part in enumerate(parts):
        name, values = f"part {place}", part.weight if isinstance(part, Lookup) else part
        if values.dim() != 2 or _num_rows(part) != batch:
            given = described(values) if isinstance(part, Tensor) else f"{_num_rows(part)} rows of {described(values)}"
            raise _error(f"{batch} rows of vectors, shape ({batch}, width) or looked up in (rows, width)", given, name)
        if isinstance(part, Lookup):
            _check_lookup(part, batch, name)
    return floats


def _check_lookup(part: Lookup, batch: int, name: str) -> None:
    if part.pooling not in POOLING:
        raise _error(f"a pooling of {list(POOLING)}", repr(part.pooling), name)
    ids, device = part.ids.values if isinstance(part.ids, Jagged) else part.ids, part.weight.device
    require_integers("concatenate_lookups", ids, f"ids of {name}", ids.shape[:1], device)
    if isinstance(part.ids, Jagged):
        require_integers("concatenate_lookups", part.ids.offsets, f"offsets of {name}", (batch + 1,), device)
        if part.ids.weights is not None and part.ids.weights.shape != ids.shape:
            raise _error(f"weights of shape {tuple(ids.shape)}", described(part.ids.weights), name)


def _num_rows(part: Tensor | Lookup) -> int:
    rows = part.ids if isinstance(part, Lookup) else part
    if isinstance(rows, Tensor) and rows.dim() == 0:
        raise _error("vectors or ids of a batch", described(rows), "parts")
    return len(rows) if isinstance(rows, Jagged) else rows.shape[0]


def _error(expected: str, got: str, where: str) -> ShapeError:
    return ShapeError(expected, got, f"concatenate_lookups, {where}", "give every part the same rows")


def _by_torch(parts: Sequence[Tensor | Lookup]) -> Tensor:
    _refuse_ids_out_of_range(parts)
    return torch.cat([_look_up(part) if isinstance(part, Lookup) else part for part in parts], dim=1)


def _look_up(part: Lookup) -> Tensor:
    if isinstance(part.ids, Jagged):
        return pool(part.weight, part.ids, part.pooling)
    return gather(part.weight, part.ids)


def _refuse_ids_out_of_range(parts: Sequence[Tensor | Lookup]) -> None:
    for place, part in enumerate(parts):
        if isinstance(part, Tensor):
            continue
        ids = part.ids.values if isinstance(part.ids, Jagged) else part.ids
        if not can_look(ids):
            continue
        if isinstance(part.ids, Jagged):
            part.ids.check()
        outside = (ids < 0) | (ids >= len(part.weight))
        if bool(outside.any()):
            at = int(outside.nonzero()[0])
            row = int(part.ids.row_index()[at]) if isinstance(part.ids, Jagged) else at
            raise DataError(
                f"ids in [0, {len(part.weight)})",
                str(int(ids[at])),
                f"concatenate_lookups, part {place}, row {row}",
                "size the table by its column",
            )


def _by_kernel(given: Sequence[Tensor | Lookup], values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
    """Return the vectors, and what the gradient needs: ids, offsets and factors of all parts."""
    ids, offsets, weights, factors = ([_tensor(part, name) for part in given] for name in _OF_LOOKUPS)
    rows = [value if value.stride(1) == 1 else value.contiguous() for value in values]
    output = rows[0].new_empty(_num_rows(given[0]), sum(value.shape[1] for value in rows))
    found = array("q", bytes(8 * len(given)))
    call(
        "concatenate_lookups",
        len(given),
        *output.shape,
        array("q", [value.shape[0] for value in rows]),
        array("q", [value.shape[1] for value in rows]),
        array("q", [value.stride(0) for value in rows]),
        array("q", [0 if tensor is None else len(tensor) for tensor in ids]),
        array("q", [POOLING[part.pooling] if isinstance(part, Lookup) else 0 for part in given]),
        rows,
        _contiguous(ids),
        _contiguous(offsets),
        _contiguous(weights),
        factors,
        found,
        output,
    )
    if any(found):
        _refuse_ids_out_of_range(given)
        raise DataError("ids that stay as they are", "others", "concatenate_lookups", "change them before or after")
    return output, [*ids, *offsets, *factors]


class _Part(NamedTuple):
    """What a part is, without its tensors."""

    shape: torch.Size
    """Of its vectors, or of its table."""
    is_looked_up: bool
    are_lists: bool

    @classmethod
    def of(cls, part: Tensor | Lookup) -> "_Part":
        if isinstance(part, Tensor):
            return cls(part.shape, is_looked_up=False, are_lists=False)
        return cls(part.weight.shape, is_looked_up=True, are_lists=isinstance(part.ids, Jagged))


class _ConcatenateLookups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Sequence[Tensor | Lookup], *values: Tensor) -> Tensor:
        output, read_again = _by_kernel(given, values)
        ctx.parts = [_Part.of(part) for part in given]
        ctx.save_for_backward(*read_again)  # torch notices if they change
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts, wanted, saved, count = ctx.parts, ctx.needs_input_grad[1:], ctx.saved_tensors, len(ctx.parts)
        ids, offsets, factors = saved[:count], saved[count : 2 * count], saved[2 * count :]
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            slices = torch.split(grad, [part.shape[1] for part in parts], dim=1)
            found = map(_derived, parts, slices, ids, offsets, factors)
            return None, *(own if is_wanted else None for own, is_wanted in zip(found, wanted, strict=True))
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        num_rows = [len(grad) if own is None else len(own) for own in ids]
        gradients = [
            grad.new_empty(rows, part.shape[1]) if is_wanted else None
            for rows, part, is_wanted in zip(num_rows, parts, wanted, strict=True)
        ]
        call(
            "concatenate_lookups_backward",
            count,
            *grad.shape,
            array("q", [part.shape[1] for part in parts]),
            array("q", [0 if own is None else len(own) for own in ids]),
            array("q", num_rows),
            _contiguous(ids),
            _contiguous(offsets),
            _contiguous(factors),
            grad.stride(0),
            grad,
            gradients,
        )
        return None, *(
            own if own is None or rows is None else row_gradient(rows, own, part.shape)
            for own, rows, part in zip(gradients, ids, parts, strict=True)
        )


_OF_LOOKUPS: Final = ("ids", "offsets", "weights", "factors")


def _tensor(part: Tensor | Lookup, name: str) -> Tensor | None:
    """Return what a part has besides its vectors; factors, of each id in the sum of its list, are yet to be made."""
    if isinstance(part, Tensor):
        return None
    if isinstance(part.ids, Tensor):
        return part.ids if name == "ids" else None
    if name == "factors":
        return part.weight.new_empty(part.ids.values.shape)
    lists: dict[str, Tensor | None] = {
        "ids": part.ids.values,
        "offsets": part.ids.offsets,
        "weights": part.ids.weights,
    }
    return lists[name]


def _contiguous(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _derived(part: _Part, grad: Tensor, ids: Tensor | None, offsets: Tensor | None, factors: Tensor | None) -> Tensor:
    """Return a part's gradient with a graph of its own."""
    if ids is None:
        return grad
    if offsets is None or factors is None:
        return row_gradient(ids, grad * (ids != PADDING_ID).unsqueeze(1), part.shape)
    spread = grad.repeat_interleave(offsets.diff(), dim=0, output_size=len(ids))
    return row_gradient(ids, spread * factors.unsqueeze(1), part.shape)
