"""A fitted feature space on disk: JSON and Parquet in one checked directory, never pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, final

from retrank.core.config import from_config, to_config
from retrank.core.errors import StorageError
from retrank.core.files import atomic_directory, read_json, read_manifest, write_json, write_manifest
from retrank.features.cross import Cross
from retrank.features.kinds import Feature
from retrank.features.state import State, read_frame, write_frame

__all__ = ["Stored", "read_space", "write_space"]

_KIND: Final = "retrank feature space"
_FORMAT: Final = 1
_MAIN: Final = "space.json"


@final
class Stored(NamedTuple):
    """The parts of a fitted feature space.

    Args:
        num_rows: rows it was fitted on.
        features: fitted kinds by name.
        crosses: the crosses.
    """

    num_rows: int
    features: Mapping[str, Feature]
    crosses: Sequence[Cross]


def write_space(directory: str | Path, space: Stored) -> None:
    """Write a whole directory, or nothing.

    Args:
        directory: where; an older directory there is replaced.
        space: the fitted parts.
    """
    with atomic_directory(directory) as draft:
        entries = []
        for number, (name, feature) in enumerate(space.features.items()):
            state = feature.state()
            frames = {frame: f"{number:03d}-{frame}.parquet" for frame in state.frames}  # a name may hold a "/"
            for frame, file in frames.items():
                write_frame(draft / file, state.frames[frame])
            entries.append({"name": name, "kind": to_config(feature), "learned": state.values, "frames": frames})
        crosses = [cross.to_json() for cross in space.crosses]
        write_json(draft / _MAIN, {"num_rows": space.num_rows, "features": entries, "crosses": crosses})
        write_manifest(draft, {"kind": _KIND, "format": _FORMAT})


def read_space(directory: str | Path) -> Stored:
    """Read what `write_space` wrote, every byte checked.

    Args:
        directory: where.

    Returns:
        The fitted parts.

    Raises:
        StorageError: a file is missing, changed or cut short; the directory holds something else or another format.
        ConfigError: a kind whose module was not imported.
    """
    directory = Path(directory)
    found = read_manifest(directory)
    if found != {"kind": _KIND, "format": _FORMAT}:
        fix = "save it anew with this version of retrank"
        raise StorageError(f"a {_KIND} of format {_FORMAT}", str(found), str(directory), fix)
    content = read_json(directory / _MAIN)
    features: dict[str, Feature] = {}
    for entry in content["features"]:
        feature: Feature = from_config(entry["kind"])
        frames = {frame: read_frame(directory / file) for frame, file in entry["frames"].items()}
        feature.load_state(State(entry["learned"], frames), where=f"feature '{entry['name']}' in {directory}")
        features[entry["name"]] = feature
    return Stored(int(content["num_rows"]), features, [Cross.from_json(cross) for cross in content["crosses"]])
