"""The candidates with the highest dot product for each query: exact, with ties in row order.

The kernels score, compare and forget; plain torch holds one block of scores at a time. Each gives scores that depend on
their query and candidate alone, to the bit, though the two round differently.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.native import call, is_native
from retrank.ops.prepared_candidates import PreparedCandidates
from retrank.ops.score_blocks import BlockFilter, block_scores, block_shape, group_width, query_chunks
from retrank.ops.score_checks import (
    RowLists,
    as_float32,
    check_finite,
    checked_lists,
    checked_mask,
    is_shared,
    may_overflow,
)
from retrank.ops.top_k import best_of_block, empty_result, merge, unpack

__all__ = ["Allowed", "best_candidates", "best_of_stream"]

Allowed = Jagged | Tensor
"""The only candidates that may be returned: a bool mask `(num_candidates,)` or a `Jagged` with one list of rows, which
hold for all queries, or a `Jagged` with one list per query."""

_MISSING: Final = int(empty_result(1, 1, torch.device("cpu")))
_LARGEST: Final = torch.finfo(torch.float32).max
_MOST: Final = 2**32 - 1  # rows that fit beside a score in 64 bits
_SHORT: Final = 16  # the scores of a panel cost as much as picking one candidate in so many


def best_candidates(
    queries: Tensor,
    candidates: PreparedCandidates,
    k: int,
    *,
    exclude: RowLists | None = None,
    allow: Allowed | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k best candidates of each query.

    Args:
        queries: `(batch, dim)` float32, float16 or bfloat16 on the device of the candidates.
        candidates: all of them, finite.
        k: how many, at most `num_candidates`.
        exclude: one list per query of candidate rows that must not be returned.
        allow: the only candidates that may be returned; `exclude` still holds.

    Returns:
        Scores float32 and rows int64, `(batch, k)` each, best first, ties in row order; -inf and -1 where fewer than k
        are left.

    Raises:
        ConfigError: k is not in `[1, num_candidates]`.
        ShapeError: tensors or lists that do not fit.
        DataError: a query whose scores are not finite, or a row that is no candidate.
    """
    queries = _checked_queries(queries, candidates.dim, candidates.device)
    _check_k(k, candidates.num_candidates)
    _check_scores(queries, candidates.largest)
    rules = _rules(len(queries), candidates.num_candidates, candidates.device, exclude, allow)
    if not (candidates.for_kernels and is_native(queries)):
        rules = rules.with_mask(candidates.num_candidates)
        return unpack(_best_in_blocks(queries, [candidates], candidates.num_candidates, k, rules))
    return _unpacked_by_kernel(_best_by_kernel(queries.contiguous(), candidates, k, rules))


def best_of_stream(
    queries: Tensor,
    parts: Iterable[PreparedCandidates],
    num_candidates: int,
    k: int,
    *,
    dim: int,
    device: torch.device,
    exclude: RowLists | None = None,
    allow: Allowed | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k best candidates of each query where not all candidates are in memory; see `best_candidates`.

    Args:
        queries: `(batch, dim)`.
        parts: the candidates, one part after another, all but the last a multiple of `group_width` long; not read if
            there are no queries.
        num_candidates: in all parts.
        k: how many.
        dim: of the candidates.
        device: theirs.
        exclude: rows that must not be returned.
        allow: the only candidates that may be returned.

    Returns:
        Scores and rows, `(batch, k)` each, to the bit what `best_candidates` returns.

    Raises:
        ShapeError: as there, or a part that does not fit.
    """
    queries = _checked_queries(queries, dim, device)
    _check_k(k, num_candidates)
    check_finite(queries, "queries")
    rules = _rules(len(queries), num_candidates, device, exclude, allow)
    by_kernel, rules = is_native(queries), rules.with_mask(num_candidates)
    parts = _checked_parts(queries, parts, num_candidates, by_kernel) if len(queries) else []
    if not by_kernel:
        return unpack(_best_in_blocks(queries, parts, num_candidates, k, rules))
    queries, best, first_row = queries.contiguous(), _nothing_found(len(queries), k), 0
    for part in parts:
        _scan(queries, part, first_row, None, rules, best)
        first_row += part.num_candidates
    return _unpacked_by_kernel(best)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What may be returned, checked: `exclude` and `own` hold a list per query, `mask` or `shared` rows for all."""

    exclude: Jagged | None = None
    mask: Tensor | None = None
    shared: Tensor | None = None
    own: Jagged | None = None

    def with_mask(self, num_candidates: int) -> "_Rules":
        """Return the same rules with a mask instead of shared rows."""
        if self.shared is None:
            return self
        mask = torch.zeros(num_candidates, dtype=torch.bool, device=self.shared.device)
        mask[self.shared] = True
        return _Rules(self.exclude, mask)

    def take(self, queries: Tensor) -> "_Rules":
        """Return the rules of some queries, where each has an allow-list of its own."""
        exclude, own = (None if lists is None else lists.take(queries) for lists in (self.exclude, self.own))
        return _Rules(exclude, own=own)


def _rules(
    num_queries: int, num_candidates: int, device: torch.device, exclude: RowLists | None, allow: Allowed | None
) -> _Rules:
    if exclude is not None:
        exclude = checked_lists(exclude, num_queries, num_candidates, device, "exclude")
    if allow is None:
        return _Rules(exclude)
    if isinstance(allow, Tensor):
        return _Rules(exclude, mask=checked_mask(allow, num_candidates, device, "allow"))
    shared = is_shared(allow)
    allow = checked_lists(allow, 1 if shared else num_queries, num_candidates, device, "allow")
    return _Rules(exclude, shared=allow.values) if shared else _Rules(exclude, own=allow)


def _best_by_kernel(queries: Tensor, candidates: PreparedCandidates, k: int, rules: _Rules) -> Tensor:
    """Find the best: `(batch, k)` packed as in `top_k`. Where few are allowed, only those are scored."""
    if rules.own is not None:
        short = rules.own.lengths() * _SHORT <= candidates.num_candidates
        if bool(short.all()):
            return _best_of_lists(queries, candidates, k, rules.exclude, rules.own)
        if bool(short.any()):
            best = _nothing_found(len(queries), k)
            for some in (short.nonzero()[:, 0], (~short).nonzero()[:, 0]):
                best[some] = _best_by_kernel(queries[some], candidates, k, rules.take(some))
            return best
    elif rules.shared is not None and len(rules.shared) * _SHORT <= candidates.num_candidates:
        if len(queries) == 1:
            own = Jagged(rules.shared, torch.tensor([0, len(rules.shared)]))
            return _best_of_lists(queries, candidates, k, rules.exclude, own)
        best, rows = _nothing_found(len(queries), k), torch.unique(rules.shared)
        if len(rows):
            _scan(queries, candidates.only(rows), 0, rows, _Rules(rules.exclude), best)
        return best
    best = _nothing_found(len(queries), k)
    _scan(queries, candidates, 0, None, rules.with_mask(candidates.num_candidates), best)
    return best


def _best_of_lists(
    queries: Tensor, candidates: PreparedCandidates, k: int, exclude: Jagged | None, own: Jagged
) -> Tensor:
    best = torch.empty(len(queries), k, dtype=torch.int64)
    sizes = (len(queries), candidates.dim)
    call("best_of_lists", queries, *sizes, candidates.blocks, *_lists(exclude), *_lists(own), k, best)
    return best


def _scan(
    queries: Tensor, part: PreparedCandidates, first_row: int, rows: Tensor | None, rules: _Rules, best: Tensor
) -> None:
    """Merge the candidates of a part, whose rows are given or follow from the first, into the best so far."""
    mask = None if rules.mask is None else rules.mask[first_row:]
    placed = (part.blocks, part.num_candidates, first_row, rows, mask)
    lists = (*_lists(rules.exclude), *_lists(rules.own))
    call("best_candidates", queries, len(queries), part.dim, *placed, *lists, best.shape[1], best)


def _lists(lists: Jagged | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if lists is None else (lists.values, lists.offsets)


def _nothing_found(num_queries: int, k: int) -> Tensor:
    return torch.full((num_queries, k), _MISSING)


def _unpacked_by_kernel(best: Tensor) -> tuple[Tensor, Tensor]:
    scores, rows = torch.empty(best.shape), torch.empty_like(best)
    call("unpack_keys", best, best.numel(), scores, rows)
    return scores, rows


def _best_in_blocks(
    queries: Tensor, parts: Iterable[PreparedCandidates], num_candidates: int, k: int, rules: _Rules
) -> Tensor:
    """Find the best in plain torch: `(batch, k)` packed as in `top_k`."""
    found = empty_result(len(queries), k, queries.device)
    if len(queries) == 0:
        return found
    chunks, width = query_chunks(queries), group_width(queries.device)
    chunk_rows, block_filter = chunks.shape[1], BlockFilter(num_candidates, width, rules.exclude, rules.mask, rules.own)
    blocks = (block for part in parts for block in part.product_blocks())
    for group, first_row in enumerate(range(0, num_candidates, width)):
        candidates = list(islice(blocks, width // block_shape(queries.device)[1]))
        for number, chunk in enumerate(chunks):
            best = found[number * chunk_rows :][:chunk_rows]
            scores = torch.cat([block_scores(chunk, block) for block in candidates], dim=1)
            block_filter.apply(scores, number, group)
            best[:] = merge(best, best_of_block(scores[: len(best)], first_row, k))
    for _ in blocks:  # there are none, but a stream that goes on wants to say so
        pass
    return found


def _checked_parts(
    queries: Tensor, parts: Iterable[PreparedCandidates], num_candidates: int, by_kernel: bool
) -> Iterator[PreparedCandidates]:
    first_row, width = 0, group_width(queries.device)
    for part in parts:
        last = first_row + part.num_candidates
        fits = (part.dim, part.device, part.for_kernels) == (queries.shape[1], queries.device, by_kernel)
        if not fits or first_row % width or last > num_candidates:
            raise ShapeError(
                f"{num_candidates} candidates of dim {queries.shape[1]} in parts that start at multiples of {width}",
                f"rows {first_row} to {last} of dim {part.dim}",
                "parts",
                "prepare them alike",
            )
        _check_scores(queries, part.largest)
        yield part
        first_row = last
    if first_row != num_candidates:
        raise ShapeError(f"{num_candidates} candidates", str(first_row), "parts", "count them first")


def _checked_queries(queries: Tensor, dim: int, device: torch.device) -> Tensor:
    queries = as_float32(queries, "queries")
    if queries.shape[1] != dim or queries.device != device:
        raise ShapeError(
            f"queries of shape (batch, {dim}) on {device}",
            f"{tuple(queries.shape)} on {queries.device}",
            "queries",
            "embed queries and candidates with the same dim on the same device",
        )
    return queries


def _check_k(k: int, num_candidates: int) -> None:
    if num_candidates > _MOST:
        raise ConfigError(f"at most {_MOST} candidates", str(num_candidates), "search", "search them in several parts")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= num_candidates:
        raise ConfigError(
            f"an integer k in [1, {num_candidates}]", repr(k), "search", "there are not more candidates than that"
        )


def _check_scores(queries: Tensor, largest: Tensor) -> None:
    if len(queries) == 0:
        return
    low, high = map(float, queries.aminmax())
    if not max(-low, high) * float(largest) * queries.shape[1] < _LARGEST:
        raise DataError(
            "finite scores",
            "a query that is not finite, or so large that its scores overflow",
            f"queries, row {int(may_overflow(queries, largest).nonzero()[0])}",
            "check the model's output",
        )
