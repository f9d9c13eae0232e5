"""Which index a catalogue gets if nobody says: the exact one, or, where that takes long, lists of codes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from torch import Tensor

from retrank.core.errors import MissingExtraError
from retrank.core.extras import optional
from retrank.core.notices import warn_once
from retrank.index.exact import Exact
from retrank.index.faiss import Faiss
from retrank.index.index import Index
from retrank.index.keys import KeysLike

__all__ = ["LEAST_LISTED", "IndexChoice", "choose_index"]

# Measured with 64 dimensions on one core: to score a candidate takes 9 ns for one query alone and 1.4 to 2 ns for each
# of many. A search of lists takes 0.1 to 0.5 ms a query and 8 ns for each candidate that it looks at. Where an eighth
# of the lists must be searched, they are faster either way from here on; before, all scores take less than 2 ms.
LEAST_LISTED: Final = 200_000
"""Candidates from which on lists are tried."""

_RECALL: Final = 0.98
_LENGTHS: Final = (10, 100)
_RESCORE: Final = 2  # the codes of 8 bits seldom mistake a candidate by more places than that
_LARGEST_SHARE: Final = 8  # lists are not worth it if more than one in so many must be searched
_EFFORTS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@final
@dataclass(frozen=True)
class IndexChoice:
    """What was chosen.

    Args:
        index: that holds the candidates.
        facts: what the index is and how much it finds, for a card; None for the exact index.
    """

    index: Index
    facts: dict[str, Any] | None = None


def choose_index(
    embeddings: Tensor, keys: KeysLike, sample: Callable[[], Tensor], *, least_listed: int = LEAST_LISTED
) -> IndexChoice:
    """Index candidates exactly if they are few, and else in lists of codes whose recall is measured.

    The lists are `IVF{n},SQ8` of Faiss, n about the root of the number of candidates, and what is found there is scored
    exactly. Of these lists, as many are searched as find 98% of the best 10 and of the best 100 candidates of a sample
    of queries. The index is exact, and a warning says why, where Faiss is not installed, no query is there to measure
    with, or an eighth of the lists does not find so many. The same arguments give the same index.

    Args:
        embeddings: `(num_candidates, dim)` float32 on the CPU.
        keys: of the candidates, in row order.
        sample: returns embeddings of queries, `(n, dim)`; called only if there are enough candidates.
        least_listed: how many are enough.

    Raises:
        DataError: embeddings that are not finite.
    """
    exact = Exact(embeddings, keys)
    if len(embeddings) < least_listed:
        return IndexChoice(exact)
    searched = f"{len(embeddings):,} candidates are searched exactly"
    try:
        optional("faiss", extra="ann")
    except MissingExtraError as error:
        warn_once(f"{searched}, as approximate search is not installed; {error.fix}")
        return IndexChoice(exact)
    queries = sample()
    if not len(queries):
        warn_once(f"{searched}, as there is no known query to measure with what an approximate search would find")
        return IndexChoice(exact)
    num_lists = 2 ** round(math.log2(math.sqrt(len(embeddings))))
    factory = f"IVF{num_lists},SQ8"
    lists = Faiss(embeddings, keys, factory=factory, rescore=_RESCORE)
    lengths = {f"recall@{k}": min(k, len(embeddings)) for k in _LENGTHS}
    bars = {name: exact.search_rows(queries, k).scores[:, -1:] for name, k in lengths.items()}
    for effort in _EFFORTS:
        if effort * _LARGEST_SHARE > num_lists:
            break
        index, found = lists.with_effort(effort), dict[str, float]()
        for name, k in lengths.items():
            # The scores are those of exact search, to the bit: what ties for the last place is as good.
            found[name] = float((index.search_rows(queries, k).scores >= bars[name]).float().mean())
            if found[name] < _RECALL:
                break
        else:
            settings = {"kind": "Faiss", "factory": factory, "effort": effort, "rescore": _RESCORE}
            measured = {name: round(value, 4) for name, value in found.items()}
            return IndexChoice(index, {**settings, **measured, "queries": len(queries)})
    warn_once(f"{searched}, as an eighth of the lists of {factory} does not hold {_RECALL:.0%} of the best of them")
    return IndexChoice(exact)
