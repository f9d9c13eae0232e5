"""`MissingPositives`: how many rows name a candidate that the catalogue does not have."""

from typing import final

import torch
from torch import Tensor

from retrank.core.notices import warn_once

__all__ = ["MissingPositives"]


@final
class MissingPositives:
    """Counts on the device and warns once, so that no step waits and no row is ignored silently."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self._num_rows, self._num_missing = 0, torch.zeros((), dtype=torch.int64)

    def add(self, rows: Tensor) -> None:
        """Count a batch.

        Args:
            rows: `(batch,)` catalogue rows, -1 for a positive without one.
        """
        self._num_rows += len(rows)
        self._num_missing = self._num_missing.to(rows.device) + (rows < 0).sum()

    def warn(self, column: str, consequence: str) -> None:
        """Warn if there were any, and count from zero.

        Args:
            column: where the candidates' ids are.
            consequence: what happens to such rows.
        """
        missing, rows = int(self._num_missing), self._num_rows
        self.reset()
        if missing:
            text = f"{missing} of {rows} rows have a '{column}' that is unknown or not in the catalogue; {consequence}"
            warn_once(text, stacklevel=3)
