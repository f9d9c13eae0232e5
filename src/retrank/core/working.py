"""`Working`: what takes longer than a second says what it is, and shows how far it is."""

import os
import threading
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Protocol, Self, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

__all__ = ["Display", "Working", "hide", "show"]

_PATIENCE: Final = 1.0  # seconds without a word
_REFRESH_SECONDS: Final = 0.1

_is_silenced: Final[ContextVar[bool]] = ContextVar("is_silenced", default=False)  # by work around this


class Display(Protocol):
    """What moves on a terminal, such as a bar of rich."""

    def start(self) -> Any:
        """Begin to move."""

    def stop(self) -> Any:
        """Stop, and leave the terminal to others."""


@final
class Working:
    """A line on standard error that moves while work is done, from its second second on, where there is a terminal.

    One line moves at a time: work within other work that shows itself, or that is to be silent, stays silent. With
    `RETRANK_PROGRESS=0` in the environment nothing ever moves.

    Args:
        title: what is done, e.g. `"loading runs/movies"`.
        total: how many steps there are; None if that is unknown.
        enabled: False for silence.

    Example:
        >>> from retrank.core.working import Working
        >>> with Working("counting to three", total=3) as work:
        ...     for _ in range(3):
        ...         work.advance()
    """

    def __init__(self, title: str, total: int | None = None, *, enabled: bool = True) -> None:
        self._title, self._total, self._done = title, total, 0
        self._refreshed = time.monotonic()
        self._bar: Bar | None = None
        self._lock, self._has_ended = threading.Lock(), False
        self._console = Console(stderr=True, highlight=False)
        self._timer = threading.Timer(_PATIENCE, self._begin)
        self._timer.daemon = True
        self._is_silent = not enabled or os.environ.get("RETRANK_PROGRESS", "1") == "0"
        self._silenced_before = False

    def __enter__(self) -> Self:
        self._silenced_before = _is_silenced.get()
        if self._is_silent or self._silenced_before:
            _is_silenced.set(True)
        elif self._console.is_terminal:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        _is_silenced.set(self._silenced_before)
        with self._lock:
            self._has_ended = True
            if self._bar is not None:
                hide(self._bar)

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done.

        Args:
            steps: how many.
        """
        self._done += steps
        if self._bar is not None and time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def describe(self, title: str) -> None:
        """Change what the line says.

        Args:
            title: what is done now.
        """
        self._title = title
        with self._lock:
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], description=title)

    def _begin(self) -> None:
        """Show the line, unless the work has ended meanwhile or another line moves."""
        counted = self._total is not None
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) if counted else (TimeElapsedColumn(),)
        title = TextColumn("{task.description}", markup=False)
        bar = Bar(SpinnerColumn(), title, *columns, console=self._console, transient=True)
        with self._lock:
            bar.add_task(self._title, total=self._total, completed=self._done)
            if not self._has_ended and show(bar):
                self._bar = bar


def show(display: Display) -> bool:
    """Let a display move, unless another does.

    Args:
        display: hidden again by `hide`.

    Returns:
        Whether it moves.
    """
    return _terminal.show(display)


def hide(display: Display) -> None:
    """Stop a display, if it moves.

    Args:
        display: that `show` was asked for.
    """
    _terminal.hide(display)


@final
class _Terminal:
    """Which display moves: rich raises an error if two do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moving: Display | None = None
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks
            os.register_at_fork(after_in_child=self._renew_lock)

    def show(self, display: Display) -> bool:
        with self._lock:
            if self._moving is not None:
                return False
            display.start()
            self._moving = display
            return True

    def hide(self, display: Display) -> None:
        with self._lock:
            if self._moving is display:
                self._moving = None
                display.stop()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_terminal: Final = _Terminal()
