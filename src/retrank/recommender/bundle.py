"""The bundle: one directory that is the whole product, readable without running any code from it."""

from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import StorageError
from retrank.core.files import atomic_directory, read_json, read_manifest, write_json, write_manifest, write_text
from retrank.data.events import EventLog
from retrank.features.space import FeatureSpace
from retrank.index.loading import load_index
from retrank.recommender.card import Card
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.parts import Parts, build_parts

__all__ = ["read_bundle", "write_bundle"]

_NAME: Final = "retrank.bundle"
_VERSION: Final = 2  # 1 kept the history as pairs of keys


def write_bundle(directory: str | Path, parts: Parts) -> None:
    """Write a bundle, whole or not at all.

    Args:
        directory: replaced as a whole if it exists.
        parts: what to write.

    Raises:
        ConfigError: a model holds an object that cannot be described in JSON.
    """
    with atomic_directory(directory) as draft:
        ranking = None if parts.ranking is None else parts.ranking.model
        models: dict[str, Any] = {"retrieval": to_config(parts.retrieval.model), "ranking": to_config(ranking)}
        facts = {"candidate": parts.retrieval.model.candidate_id, "num_retrieved": parts.num_retrieved}
        write_json(draft / "config.json", {**models, **facts})
        parts.space.save(draft / "features")
        _save_weights(parts.retrieval.model, draft / "retrieval.safetensors")
        if ranking is not None:
            _save_weights(ranking, draft / "ranking.safetensors")
        parts.candidates.table.write_parquet(draft / "candidates.parquet")
        parts.queries.stored_table.write_parquet(draft / "queries.parquet")
        _write_events(draft / "history", parts.history.events)
        parts.index.save(draft / "index")
        write_json(draft / "card.json", parts.card.to_dict())
        write_text(draft / "README.md", parts.card.to_markdown())
        write_manifest(draft, {"format": _NAME, "version": _VERSION})


def read_bundle(directory: str | Path) -> Parts:
    """Read a bundle after checking every file of it.

    Args:
        directory: what `write_bundle` wrote, now or in version 1.

    Returns:
        Its parts, models in evaluation mode on the CPU.

    Raises:
        StorageError: a file is missing, damaged, half written or of another version.
        ConfigError: a model's class is not known here.
    """
    directory = Path(directory)
    payload = read_manifest(directory)
    if payload.get("format") != _NAME or payload.get("version") not in (1, _VERSION):
        raise StorageError(f"a {_NAME} of version 1 or {_VERSION}", str(payload), str(directory))
    config = read_json(directory / "config.json")
    space = FeatureSpace.load(directory / "features").frozen()
    candidates = pl.read_parquet(directory / "candidates.parquet", glob=False)
    catalogue = space.catalogue(candidates, key=config["candidate"])
    retrieval = _load_model(directory, "retrieval", config, space=space, catalogue=catalogue)
    ranking = _load_model(directory, "ranking", config, space=space, catalogue=catalogue) if config["ranking"] else None
    old_history = directory / "history.parquet"
    return build_parts(
        FrozenModel.holding(retrieval),
        None if ranking is None else FrozenModel.holding(ranking),
        space,
        candidates,
        pl.read_parquet(old_history, glob=False) if payload["version"] == 1 else _read_events(directory / "history"),
        pl.read_parquet(directory / "queries.parquet", glob=False),
        time=None,
        index=load_index(directory / "index"),
        num_retrieved=config["num_retrieved"],
        card=Card.from_dict(read_json(directory / "card.json")),
    )


def _write_events(directory: Path, events: EventLog) -> None:
    """Write keys once and events as numbers, sorted: small, and read without looking up a key."""
    directory.mkdir()
    offsets, codes, times = events.codes()
    queries = torch.arange(len(offsets) - 1, dtype=torch.int32).repeat_interleave(offsets.diff())
    table = {"query": queries.numpy(), "candidate": codes.numpy()}
    pl.DataFrame(table if times is None else {**table, "time": times}).write_parquet(directory / "events.parquet")
    names = {"query": events.query, "candidate": events.candidate, "time": events.time}
    write_json(directory / "columns.json", names)
    for name, index in (("queries", events.queries), ("candidates", events.candidates)):
        index.keys.alias("key").to_frame().write_parquet(directory / f"{name}.parquet")


def _read_events(directory: Path) -> EventLog:
    names = read_json(directory / "columns.json")
    queries, candidates = (
        pl.read_parquet(directory / f"{name}.parquet", glob=False)["key"] for name in ("queries", "candidates")
    )
    table = pl.read_parquet(directory / "events.parquet", glob=False)
    of_query = torch.from_numpy(table["query"].cast(pl.Int64).to_numpy(writable=True))
    offsets = torch.zeros(len(queries) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(of_query, minlength=len(queries)), dim=0, out=offsets[1:])
    return EventLog.from_codes(
        queries=queries.alias(names["query"]),
        candidates=candidates.alias(names["candidate"]),
        offsets=offsets,
        codes=torch.from_numpy(table["candidate"].to_numpy(writable=True)),
        times=None if names["time"] is None else table["time"].alias(names["time"]),
    )


def _save_weights(model: nn.Module, file: Path) -> None:
    save_file({name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}, file)


def _load_model(directory: Path, name: str, config: dict[str, Any], **context: Any) -> Any:
    model = from_config(config[name], **context)
    file = directory / f"{name}.safetensors"
    try:
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StorageError("the weights of the model", str(error), str(file), "save the bundle anew") from error
    return model
