"""How a running service is told to reload: a socket beside its bundle, for its owner alone."""

import socket
from pathlib import Path
from typing import Any, Final

from retrank.core.errors import ConfigError
from retrank.serving.supervision.lines import Lines

__all__ = ["ask_for_reload", "control_path"]

_ANSWER: Final = {"result": "refused", "error": "the service has ended"}


def control_path(bundle: Path, pid: int) -> Path:
    """Return where the service with a process id listens.

    Args:
        bundle: its directory.
        pid: of its supervisor.
    """
    place = bundle.absolute()
    return place.parent / f"{place.name}-service-{pid}.sock"


def ask_for_reload(bundle: Path) -> list[dict[str, Any]]:
    """Have every service of a bundle on this machine load what stands there now, and wait until that is done.

    Args:
        bundle: its directory.

    Returns:
        What became of each: `pid`, `result` ("loaded", "unchanged" or "refused") and `bundle`, its version, or `error`.

    Raises:
        ConfigError: no service of the bundle runs.
    """
    place, results = bundle.absolute(), []
    for path in sorted(place.parent.glob(f"{place.name}-service-*.sock")):
        pid = path.stem.rpartition("-")[2]
        with socket.socket(socket.AF_UNIX) as channel:
            try:
                channel.connect(str(path))
            except ConnectionRefusedError:  # left by one that was killed
                path.unlink(missing_ok=True)
                continue
            except FileNotFoundError:  # it ended just now
                continue
            lines = Lines(channel)
            lines.send({"do": "reload"})
            messages: list[dict[str, Any] | None] = []
            while not messages:
                messages = lines.receive()
            results.append({"pid": int(pid) if pid.isdecimal() else pid, **(messages[0] or _ANSWER)})
    if not results:
        fix = "`retrank serve` runs one; from elsewhere, send SIGHUP to its process"
        raise ConfigError("a service of this bundle that runs on this machine", "none", str(bundle), fix)
    return results
