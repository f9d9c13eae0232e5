"""Which models give a row the same bits, whatever else is in the batch.

A matrix product of the usual libraries rounds one row otherwise than a hundred. The kernels of `ops.dense` do not, and
a model made of nothing but the parts below can be asked for any number of rows at once. Any other model has to be asked
for blocks of one size, or a query would get other numbers alone than among others.
"""

from typing import Final

from torch import nn

from retrank.core.hooks import has_hooks
from retrank.embeddings import EmbeddingCollection, EmbeddingTable
from retrank.layers import MLP, CoOccurrence, Cross
from retrank.layers.linear import is_linear
from retrank.metrics import Metric
from retrank.models import MatrixFactorization, Reranker, Tower, TwoTower
from retrank.models.candidate_frequencies import CandidateFrequencies
from retrank.models.corpus import Corpus
from retrank.tasks.task import Task

__all__ = ["INDEPENDENT", "is_row_independent"]

INDEPENDENT: Final[frozenset[type[nn.Module]]] = frozenset(
    {
        *(EmbeddingCollection, EmbeddingTable, MLP, CoOccurrence, Cross),
        *(MatrixFactorization, Reranker, Tower, TwoTower),
        *(nn.Dropout, nn.Identity, nn.ModuleDict, nn.ModuleList, nn.ReLU),
    }
)
"""Modules, each tested, whose rows do not depend on each other while the kernels of `ops.dense` are in use."""


def is_row_independent(model: nn.Module) -> bool:
    """Return whether a model consists of `INDEPENDENT` parts alone, but for what embeds nothing.

    Args:
        model: whose lazy layers have their sizes.
    """
    return all(
        type(module) in INDEPENDENT
        or is_linear(module)
        or isinstance(module, Task | Metric | Corpus | CandidateFrequencies)
        for module in model.modules()
    ) and not has_hooks(*model.modules())
