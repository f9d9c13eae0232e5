"""Tables of learned vectors, one row per id or fewer.

`EmbeddingTable` looks up ids, or pools lists of ids, and receives row-sparse gradients. `HashedTable`,
`QuotientRemainderTable` and `MixedDimensionTable` do the same with less memory; all are a `Table`.
`Int8Table` serves what an `EmbeddingTable` has learned in a quarter of its memory, and `quantized` does that to a whole
model. `EmbeddingCollection` holds the tables of several features, shared where two features mean the same thing; in a
`UnifiedEmbedding` all features share a few tables of fixed size. Both are `Embeddings`, what ranking models take.
"""

from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.embeddings import Embeddings
from retrank.embeddings.hashed import HashedTable
from retrank.embeddings.int8 import Int8Table
from retrank.embeddings.mixed_dimension import MixedDimensionTable
from retrank.embeddings.quantized import quantized
from retrank.embeddings.quotient_remainder import QuotientRemainderTable
from retrank.embeddings.table import Table
from retrank.embeddings.unified import UnifiedEmbedding

__all__ = [
    "EmbeddingCollection",
    "EmbeddingTable",
    "Embeddings",
    "HashedTable",
    "Int8Table",
    "MixedDimensionTable",
    "QuotientRemainderTable",
    "Table",
    "UnifiedEmbedding",
    "quantized",
]
