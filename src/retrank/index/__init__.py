"""Indexes: which candidates score highest for a query.

`Index` is what every index promises: `search` with any k, per-query exclusions and allow-lists, ties in row order, raw
keys out, `add`, `update` and `remove` where the kind allows it, `evaluate` for its recall, `save`; `load_index` reads
any of them. `Exact` scores every candidate, and so judges all others. `Streaming` does the same for a catalogue larger
than memory, from a `table_stream`, a `safetensors_stream` or any other `CandidateStream`. `Faiss` is approximate and
fast, and can rescore exactly what it found. `ScoreBlocks` on a `BlockGrid` is the arithmetic below the exact ones,
shared with the full-corpus metrics: a score depends on its query and candidate alone, never on what else is in the
batch.
"""

from retrank.index.blocks import BlockCells, BlockGrid, ScoreBlocks
from retrank.index.exact import Exact
from retrank.index.faiss import Faiss
from retrank.index.loading import load_index
from retrank.index.protocol import Index, KeyedResult, SearchResult
from retrank.index.streaming import Streaming
from retrank.index.streams import CandidateStream, safetensors_stream, table_stream

__all__ = [
    "BlockCells",
    "BlockGrid",
    "CandidateStream",
    "Exact",
    "Faiss",
    "Index",
    "KeyedResult",
    "ScoreBlocks",
    "SearchResult",
    "Streaming",
    "load_index",
    "safetensors_stream",
    "table_stream",
]
