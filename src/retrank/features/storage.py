"""A fitted feature space on disk: JSON and Parquet in one checked directory, never pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from typing_extensions import TypedDict

from retrank.core.config import from_config, to_config
from retrank.core.directories import atomic_directory
from retrank.core.errors import StorageError
from retrank.core.files import write_json
from retrank.core.manifest import write_manifest
from retrank.core.parquet import parse_parquet, write_parquet
from retrank.core.snapshots import Snapshot
from retrank.core.values import built_from, checked
from retrank.features.cross import Cross
from retrank.features.kinds import Feature
from retrank.features.state import State

__all__ = ["Stored", "parse_space", "write_space"]

_KIND: Final = "retrank feature space"
_FORMAT: Final = 1
_MAIN: Final = "space.json"


class _FeatureEntry(TypedDict):
    name: str
    kind: dict[str, Any]
    learned: dict[str, Any]
    frames: dict[str, str]


class _CrossEntry(TypedDict):
    features: list[str]
    bins: int
    name: str


class _Main(TypedDict):
    num_rows: int
    features: list[_FeatureEntry]
    crosses: list[_CrossEntry]


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
                write_parquet(draft / file, state.frames[frame])
            entries.append({"name": name, "kind": to_config(feature), "learned": state.values, "frames": frames})
        crosses = [cross.to_json() for cross in space.crosses]
        write_json(draft / _MAIN, {"num_rows": space.num_rows, "features": entries, "crosses": crosses})
        write_manifest(draft, {"kind": _KIND, "format": _FORMAT})


def parse_space(snapshot: Snapshot) -> Stored:
    """Read what `write_space` wrote.

    Args:
        snapshot: the directory.

    Returns:
        The fitted parts.

    Raises:
        StorageError: a file is missing or damaged; the directory holds something else or another format; a kind whose
            module was not imported.
    """
    if snapshot.payload != {"kind": _KIND, "format": _FORMAT}:
        fix = "save it anew with this version of retrank"
        raise StorageError(f"a {_KIND} of format {_FORMAT}", str(snapshot.payload), str(snapshot.directory), fix)
    where = snapshot.where(_MAIN)
    content = checked(snapshot.json(_MAIN), _Main, where)
    features: dict[str, Feature] = {}
    for entry in content["features"]:
        with built_from(where):
            feature = from_config(entry["kind"])
        if not isinstance(feature, Feature) or entry["name"] in features:
            raise StorageError("features of different names", f"'{entry['name']}' as {feature!r}"[:200], where)
        frames = {
            frame: parse_parquet(snapshot.read(file), snapshot.where(file)) for frame, file in entry["frames"].items()
        }
        learned_in = f"{where}, feature '{entry['name']}'"
        with built_from(learned_in):
            feature.load_state(State(entry["learned"], frames), where=learned_in)
        features[entry["name"]] = feature
    if content["num_rows"] < 1:
        raise StorageError("at least one row", str(content["num_rows"]), f"{where}, num_rows")
    with built_from(where):
        crosses = [Cross.from_json(cross) for cross in content["crosses"]]
    return Stored(content["num_rows"], features, crosses)
