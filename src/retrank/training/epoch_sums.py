"""`EpochSums`: the average loss of an epoch, kept on the device."""

import math
from typing import Any, Final, final

import torch
from torch import Tensor

from retrank.core.errors import DataError, TrainingError

__all__ = ["EpochSums"]

_NAMES: Final = ("loss", "regularization_loss", "total_loss")
_NEVER: Final = torch.iinfo(torch.int64).max


@final
class EpochSums:
    """Sums of losses weighted by rows. Adding never waits for the device; reading does.

    Args:
        device: where the losses are.

    Source: `tfrs.Model` reports the losses of the last batch as those of the epoch; these are averages.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(_NAMES), dtype=torch.float64, device=device)
        self._first_bad_step = torch.tensor(_NEVER, device=device)
        self.num_rows = 0

    def add(self, losses: dict[str, Tensor], num_rows: int, step: int = 0) -> None:
        """Count a batch.

        Args:
            losses: scalars `loss`, `regularization_loss` and `total_loss`, averages over the batch.
            num_rows: its rows.
            step: its number, reported if a loss is not finite.
        """
        values = torch.stack([losses[name].detach() for name in _NAMES])
        self._sums.add_(values, alpha=num_rows)
        total = losses["total_loss"].detach()  # finite only if all are
        if total.device.type != "cpu":
            self._first_bad_step.clamp_(max=torch.where(total.isfinite(), _NEVER, step))
        elif not math.isfinite(total.item()):  # on the CPU reading does not wait
            self._first_bad_step.clamp_(max=step)
        self.num_rows += num_rows

    def averages(self) -> dict[str, float]:
        """Return the averages over all rows so far.

        Raises:
            DataError: there were no rows.
        """
        if self.num_rows == 0:
            raise DataError("at least one row", "no batches", "the loader", "with drop_last, use smaller batches")
        return dict(zip(_NAMES, (self._sums / self.num_rows).tolist(), strict=True))

    def check(self, epoch: int) -> None:
        """Stop if a loss was not finite.

        Args:
            epoch: the current epoch, from 1, for the message.

        Raises:
            TrainingError: a loss was NaN or infinite; the message names the first step.
        """
        step = int(self._first_bad_step)
        if step != _NEVER:
            raise TrainingError(
                "a finite loss",
                "NaN or infinity",
                f"step {step} in epoch {epoch}",
                "lower the learning rate, set clip_norm, or look for NaN in the features and labels",
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to continue in the middle of an epoch."""
        return {"sums": self._sums, "first_bad_step": self._first_bad_step, "num_rows": self.num_rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: the saved values.
        """
        self._sums.copy_(state["sums"])
        self._first_bad_step.copy_(state["first_bad_step"])
        self.num_rows = state["num_rows"]
