"""A training run as its checkpoint holds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from pydantic import NonNegativeInt
from typing_extensions import TypedDict

from retrank.core.values import checked
from retrank.training.checkpoint import STATE_FILE, read_checkpoint

__all__ = ["RunState", "read_run", "state_file"]


class _History(TypedDict):
    rows: list[dict[str, int | float]]
    seconds: list[float]


class _Random(TypedDict):
    cpu: Any
    cuda: Any


@final
class RunState(TypedDict):
    """What `Loop` saves. What optimizers, schedules, loaders and callbacks put in, they check themselves."""

    epoch: NonNegativeInt
    step: NonNegativeInt
    stop_reason: str | None
    history: _History
    trained: dict[str, int | float] | None
    sums: dict[str, Any]
    metrics: Any
    model: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any] | None
    batches: dict[str, Any]
    validation: dict[str, Any] | None
    callbacks: list[tuple[str, dict[str, Any]]]
    random: _Random


def state_file(directory: str | Path) -> str:
    """Return the path of the state file, for messages.

    Args:
        directory: of the checkpoint.

    Returns:
        Its path.
    """
    return str(Path(directory, STATE_FILE))


def read_run(directory: str | Path, configuration: Mapping[str, Any]) -> RunState:
    """Read the checkpoint of a run.

    Args:
        directory: where it stands.
        configuration: what the run is configured to.

    Returns:
        Its state, of the right types.

    Raises:
        StorageError: a file is missing or damaged.
        ConfigError: the checkpoint belongs to another configuration.
    """
    return checked(read_checkpoint(directory, configuration), RunState, state_file(directory))
