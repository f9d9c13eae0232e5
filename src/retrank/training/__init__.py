"""How models learn: the loop, its callbacks, checkpoints and history.

`Model` is what users subclass; its `fit`, `evaluate` and `predict` are the whole interface. A `Callback` is
called after every epoch. A run with a checkpoint directory continues where it was killed, to the same result.
"""

from retrank.training.callbacks import BestCheckpoint, Callback, CSVLog, EarlyStopping, TensorBoardLog
from retrank.training.checkpoint import load_weights, read_checkpoint, save_weights, write_checkpoint
from retrank.training.clipping import clip_gradients
from retrank.training.device import Precision, resolve_device
from retrank.training.history import TrainingHistory
from retrank.training.mode import evaluating
from retrank.training.model import Model
from retrank.training.nested_state import flatten, unflatten
from retrank.training.run import Run
from retrank.training.schedules import linear_decay
from retrank.training.task_metrics import metric_results, reset_metrics

__all__ = [
    "BestCheckpoint",
    "CSVLog",
    "Callback",
    "EarlyStopping",
    "Model",
    "Precision",
    "Run",
    "TensorBoardLog",
    "TrainingHistory",
    "clip_gradients",
    "evaluating",
    "flatten",
    "linear_decay",
    "load_weights",
    "metric_results",
    "read_checkpoint",
    "reset_metrics",
    "resolve_device",
    "save_weights",
    "unflatten",
    "write_checkpoint",
]
