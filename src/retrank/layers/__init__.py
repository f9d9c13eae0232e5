"""Layers between embeddings and scores.

`MLP` is the dense stack; `Concatenate`, `DotInteraction` and `Cross` combine features. Layers whose input size is left
out take it from the first batch.
"""

from retrank.layers.concatenate import Concatenate
from retrank.layers.cross import Cross
from retrank.layers.dot_interaction import DotInteraction
from retrank.layers.mlp import MLP

__all__ = ["Concatenate", "Cross", "DotInteraction", "MLP"]
