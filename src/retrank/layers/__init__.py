"""Layers between embeddings and scores.

`MLP` is the dense stack, `Residual` a block that adds to its input. `Concatenate`, `DotInteraction`, `Cross`, its stack
`DCN`, `FM` and `CIN` combine features, and so do `FieldAttention`, `HadamardProduct` and `TwoStreamMLP`; `Parallel`
runs several on the same features, each on a `Slice` if need be. `MMoE`, `CGC` and `PLE` are experts that several tasks
share, mixed by a `Gate`. Layers whose input size is left out take it from the first batch. `CoOccurrence` measures how
often a candidate occurs together with what came before.
"""

from retrank.layers.attention import FieldAttention
from retrank.layers.cin import CIN
from retrank.layers.co_occurrence import CoOccurrence, co_occurrences
from retrank.layers.concatenate import Concatenate
from retrank.layers.cross import Cross
from retrank.layers.dcn import DCN
from retrank.layers.dot_interaction import DotInteraction
from retrank.layers.experts import CGC, PLE, MMoE
from retrank.layers.fm import FM
from retrank.layers.gate import Gate
from retrank.layers.hadamard_product import HadamardProduct
from retrank.layers.mlp import MLP
from retrank.layers.parallel import Parallel
from retrank.layers.residual import Residual
from retrank.layers.slice import Slice
from retrank.layers.two_stream_mlp import TwoStreamMLP

__all__ = [
    "CGC",
    "CIN",
    "CoOccurrence",
    "Concatenate",
    "Cross",
    "DCN",
    "DotInteraction",
    "FM",
    "FieldAttention",
    "Gate",
    "HadamardProduct",
    "MLP",
    "MMoE",
    "PLE",
    "Parallel",
    "Residual",
    "Slice",
    "TwoStreamMLP",
    "co_occurrences",
]
