"""`PreparedLookups`: `concatenate_lookups` in tables that stay where they are."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from retrank.core.errors import ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import bind, is_native
from retrank.ops.concatenate_lookups import POOLING, Lookup, concatenate_lookups
from retrank.ops.lookup import Pooling

__all__ = ["PreparedLookups", "Rows"]


@final
class Rows(NamedTuple):
    """A table whose vectors are its rows as they are."""

    weight: Tensor
    """`(rows, dim)` floats."""
    pooling: Pooling
    """How lists are pooled."""


@final
class PreparedLookups:
    """`concatenate_lookups` for a model that is served: its tables are checked once and not at each call.

    Args:
        tables: at least one. They do not learn; changes of their numbers in place are seen.

    Raises:
        ShapeError: no tables, or ones that do not fit each other.
    """

    def __init__(self, tables: Sequence[Rows]) -> None:
        nothing = torch.empty(0, dtype=torch.int64)
        # Aliases keep the memory: nothing else can come to lie at an address that is remembered.
        self._tables = [Rows(weight.detach().contiguous(), pooling) for weight, pooling in tables]
        weights = [weight for weight, _ in self._tables]
        concatenate_lookups(
            [Lookup(table.weight, nothing.to(table.weight.device), table.pooling) for table in self._tables]
        )
        self._width, self._run = sum(weight.shape[1] for weight in weights), None
        if is_native(*weights):
            self._run = bind(
                "concatenate_lookups",
                num_parts=len(weights),
                width=self._width,
                heights=array("q", [weight.shape[0] for weight in weights]),
                widths=array("q", [weight.shape[1] for weight in weights]),
                strides=array("q", [weight.shape[1] for weight in weights]),
                combiners=array("q", [POOLING[pooling] for _, pooling in self._tables]),
                values=weights,
            )

    def __call__(self, ids: Sequence[Tensor | Jagged]) -> Tensor:
        """Look up ids, and put the vectors of each row one after another.

        Args:
            ids: for each table `(batch,)` int64, or lists of them, which are pooled.

        Returns:
            `(batch, sum of the dims)`, the bits of `concatenate_lookups`.

        Raises:
            ShapeError: ids that do not fit.
            DataError: an id outside of its table.
        """
        found = None
        if self._run is not None and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")) and is_native():
            found = self._by_kernel(ids)
        if found is None:  # the plain operation takes it, or says what is wrong
            tables = zip(self._tables, ids, strict=True)
            return concatenate_lookups([Lookup(table.weight, own, table.pooling) for table, own in tables])
        return found

    def _by_kernel(self, given: Sequence[Tensor | Jagged]) -> Tensor | None:
        """Return the vectors; None if the kernel does not take the ids as they are, or finds a wrong one."""
        assert self._run is not None
        count = len(self._tables)
        flat = [part.values if isinstance(part, Jagged) else part for part in given]
        if len(flat) != count or any(part.dim() != 1 for part in flat):
            return None
        offsets, weights, factors = (list[Tensor | None]([None] * count) for _ in range(3))
        for place, part in enumerate(given):
            if isinstance(part, Jagged):
                offsets[place], weights[place] = part.offsets, part.weights
                factors[place] = torch.empty(flat[place].shape)
        num_ids, found = array("q", [part.shape[0] for part in flat]), array("q", bytes(8 * count))
        batch = len(given[0])
        rows = torch.empty(batch, self._width)
        try:
            self._run(batch, num_ids, flat, offsets, weights, factors, found, rows)
        except ShapeError:
            return None
        return None if any(found) else rows
