"""`WorkerProcess`: a worker as its supervisor sees it."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

from retrank.serving.supervision.lines import Lines

__all__ = ["WorkerProcess"]

_PATIENCE: Final = 5.0  # seconds


@final
@dataclass(eq=False)
class WorkerProcess:
    """A process that answers.

    Args:
        process: the process.
        lines: what is said to it and what it says.
        started: when, on the monotonic clock.
        bundle: the version that it serves; None until it is ready.
        error: why it could not start.
    """

    process: subprocess.Popen[bytes]
    lines: Lines
    started: float
    bundle: str | None = None
    error: str | None = None

    @classmethod
    def started_by(
        cls, command: Sequence[str], listener: int, environment: Mapping[str, str], plan: dict[str, Any]
    ) -> Self:
        """Start a worker.

        Args:
            command: to which the file descriptors of the listening socket and of the channel are appended.
            listener: a file descriptor.
            environment: beside that of this process.
            plan: the first line on the channel.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 (our own command)
                [*command, str(listener), str(theirs.fileno())],
                pass_fds=(listener, theirs.fileno()),
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is for the supervisor alone
                stdin=subprocess.DEVNULL,
            )
        worker = cls(process, Lines(ours), time.monotonic())
        worker.lines.send(plan)
        return worker

    def ended(self) -> int:
        """Return the exit code of a worker that has closed its channel, and kill it if it does not end."""
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
