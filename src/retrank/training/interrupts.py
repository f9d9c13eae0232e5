"""`Interrupts`: Ctrl-C that waits for the end of a step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self, final

__all__ = ["Interrupts"]


@final
class Interrupts:
    """A context in which the first Ctrl-C is remembered and raised at the next `check`, the second at once.

    A step cut in half leaves weights that no checkpoint may hold. Outside the main thread Python delivers no signals
    and this does nothing.
    """

    def __init__(self) -> None:
        self._pending = False

    def __enter__(self) -> Self:
        self._handles = threading.current_thread() is threading.main_thread()
        if self._handles:
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, self._previous or signal.default_int_handler)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the KeyboardInterrupt that has been waiting, if any."""
        if self._pending:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature of a signal handler)
        if self._pending:
            raise KeyboardInterrupt
        self._pending = True
