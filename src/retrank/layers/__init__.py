"""Layers between embeddings and scores.

`MLP` is the dense stack; `Concatenate`, `DotInteraction` and `Cross` combine features. Layers whose input size is left
out take it from the first batch. `CoOccurrence` tells how often a candidate goes together with what came before.
"""

from retrank.layers.co_occurrence import CoOccurrence, co_occurrences
from retrank.layers.concatenate import Concatenate
from retrank.layers.cross import Cross
from retrank.layers.dot_interaction import DotInteraction
from retrank.layers.mlp import MLP

__all__ = ["CoOccurrence", "Concatenate", "Cross", "DotInteraction", "MLP", "co_occurrences"]
