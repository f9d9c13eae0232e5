"""The bundle: one directory that is the whole product, readable without running any code from it."""

from pathlib import Path
from typing import Any, Final

import polars as pl
from torch import nn
from typing_extensions import TypedDict

from retrank.core.config import to_config
from retrank.core.directories import atomic_directory
from retrank.core.errors import StorageError
from retrank.core.files import write_json, write_text
from retrank.core.manifest import write_manifest
from retrank.core.parquet import parse_parquet, write_parquet
from retrank.core.rebuilding import rebuild
from retrank.core.snapshots import Snapshot, read_directory
from retrank.core.tensor_files import parse_tensors, write_tensors
from retrank.core.values import built_from, checked
from retrank.core.working import Working
from retrank.features.space import FeatureSpace
from retrank.index.loading import index_from_snapshot
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.baseline_bundle import parse_baseline, write_baseline
from retrank.recommender.baseline_parts import AnyParts, BaselineParts, build_baseline_parts
from retrank.recommender.building import build_parts
from retrank.recommender.card import Card
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.parts import Parts
from retrank.recommender.smoke_set import SMOKE_FILE, check_smoke_set, smoke_set
from retrank.recommender.stored_events import parse_events, write_events
from retrank.training.model import Model

__all__ = ["read_bundle", "write_bundle"]

_NAME: Final = "retrank.bundle"
_MODELS: Final = {"format": _NAME, "version": 2}
_EARLIER: Final = {"format": _NAME, "version": 1}  # kept the history as pairs of keys
_BASELINE: Final = {"format": "retrank.baseline_bundle", "version": 1}
_CONFIG_FILE: Final = "config.json"
_CARD_FILE: Final = "card.json"
_UNAVAILABLE_FILE: Final = "unavailable.parquet"


class _Config(TypedDict):
    retrieval: dict[str, Any]
    ranking: dict[str, Any] | None
    candidate: str
    num_retrieved: int


def write_bundle(directory: str | Path, parts: AnyParts) -> None:
    """Write a bundle, whole or not at all.

    Args:
        directory: replaced as a whole if it exists, by a bundle that was read back before.
        parts: what to write.

    Raises:
        ConfigError: a model or baseline holds an object that cannot be described in JSON.
        StorageError: a file cannot be written, or the bundle could not be loaded again.
    """
    with Working(f"saving {directory}"), atomic_directory(directory) as draft:
        if isinstance(parts, BaselineParts):
            write_baseline(draft, parts)
        else:
            _write_models(draft, parts)
        write_parquet(draft / "candidates.parquet", parts.candidates.table)
        if parts.candidates.available is not None:
            write_parquet(draft / _UNAVAILABLE_FILE, parts.candidates.unavailable.to_frame())
        write_events(draft / "history", parts.history.events)
        write_json(draft / _CARD_FILE, parts.card.to_dict())
        write_text(draft / "README.md", parts.card.to_markdown())
        payload = _BASELINE if isinstance(parts, BaselineParts) else _MODELS
        try:
            write_json(draft / SMOKE_FILE, smoke_set(parts))
        except Exception:
            write_manifest(draft, payload)
            read_bundle(draft)  # which names what is wrong, if it is a file
            raise
        write_manifest(draft, payload)
        read_bundle(draft, checks_answers=True)


def read_bundle(directory: str | Path, *, checks_answers: bool = False) -> AnyParts:
    """Read a bundle, every file of it checked.

    Args:
        directory: what `write_bundle` wrote, now or in version 1.
        checks_answers: whether to ask the requests of its smoke set, if it has one.

    Returns:
        Its parts, models in evaluation mode on the CPU, or those of a baseline.

    Raises:
        StorageError: a file is missing, damaged, half written, of another version, or names a model's class that is not
            known here; or it answers otherwise than when it was saved.
    """

    def parse(snapshot: Snapshot) -> AnyParts:
        parts = _parse_available(snapshot)
        if checks_answers and SMOKE_FILE in snapshot:
            check_smoke_set(parts, snapshot.json(SMOKE_FILE), snapshot.where(SMOKE_FILE))
        return parts

    return read_directory(directory, parse)


def _write_models(draft: Path, parts: Parts) -> None:
    ranking = None if parts.ranking is None else parts.ranking.model
    models: dict[str, Any] = {"retrieval": to_config(parts.retrieval.model), "ranking": to_config(ranking)}
    facts = {"candidate": parts.retrieval.model.candidate_id, "num_retrieved": parts.num_retrieved}
    write_json(draft / _CONFIG_FILE, {**models, **facts})
    parts.space.save(draft / "features")
    _write_weights(draft / "retrieval.safetensors", parts.retrieval.model)
    if ranking is not None:
        _write_weights(draft / "ranking.safetensors", ranking)
    write_parquet(draft / "queries.parquet", parts.queries.stored_table)
    parts.index.save(draft / "index")


def _parse_available(snapshot: Snapshot) -> AnyParts:
    parts = _parse_bundle(snapshot)
    if _UNAVAILABLE_FILE not in snapshot:
        return parts
    where, table = snapshot.where(_UNAVAILABLE_FILE), _table(snapshot, _UNAVAILABLE_FILE)
    if table.width != 1:
        raise StorageError("one column of keys", str(table.columns), where, "restore the bundle")
    with built_from(where):
        return parts.with_availability(table.to_series(), False)


def _parse_bundle(snapshot: Snapshot) -> AnyParts:
    if snapshot.payload == _BASELINE:
        baseline, candidates = parse_baseline(snapshot), _table(snapshot, "candidates.parquet")
        events, card = parse_events(snapshot, "history"), _card(snapshot)
        with built_from(str(snapshot.directory)):
            return build_baseline_parts(baseline, candidates, events, time=None, card=card)
    return _parse_models(snapshot)


def _parse_models(snapshot: Snapshot) -> Parts:
    payload = snapshot.payload
    if payload not in (_EARLIER, _MODELS):
        expected = f"a {_NAME} of version 1 or 2, or {_BASELINE['format']} of version 1"
        raise StorageError(expected, str(payload), str(snapshot.directory))
    where = snapshot.where(_CONFIG_FILE)
    config = checked(snapshot.json(_CONFIG_FILE), _Config, where)
    if config["num_retrieved"] < 1:
        raise StorageError("num_retrieved >= 1", str(config["num_retrieved"]), where, "restore the bundle")
    space = FeatureSpace.from_snapshot(snapshot.within("features")).frozen()
    candidates = _table(snapshot, "candidates.parquet")
    with built_from(snapshot.where("candidates.parquet")):
        catalogue = space.catalogue(candidates, key=config["candidate"])
    context = {"space": space, "catalogue": catalogue}
    retrieval = _parse_model(snapshot, "retrieval", config["retrieval"], context)
    ranking = None if config["ranking"] is None else _parse_model(snapshot, "ranking", config["ranking"], context)
    if not isinstance(retrieval, RetrievalModel) or not isinstance(ranking, Model | None):
        got = f"{type(retrieval).__name__} and {type(ranking).__name__}"
        raise StorageError("a retrieval and a ranking model", got, where, "restore the bundle")
    if retrieval.candidate_id != config["candidate"]:
        raise StorageError(f"'{retrieval.candidate_id}'", f"'{config['candidate']}'", f"{where}, candidate")
    history = _table(snapshot, "history.parquet") if payload == _EARLIER else parse_events(snapshot, "history")
    queries, index = _table(snapshot, "queries.parquet"), index_from_snapshot(snapshot.within("index"))
    card = _card(snapshot)
    with built_from(str(snapshot.directory)):
        return build_parts(
            FrozenModel.holding(retrieval),
            None if ranking is None else FrozenModel.holding(ranking),
            space,
            candidates,
            history,
            queries,
            time=None,
            index=index,
            num_retrieved=config["num_retrieved"],
            card=card,
        )


def _write_weights(file: Path, model: nn.Module) -> None:
    write_tensors(file, {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()})


def _parse_model(snapshot: Snapshot, name: str, config: dict[str, Any], context: dict[str, Any]) -> nn.Module:
    weights, where = f"{name}.safetensors", f"{snapshot.where(_CONFIG_FILE)}, {name}"
    tensors = parse_tensors(snapshot.read(weights), snapshot.where(weights))
    return rebuild(config, tensors, where=where, weights=snapshot.where(weights), **context)


def _card(snapshot: Snapshot) -> Card:
    return Card.from_dict(snapshot.json(_CARD_FILE), where=snapshot.where(_CARD_FILE))


def _table(snapshot: Snapshot, name: str) -> pl.DataFrame:
    return parse_parquet(snapshot.read(name), snapshot.where(name))
