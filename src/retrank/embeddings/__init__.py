"""Tables of learned vectors, one row an id or fewer.

`EmbeddingTable` looks up ids, or pools lists of ids, and receives row-sparse gradients. `HashedTable`,
`QuotientRemainderTable` and `MixedDimensionTable` do the same with less memory; all are a `Table`.
`EmbeddingCollection` holds the tables of several features, shared where two features mean the same thing; in a
`UnifiedEmbedding` all features share a few tables of fixed size.
"""

from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.hashed import HashedTable
from retrank.embeddings.mixed_dimension import MixedDimensionTable
from retrank.embeddings.protocol import Table
from retrank.embeddings.quotient_remainder import QuotientRemainderTable
from retrank.embeddings.table import EmbeddingTable
from retrank.embeddings.unified import UnifiedEmbedding

__all__ = [
    "EmbeddingCollection",
    "EmbeddingTable",
    "HashedTable",
    "MixedDimensionTable",
    "QuotientRemainderTable",
    "Table",
    "UnifiedEmbedding",
]
