"""Checkpoints: the whole state of a training run in one directory that is complete or absent.

`tensors.safetensors` holds the tensors, `state.json` everything else, `manifest.json` the checksums of both and the
configuration that the state belongs to. `save_weights` and `load_weights` keep a model alone, in the same manner.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import nn
from typing_extensions import TypedDict

from retrank.core.directories import atomic_directory, standing_version
from retrank.core.errors import ConfigError, StorageError
from retrank.core.files import storage_errors, write_json
from retrank.core.manifest import MANIFEST, write_manifest
from retrank.core.snapshots import Snapshot, read_directory
from retrank.core.tensor_files import load_weights_of, parse_tensors, write_tensors
from retrank.core.values import checked
from retrank.training.nested_state import flatten, unflatten

__all__ = ["has_checkpoint", "load_weights", "read_checkpoint", "save_weights", "write_checkpoint"]

_FORMAT: Final = "retrank.checkpoint"
_VERSION: Final = 1
_TENSORS_FILE: Final = "tensors.safetensors"
STATE_FILE: Final = "state.json"


class _Weights(TypedDict):
    model: dict[str, Any]
    facts: dict[str, Any]


def write_checkpoint(directory: str | Path, state: Any, configuration: Mapping[str, Any]) -> None:
    """Replace a directory by the given state, at once.

    Args:
        directory: where; its older content stays until the new one is complete.
        state: nested values as `flatten` takes them.
        configuration: JSON-able facts that a reader must share, see `read_checkpoint`.

    Example:
        >>> import tempfile, torch, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rr.training.write_checkpoint(f"{folder}/run", {"step": 7, "weight": torch.ones(2)}, {"seed": 1})
        ...     rr.training.read_checkpoint(f"{folder}/run", {"seed": 1})
        {'step': 7, 'weight': tensor([1., 1.])}
    """
    structure, tensors = flatten(state)
    with atomic_directory(directory) as draft:
        write_tensors(draft / _TENSORS_FILE, tensors)
        write_json(draft / STATE_FILE, structure)
        write_manifest(draft, {"format": _FORMAT, "version": _VERSION, "configuration": dict(configuration)})


def has_checkpoint(directory: str | Path) -> bool:
    """Return whether a directory holds a checkpoint, damaged or not.

    Args:
        directory: where to look.

    Returns:
        False if there is no such directory or it is empty.

    Raises:
        ConfigError: the directory holds other files, which a checkpoint would replace.
    """
    with storage_errors(directory):
        place = standing_version(directory)
        if not place.exists() or (place.is_dir() and not any(place.iterdir())):
            return False
        if place.is_dir() and any((place / name).exists() for name in (MANIFEST, STATE_FILE)):
            return True  # whole, or damaged: reading it says so
    raise ConfigError(
        "a directory for checkpoints alone", "other files", str(directory), "name a new or empty directory"
    )


def read_checkpoint(directory: str | Path, configuration: Mapping[str, Any] | None = None) -> Any:
    """Read what `write_checkpoint` wrote.

    Args:
        directory: where it stands.
        configuration: what the reader is configured to; every entry must equal the saved one. None for any.

    Returns:
        The state; tensors are on the CPU.

    Raises:
        StorageError: a file is missing, damaged, cut short or of another version.
        ConfigError: the state belongs to another configuration; the message names the first difference.
    """
    return read_directory(directory, lambda snapshot: _parse_checkpoint(snapshot, configuration))


def _parse_checkpoint(snapshot: Snapshot, configuration: Mapping[str, Any] | None) -> Any:
    payload = snapshot.payload
    if payload.get("format") != _FORMAT or payload.get("version") != _VERSION:
        raise StorageError(
            f"{_FORMAT} version {_VERSION}",
            f"{payload.get('format')} version {payload.get('version')}",
            str(snapshot.directory),
            "use the version of retrank that wrote it, or another directory",
        )
    if configuration is not None:
        _compare(payload.get("configuration"), json.loads(json.dumps(configuration)), snapshot.directory)
    tensors = parse_tensors(snapshot.read(_TENSORS_FILE), snapshot.where(_TENSORS_FILE))
    return unflatten(snapshot.json(STATE_FILE), tensors, where=snapshot.where(STATE_FILE))


def save_weights(directory: str | Path, model: nn.Module, facts: Mapping[str, Any] | None = None) -> None:
    """Write the weights of a model, as atomically as a checkpoint.

    Args:
        directory: where; replaced as a whole.
        model: any module.
        facts: nested values to keep beside the weights, e.g. the numbers of the epoch.
    """
    write_checkpoint(directory, {"model": model.state_dict(), "facts": dict(facts or {})}, {"shapes": shapes(model)})


def load_weights(directory: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load what `save_weights` wrote into a model of equal shape.

    Args:
        directory: where it stands.
        model: receives the weights.

    Returns:
        The facts that were saved with them.

    Raises:
        StorageError: a file is missing or damaged.
        ConfigError: the model has other parameters or shapes.

    Example:
        >>> import tempfile, torch, retrank as rr
        >>> first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rr.training.save_weights(f"{folder}/best", first, {"epoch": 3})
        ...     rr.training.load_weights(f"{folder}/best", second)
        {'epoch': 3}
        >>> bool((first.weight == second.weight).all())
        True
    """
    where = str(Path(directory, STATE_FILE))
    state = checked(read_checkpoint(directory, {"shapes": shapes(model)}), _Weights, where)
    load_weights_of(model, state["model"], where)
    return state["facts"]


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """Return the shape of every parameter and buffer that a model saves.

    Args:
        model: any module. One of its parts may name `unsized_states`, which take their shape from what they load.

    Returns:
        Name to shape, unsized states left out.
    """
    unsized = {
        f"{path}.{name}" if path else name
        for path, part in model.named_modules(remove_duplicate=False)
        for name in getattr(part, "unsized_states", ())
    }
    state = model.state_dict().items()
    return {name: list(value.shape) for name, value in state if hasattr(value, "shape") and name not in unsized}


def _compare(saved: Any, wanted: Any, directory: Path, path: str = "configuration") -> None:
    if isinstance(saved, dict) and isinstance(wanted, Mapping):
        for name in dict.fromkeys([*saved, *wanted]):
            _compare(saved.get(name), wanted.get(name), directory, f"{path}.{name}")
    elif saved != wanted:
        raise ConfigError(
            f"{path} = {saved!r} as in the checkpoint",
            repr(wanted),
            str(directory),
            "restore the setting, use another directory, or start over with resume=False",
        )
