"""`Progress`: one line per epoch, and a moving bar where there is a terminal."""

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from retrank.core.working import hide, show

__all__ = ["Progress"]

_REFRESH_SECONDS = 0.5


@final
class Progress:
    """Reports the progress of training or evaluation on standard error; within another's bar, by lines alone.

    Args:
        enabled: False for silence.
        epochs: how many there will be.
        num_rows: rows per epoch, or None where that is unknown.
    """

    def __init__(self, *, enabled: bool, epochs: int, num_rows: int | None) -> None:
        self._console = Console(stderr=True, quiet=not enabled, highlight=False, soft_wrap=True)
        self._epochs, self._num_rows, self._rows = epochs, num_rows, 0
        self._start = self._last = self._refreshed = time.perf_counter()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
            disable=not (enabled and self._console.is_terminal),
        )

    def __enter__(self) -> Self:
        if not self._bar.disable:
            show(self._bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hide(self._bar)

    def begin(self, title: str) -> None:
        """Start an epoch or an evaluation.

        Args:
            title: what the bar says, e.g. `"epoch 2/3"`.
        """
        self._start = self._last = self._refreshed = time.perf_counter()
        self._rows = 0
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(title, total=self._num_rows, speed="")

    def advance(self, num_rows: int) -> bool:
        """Count rows.

        Args:
            num_rows: of the batch that is done.

        Returns:
            Whether it is time to read the loss, about twice a second.
        """
        self._rows += num_rows
        self._last = time.perf_counter()
        if self._last - self._refreshed < _REFRESH_SECONDS:
            return False
        self._refreshed = self._last
        for task in self._bar.task_ids:
            self._bar.update(task, completed=self._rows, speed=_speed(self._rows, self._last - self._start))
        self._bar.refresh()
        return True

    def describe(self, title: str) -> None:
        """Change what the bar says.

        Args:
            title: the new text.
        """
        for task in self._bar.task_ids:
            self._bar.update(task, description=title)
        self._bar.refresh()

    def note(self, text: str) -> None:
        """Write a line.

        Args:
            text: what it says.
        """
        self._console.print(text, markup=False)

    def end(self, row: Mapping[str, float], seconds: float) -> None:
        """Finish an epoch with its line.

        Args:
            row: the numbers of the epoch; `epoch` counts from 1.
            seconds: how long it took.
        """
        epoch = int(row["epoch"])
        hidden = {"epoch"} if row["regularization_loss"] else {"epoch", "regularization_loss", "total_loss"}
        numbers = [f"{name} {value:.4g}" for name, value in row.items() if name.removeprefix("val_") not in hidden]
        left = timedelta(seconds=round(seconds * (self._epochs - epoch)))
        speed = _speed(self._rows, self._last - self._start)
        self.note("  ".join([f"epoch {epoch}/{self._epochs}", *numbers, speed, f"{seconds:.1f} s", f"left {left}"]))


def _speed(num_rows: int, seconds: float) -> str:
    return f"{num_rows / max(seconds, 1e-9):,.0f} examples/s"
