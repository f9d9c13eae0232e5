"""What our contenders share."""

from collections.abc import Mapping

import numpy as np
import polars as pl

import retrank as rr
from benchmarks.workload import Job, Tick

FOR_EVER = 10**9


class AtEpochEnd(rr.training.Callback):
    """Calls the worker after each epoch."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick

    def on_epoch_end(self, run: rr.training.Run, row: Mapping[str, float]) -> None:  # noqa: ARG002
        """Let the worker wait."""
        self._tick()


def epochs(model: rr.Model, batches: rr.data.Batches, optimizer: rr.optim.OptimizerSpec, work: float) -> Job:
    """Return the job of one training that never ends, an epoch a repeat."""

    def loop(tick: Tick) -> None:
        callbacks = [AtEpochEnd(tick)]
        model.fit(batches, optimizer=optimizer, epochs=FOR_EVER, device="cpu", callbacks=callbacks, progress=False)

    return Job(loop, work)


def table(arrays: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Return the columns as a polars table."""
    return pl.DataFrame({name: pl.Series(values) for name, values in arrays.items()})
