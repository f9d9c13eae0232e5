"""`concatenate_lookups`: vectors in one tensor, those that have yet to be looked up in tables included."""

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native

__all__ = ["Lookup", "row_gradient", "concatenate_lookups"]

_POOLING: Final = {"sum": 0, "mean": 1, "sqrtn": 2}
_OUT_OF_RANGE: Final = 1


@final
class Lookup(NamedTuple):
    """Rows of a table that are asked for and not read yet."""

    weight: Tensor
    """`(rows, dim)`."""
    ids: Tensor | Jagged
    """`(batch,)` int64, or lists of them that are pooled. Id 0 is padding."""
    pooling: Literal["sum", "mean", "sqrtn"]
    """How lists are, as in `EmbeddingTable`."""
    by_torch: Callable[[], Tensor]
    """Makes the same vectors in plain torch."""


def concatenate_lookups(parts: Sequence[Tensor | Lookup]) -> Tensor:
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
        >>> from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups
        >>> table, ids = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([1, 0])
        >>> concatenate_lookups([torch.tensor([[5.0], [6.0]]), Lookup(table, ids, "mean", lambda: table[ids])])
        tensor([[5., 1., 2.],
                [6., 0., 0.]])
    """
    if _fits(parts):
        values = [part.weight if isinstance(part, Lookup) else part for part in parts]
        rows: Tensor = _ConcatenateLookups.apply(parts, *values)  # type: ignore[no-untyped-call]
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
    lengths, floats = set(), []
    for part in parts:
        if isinstance(part, Tensor):
            if part.dim() != 2:
                return False
            lengths.add(part.shape[0])
            floats.append(part)
            continue
        if not (part.ids.values if isinstance(part.ids, Jagged) else part.ids).is_cpu:
            return False
        lengths.add(len(part.ids) if isinstance(part.ids, Jagged) else part.ids.shape[0])
        floats.append(part.weight)
        if isinstance(part.ids, Jagged) and part.ids.weights is not None:
            if part.ids.weights.requires_grad:
                return False
            floats.append(part.ids.weights)
    return len(lengths) == 1 and is_native(*floats)


class _Part(NamedTuple):
    """A part without its values."""

    shape: torch.Size
    lookup: Lookup | None = None
    ids: Tensor | None = None
    offsets: Tensor | None = None
    weights: Tensor | None = None
    factors: Tensor | None = None  # of each id in the sum of its list

    @classmethod
    def of(cls, part: Tensor | Lookup) -> "_Part":
        if isinstance(part, Tensor):
            return cls(part.shape)
        if isinstance(part.ids, Tensor):
            return cls(part.weight.shape, part, part.ids.contiguous())
        ids, offsets, weights = part.ids.values.contiguous(), part.ids.offsets.contiguous(), part.ids.weights
        weights = None if weights is None else weights.contiguous()
        return cls(part.weight.shape, part, ids, offsets, weights, part.weight.new_empty(ids.shape))

    def numbers(self, values: Tensor | None = None, gradient: Tensor | None = None) -> tuple[int, ...]:
        """Return what the kernels read."""
        place = (0, 0) if values is None else (values.data_ptr(), values.stride(0))
        made = 0 if gradient is None else gradient.data_ptr()
        if self.ids is None or self.lookup is None:
            return (*place, *self.shape, 0, 0, 0, 0, 0, 0, made, 0)
        if self.offsets is None or self.factors is None:
            return (*place, *self.shape, self.ids.data_ptr(), 0, self.ids.shape[0], 0, 0, 0, made, 0)
        weights, pooling = 0 if self.weights is None else self.weights.data_ptr(), _POOLING[self.lookup.pooling]
        lists = (self.ids.data_ptr(), self.offsets.data_ptr(), self.ids.shape[0], weights, pooling)
        return (*place, *self.shape, *lists, self.factors.data_ptr(), made, 0)


class _ConcatenateLookups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Sequence[Tensor | Lookup], *values: Tensor) -> Tensor:
        parts = [_Part.of(part) for part in given]
        values = tuple(value if value.stride(1) == 1 else value.contiguous() for value in values)
        first = given[0].ids if isinstance(given[0], Lookup) else given[0]
        output = values[0].new_empty(len(first), sum(part.shape[1] for part in parts))
        numbers = [part.numbers(value) for part, value in zip(parts, values, strict=True)]
        table = array("q", chain.from_iterable(numbers))
        call("concatenate_lookups", table, len(parts), *output.shape, output)
        if any(found & _OUT_OF_RANGE for found in table[len(numbers[0]) - 1 :: len(numbers[0])]):
            raise IndexError("an id outside of its table, or lists whose offsets are not those of their ids")
        ctx.parts = parts
        read_again = (tensor for part in parts for tensor in (part.ids, part.offsets) if tensor is not None)
        ctx.save_for_backward(*read_again)  # torch notices if they change
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
            grad.new_empty((grad if part.ids is None else part.ids).shape[0], part.shape[1]) if is_wanted else None
            for part, is_wanted in zip(parts, wanted, strict=True)
        ]
        numbers = [part.numbers(gradient=own) for part, own in zip(parts, gradients, strict=True)]
        table = array("q", chain.from_iterable(numbers))
        call("concatenate_lookups_backward", table, len(parts), len(grad), grad.data_ptr(), grad.stride(0))
        return None, *(
            own if own is None or part.ids is None else row_gradient(part.ids, own, part.shape)
            for part, own in zip(parts, gradients, strict=True)
        )


def _derived(part: _Part, grad: Tensor) -> Tensor:
    if part.lookup is None:
        return grad
    return torch.autograd.grad(part.lookup.by_torch(), part.lookup.weight, grad, create_graph=True)[0]
