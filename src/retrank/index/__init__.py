"""Indexes: which candidates score highest for a query.

`Index` is what every index promises: `search` with any k, per-query exclusions and allow-lists, ties in row order,
raw keys out, `save` and `load`. `Exact` scores every candidate, and so judges all others. `ScoreBlocks` is the
arithmetic below it, shared with the full-corpus metrics: a score depends on its query and candidate alone, never on
what else is in the batch.
"""

from retrank.index.blocks import BlockCells, ScoreBlocks
from retrank.index.exact import Exact
from retrank.index.protocol import Index, KeyedResult, SearchResult

__all__ = ["BlockCells", "Exact", "Index", "KeyedResult", "ScoreBlocks", "SearchResult"]
