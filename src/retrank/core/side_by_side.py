"""`side_by_side`: vectors in one tensor, those that have yet to be looked up in tables included."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native

__all__ = ["Lookup", "row_gradient", "side_by_side"]

_POOLING: Final = {"sum": 0, "mean": 1, "sqrtn": 2}
_OUT_OF_RANGE: Final = 1


@final
@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of a table that are asked for and not read yet.

    Args:
        weight: `(rows, dim)`.
        ids: `(batch,)` int64, or lists of them that are pooled. Id 0 is padding.
        pooling: how lists are, as in `EmbeddingTable`.
        by_torch: the same vectors in plain torch.
    """

    weight: Tensor
    ids: Tensor | Jagged
    pooling: Literal["sum", "mean", "sqrtn"]
    by_torch: Callable[[], Tensor]


def side_by_side(parts: Sequence[Tensor | Lookup]) -> Tensor:
    """Put the vectors of each row one after another.

    On the CPU one kernel reads all tables and lists, and writes each row once; its gradient goes back in one pass as
    well, row-sparse to the tables. `torch.cat` leaves the parts of a gradient far apart, where they are slow to read.

    Args:
        parts: at least one: `(batch, width)` floats, or what to look up.

    Returns:
        `(batch, sum of the widths)`.

    Raises:
        IndexError: an id outside of its table; on a GPU, torch's own device-side assertion.

    Example:
        >>> import torch
        >>> from retrank.core.side_by_side import Lookup, side_by_side
        >>> table, ids = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([1, 0])
        >>> side_by_side([torch.tensor([[5.0], [6.0]]), Lookup(table, ids, "mean", lambda: table[ids])])
        tensor([[5., 1., 2.],
                [6., 0., 0.]])
    """
    if _fits(parts):
        values = [part.weight if isinstance(part, Lookup) else part for part in parts]
        rows: Tensor = _SideBySide.apply(parts, *values)  # type: ignore[no-untyped-call]
        return rows
    return _by_torch(parts)


def _by_torch(parts: Sequence[Tensor | Lookup]) -> Tensor:
    return torch.cat([part.by_torch() if isinstance(part, Lookup) else part for part in parts], dim=1)


def row_gradient(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Return the gradient of a table that names only the rows that were read.

    Args:
        ids: `(entries,)` int64; they may repeat.
        values: `(entries, dim)`.
        shape: of the table.

    Returns:
        Sparse COO of that shape.
    """
    return torch.sparse_coo_tensor(ids.unsqueeze(0), values, shape, check_invariants=False)


def _fits(parts: Sequence[Tensor | Lookup]) -> bool:
    lengths = {len(part.ids if isinstance(part, Lookup) else part) for part in parts}
    values = [part.weight if isinstance(part, Lookup) else part for part in parts]
    lists = [part.ids for part in parts if isinstance(part, Lookup) and isinstance(part.ids, Jagged)]
    weights = [ids.weights for ids in lists if ids.weights is not None]
    fits = len(lengths) == 1 and all(tensor.dim() == 2 for tensor in values)
    return fits and not any(tensor.requires_grad for tensor in weights) and is_native(*values, *weights)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part without its values."""

    lookup: Lookup | None
    shape: torch.Size
    ids: Tensor | None
    factors: Tensor | None  # of each id in the sum of its list

    @classmethod
    def of(cls, part: Tensor | Lookup) -> "_Part":
        if isinstance(part, Tensor):
            return cls(None, part.shape, None, None)
        if isinstance(part.ids, Tensor):
            return cls(part, part.weight.shape, part.ids.contiguous(), None)
        ids = part.ids.values.contiguous()
        return cls(part, part.weight.shape, ids, part.weight.new_empty(len(ids)))

    def numbers(self, values: Tensor | None = None, gradient: Tensor | None = None) -> list[int]:
        """Return what the kernels read."""
        lists = self.lookup.ids if self.lookup is not None and isinstance(self.lookup.ids, Jagged) else None
        return [
            _address(values),
            0 if values is None else values.stride(0),
            *self.shape,
            _address(self.ids),
            _address(None if lists is None else lists.offsets),
            0 if self.ids is None else len(self.ids),
            _address(None if lists is None else lists.weights),
            0 if self.lookup is None else _POOLING[self.lookup.pooling],
            _address(self.factors),
            _address(gradient),
            0,
        ]


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Sequence[Tensor | Lookup], *values: Tensor) -> Tensor:
        parts = [_Part.of(part) for part in given]
        values = tuple(value if value.stride(1) == 1 else value.contiguous() for value in values)
        first = given[0].ids if isinstance(given[0], Lookup) else given[0]
        output = values[0].new_empty(len(first), sum(part.shape[1] for part in parts))
        numbers = [part.numbers(value) for part, value in zip(parts, values, strict=True)]
        table = array("q", chain.from_iterable(numbers))
        call("side_by_side", table, len(parts), *output.shape, output)
        if any(found & _OUT_OF_RANGE for found in table[len(numbers[0]) - 1 :: len(numbers[0])]):
            raise IndexError("an id outside of its table")
        ctx.parts = parts
        ctx.save_for_backward(*(part.ids for part in parts if part.ids is not None))  # torch notices if they change
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts, wanted, _ = ctx.parts, ctx.needs_input_grad[1:], ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients will be derived in their turn
            slices = torch.split(grad, [part.shape[1] for part in parts], dim=1)
            pairs = zip(parts, slices, strict=True)
            found = [_derived(*pair) if is_wanted else None for pair, is_wanted in zip(pairs, wanted, strict=True)]
            return None, *found
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        gradients = [
            grad.new_empty(len(grad) if part.ids is None else len(part.ids), part.shape[1]) if is_wanted else None
            for part, is_wanted in zip(parts, wanted, strict=True)
        ]
        numbers = [part.numbers(gradient=own) for part, own in zip(parts, gradients, strict=True)]
        table = array("q", chain.from_iterable(numbers))
        call("side_by_side_backward", table, len(parts), len(grad), grad.data_ptr(), grad.stride(0))
        return None, *(
            own if own is None or part.ids is None else row_gradient(part.ids, own, part.shape)
            for part, own in zip(parts, gradients, strict=True)
        )


def _derived(part: _Part, grad: Tensor) -> Tensor:
    if part.lookup is None:
        return grad
    return torch.autograd.grad(part.lookup.by_torch(), part.lookup.weight, grad, create_graph=True)[0]


def _address(tensor: Tensor | None) -> int:
    assert tensor is None or tensor.stride(-1) == 1 or tensor.numel() <= 1
    return 0 if tensor is None else tensor.data_ptr()
