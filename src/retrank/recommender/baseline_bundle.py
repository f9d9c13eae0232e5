"""What a bundle holds of a baseline, where others hold models."""

from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from retrank.baselines.baseline import Baseline
from retrank.core.config import from_config, to_config
from retrank.core.errors import StorageError
from retrank.core.files import write_json
from retrank.core.names import known_by_name, public_name
from retrank.core.parquet import parse_parquet, write_parquet
from retrank.core.snapshots import Snapshot
from retrank.core.tensor_files import parse_tensors, write_tensors
from retrank.core.values import built_from, checked
from retrank.recommender.baseline_parts import BaselineParts

__all__ = ["parse_baseline", "write_baseline"]

_CONFIG_FILE: Final = "baseline.json"
_KEYS_FILE: Final = "baseline.parquet"
_TENSORS_FILE: Final = "baseline.safetensors"

_Plain = str | int | float | bool | None


@with_config(ConfigDict(extra="forbid"))
class _Baseline(TypedDict):
    type: str
    arguments: dict[str, _Plain | list[_Plain]]  # nothing that is built in turn, whatever its size


@with_config(ConfigDict(extra="forbid"))
class _Config(TypedDict):
    baseline: _Baseline
    query: str


def write_baseline(draft: Path, parts: BaselineParts) -> None:
    """Write a baseline into a draft.

    Args:
        draft: of the bundle.
        parts: what to write.

    Raises:
        ConfigError: settings that cannot be described in JSON.
        StorageError: a file cannot be written.
    """
    baseline = parts.baseline
    write_json(draft / _CONFIG_FILE, {"baseline": to_config(baseline), "query": baseline.query})
    write_parquet(draft / _KEYS_FILE, baseline.candidates.to_frame())
    write_tensors(draft / _TENSORS_FILE, baseline.learned())


def parse_baseline(snapshot: Snapshot) -> Baseline:
    """Read what `write_baseline` wrote.

    Args:
        snapshot: the bundle.

    Returns:
        A baseline that scores, without interactions.

    Raises:
        StorageError: a file is missing or damaged, does not fit the others, or names a class that is not known here.
    """
    where = snapshot.where(_CONFIG_FILE)
    config = checked(snapshot.json(_CONFIG_FILE), _Config, where)
    given: dict[str, Any] = dict(config["baseline"])
    with built_from(where):
        known_by_name(_kinds(), given["type"], "baseline")
        baseline: Baseline = from_config(given)
    keys = _keys(snapshot)
    tensors = parse_tensors(snapshot.read(_TENSORS_FILE), snapshot.where(_TENSORS_FILE))
    with built_from(snapshot.where(_TENSORS_FILE)):
        return baseline.with_learned(config["query"], keys, tensors)


def _kinds() -> dict[str, type[Baseline]]:
    kinds, found = [Baseline], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found[public_name(kind)] = kind
    return found


def _keys(snapshot: Snapshot) -> pl.Series:
    where = snapshot.where(_KEYS_FILE)
    table = parse_parquet(snapshot.read(_KEYS_FILE), where)
    if table.width != 1:
        raise StorageError("one column of keys", str(table.columns), where, "restore the bundle")
    return table.to_series()
