"""retrank: recommenders on PyTorch, from raw tables to served recommendations.

A `FeatureSpace` turns tables into batches; a `Model` learns from them; a `Recommender` retrieves, filters and ranks;
`evaluate` says how good it is beside `baselines`. Start with `retrank quickstart`.
"""

import types

import retrank.openmp  # noqa: F401 (sets how threads wait, which torch reads when it is loaded)
from retrank import (
    baselines,
    core,
    data,
    datasets,
    embeddings,
    evaluation,
    export,
    features,
    index,
    layers,
    losses,
    metrics,
    models,
    optim,
    recommender,
    sampling,
    tasks,
    training,
)
from retrank.core import Batch, Jagged, errors
from retrank.core.version import __version__
from retrank.embeddings import EmbeddingCollection, EmbeddingTable
from retrank.evaluation import evaluate
from retrank.features import FeatureSpace
from retrank.recommender import Recommender, update
from retrank.training import Model

__all__ = [
    "Batch",
    "EmbeddingCollection",
    "EmbeddingTable",
    "FeatureSpace",
    "Jagged",
    "Model",
    "Recommender",
    "__version__",
    "baselines",
    "core",
    "data",
    "datasets",
    "embeddings",
    "errors",
    "evaluate",
    "evaluation",
    "export",
    "features",
    "index",
    "layers",
    "losses",
    "metrics",
    "models",
    "optim",
    "recommender",
    "sampling",
    "tasks",
    "training",
    "update",
]

_OPTIONAL = {"serving": "serve"}


def __getattr__(name: str) -> types.ModuleType:
    """Import what only some need when it is first asked for: it takes time, and extras."""
    if name not in _OPTIONAL:
        raise AttributeError(f"module 'retrank' has no attribute '{name}'")
    return core.optional(f"retrank.{name}", extra=_OPTIONAL[name])
