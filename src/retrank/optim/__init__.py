"""Optimizers as values: settings now, built for a model's parameters when training starts.

`Adagrad`, `ClippyAdagrad`, `RowwiseAdagrad`, `LazyAdam` and `FTRL` touch only those rows of an embedding table that
the batch read. `Adam`, `AdamW` and `SGD` are torch's own. `Composite` gives different parameters different optimizers.
Tables in half precision keep float32 state, and their weights are rounded so that small steps count on average. A table
may grow between two steps: its new rows start as in a new optimizer. A step is taken by all parameters or by none.
What they build are ordinary `torch.optim.Optimizer` objects: learning-rate schedulers work, and the state is tensors,
numbers and strings.
"""

from retrank.optim.adagrad import Adagrad
from retrank.optim.clippy_adagrad import ClippyAdagrad
from retrank.optim.composite import Composite
from retrank.optim.ftrl import FTRL
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.rowwise_adagrad import RowwiseAdagrad
from retrank.optim.spec import NamedParameters, OptimizerSpec
from retrank.optim.torch_specs import SGD, Adam, AdamW

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "ClippyAdagrad",
    "Composite",
    "FTRL",
    "LazyAdam",
    "NamedParameters",
    "OptimizerSpec",
    "RowwiseAdagrad",
    "SGD",
]
