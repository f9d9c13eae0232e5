"""Evaluation and prediction: one pass over data without learning."""

from collections.abc import Callable

import torch
from torch import Tensor

from retrank.core.allocator import retain_freed_memory
from retrank.core.errors import ConfigError, DataError
from retrank.data.batches import Batches
from retrank.training.device import Precision, autocast, model_device
from retrank.training.epoch_sums import EpochSums
from retrank.training.mode import evaluating
from retrank.training.preparation import materialize
from retrank.training.task_metrics import metric_results, reset_metrics
from retrank.training.trainable import Trainable

__all__ = ["evaluate", "predict"]


def evaluate(
    model: Trainable, batches: Batches, *, precision: Precision = "float32", after_batch: Callable[[int], object]
) -> dict[str, float]:
    """Measure losses and metrics.

    Args:
        model: what is measured.
        batches: on what.
        precision: of the forward passes.
        after_batch: called with the rows of each batch once it is done.

    Returns:
        The metrics by name, then `loss`, `regularization_loss` and `total_loss`, averages over all rows.

    Raises:
        DataError: there are no rows.
    """
    materialize(model, batches)
    device = model_device(model)
    sums = EpochSums(device)
    reset_metrics(model)  # outside of inference mode, as state made inside of it cannot be changed in training
    try:
        with evaluating(model), torch.inference_mode(), retain_freed_memory():
            try:
                model.begin_evaluation()
                for batch in batches:
                    sums.add(model.test_step(batch.to(device, non_blocking=True), precision=precision), len(batch))
                    after_batch(len(batch))
            finally:
                model.end_evaluation()
            return {**metric_results(model), **sums.averages()}
    finally:
        reset_metrics(model)


def predict(
    model: Trainable, batches: Batches, *, precision: Precision = "float32", after_batch: Callable[[int], object]
) -> Tensor:
    """Run the forward pass over data.

    Args:
        model: what predicts.
        batches: for what.
        precision: of the forward passes.
        after_batch: called with the rows of each batch once it is done.

    Returns:
        The outputs of all batches on the CPU, `(rows, ...)`.

    Raises:
        ConfigError: the forward pass returns something other than one tensor, or the loader shuffles or leaves out
            rows, after which nobody could tell whose the outputs are.
        DataError: there are no batches.
    """
    for name, changes in (("shuffle", "is_shuffled"), ("drop_last", "drops_rows")):
        if getattr(batches, changes, False):  # a loader of one's own need not say so
            fix = "predict with a loader that does neither; the one of training may do both"
            raise ConfigError(
                "every row, in the order of the table", f"a loader with {name}", "batches of predict", fix
            )
    materialize(model, batches)
    device = model_device(model)
    outputs: list[Tensor] = []
    with evaluating(model), torch.no_grad(), retain_freed_memory():
        for batch in batches:
            with autocast(device, precision):
                output = model.predict_step(batch.to(device, non_blocking=True))
            if not isinstance(output, Tensor):
                raise ConfigError(
                    "one tensor per batch",
                    type(output).__name__,
                    f"{type(model).__name__}.forward",
                    "return one tensor",
                )
            outputs.append(output.cpu())
            after_batch(len(batch))
    if not outputs:
        raise DataError("at least one row", "no batches", "predict", "with drop_last, use smaller batches")
    return torch.cat(outputs)
