"""Indexes: which candidates score highest for a query.

`Index` is what every index promises: `search` with any k, per-query exclusions and allow-lists, ties in row order, raw
keys out, `evaluate` for its recall, `save`; `load_index` reads any of them. An index is a value: `with_added`,
`with_updated` and `without` return another one, where the kind allows it. `Exact` scores every candidate, and so judges
all others. `Streaming` does the same for a catalogue larger than memory, from a `table_stream`, a `safetensors_stream`
or any other `CandidateStream`. `Faiss` is approximate and fast: it says which candidates to look at, and the scores are
those of `Exact`. A score depends on its query and candidate alone, never on what else is in the batch.
"""

from retrank.index.exact import Exact
from retrank.index.faiss import Faiss
from retrank.index.index import Index, KeyedResult, SearchResult
from retrank.index.loading import load_index
from retrank.index.streaming import Streaming
from retrank.index.streams import CandidateStream, safetensors_stream, table_stream

__all__ = [
    "CandidateStream",
    "Exact",
    "Faiss",
    "Index",
    "KeyedResult",
    "SearchResult",
    "Streaming",
    "load_index",
    "safetensors_stream",
    "table_stream",
]
