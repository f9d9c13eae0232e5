"""`Lines`: messages between a supervisor, its workers and `retrank reload`."""

import contextlib
import json
import socket
from typing import Any, Final, final

__all__ = ["Lines"]

_PATIENCE: Final = 5.0  # seconds for somebody who does not read


@final
class Lines:
    """JSON objects, one a line, over a socket.

    Args:
        channel: the socket; it is this object's from now on.
    """

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(_PATIENCE)
        self.channel, self._read = channel, b""

    def receive(self) -> list[dict[str, Any] | None]:
        """Wait until something comes, and return the messages that are complete; None is last at the end."""
        try:
            content = self.channel.recv(65_536)
        except TimeoutError:
            return []
        except OSError:
            content = b""
        *lines, self._read = (self._read + content).split(b"\n")
        messages: list[dict[str, Any] | None] = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                messages += [message] if isinstance(message, dict) else []
        return messages if content else [*messages, None]

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; where nobody listens any more, nothing happens.

        Args:
            message: of values that JSON has.
        """
        with contextlib.suppress(OSError):
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the socket."""
        self.channel.close()
