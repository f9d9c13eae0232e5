"""Tables of learned vectors, one row an id.

`EmbeddingTable` looks up ids, or pools lists of ids, and receives row-sparse gradients; `EmbeddingCollection` holds the
tables of several features, shared where two features mean the same thing.
"""

from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.table import EmbeddingTable

__all__ = ["EmbeddingCollection", "EmbeddingTable"]
