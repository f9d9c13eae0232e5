"""The bundle: one directory that is the whole product, readable without running any code from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import StorageError
from retrank.core.files import atomic_directory, read_json, read_manifest, write_json, write_manifest, write_text
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.index.loading import load_index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.card import Card
from retrank.training.model import Model

__all__ = ["Bundle", "read_bundle", "write_bundle"]

_FORMAT: Final = {"format": "retrank.bundle", "version": 1}
_TABLES: Final = ("candidates", "queries", "history")


@final
@dataclass(frozen=True)
class Bundle:
    """What a recommender consists of.

    Args:
        retrieval: the model that embeds queries and candidates.
        ranking: the model that orders, or None.
        space: the fitted feature space of both.
        candidates: the catalogue.
        queries: the feature columns of known queries.
        history: query and candidate keys of interactions.
        index: the candidates' embeddings.
        num_retrieved: how many candidates are retrieved for ranking.
        card: what a reader must know.
    """

    retrieval: RetrievalModel
    ranking: Model | None
    space: FeatureSpace
    candidates: pl.DataFrame
    queries: pl.DataFrame
    history: pl.DataFrame
    index: Index
    num_retrieved: int
    card: Card


def write_bundle(directory: str | Path, bundle: Bundle) -> None:
    """Write a bundle, whole or not at all.

    Args:
        directory: replaced as a whole if it exists.
        bundle: what to write.

    Raises:
        ConfigError: a model holds an object that cannot be described in JSON.
    """
    with atomic_directory(directory) as draft:
        models: dict[str, Any] = {"retrieval": to_config(bundle.retrieval), "ranking": to_config(bundle.ranking)}
        facts = {"candidate": bundle.retrieval.candidate_id, "num_retrieved": bundle.num_retrieved}
        write_json(draft / "config.json", {**models, **facts})
        bundle.space.save(draft / "features")
        _save_weights(bundle.retrieval, draft / "retrieval.safetensors")
        if bundle.ranking is not None:
            _save_weights(bundle.ranking, draft / "ranking.safetensors")
        for name in _TABLES:
            getattr(bundle, name).write_parquet(draft / f"{name}.parquet")
        bundle.index.save(draft / "index")
        write_json(draft / "card.json", bundle.card.to_dict())
        write_text(draft / "README.md", bundle.card.to_markdown())
        write_manifest(draft, _FORMAT)


def read_bundle(directory: str | Path) -> Bundle:
    """Read a bundle after checking every file of it.

    Args:
        directory: what `write_bundle` wrote.

    Returns:
        Its parts, models in evaluation mode on the CPU.

    Raises:
        StorageError: a file is missing, damaged, half written or of another version.
        ConfigError: a model's class is not known here.
    """
    directory = Path(directory)
    payload = read_manifest(directory)
    if payload != _FORMAT:
        raise StorageError(f"a bundle {_FORMAT}", str(payload), str(directory), "save it anew with this version")
    config = read_json(directory / "config.json")
    space = FeatureSpace.load(directory / "features")
    tables = {name: pl.read_parquet(directory / f"{name}.parquet", glob=False) for name in _TABLES}
    catalogue = space.catalogue(tables["candidates"], key=config["candidate"])
    retrieval = _load_model(directory, "retrieval", config, space=space, catalogue=catalogue)
    ranking = _load_model(directory, "ranking", config, space=space, catalogue=catalogue) if config["ranking"] else None
    return Bundle(
        retrieval=retrieval,
        ranking=ranking,
        space=space,
        index=load_index(directory / "index"),
        num_retrieved=config["num_retrieved"],
        card=Card.from_dict(read_json(directory / "card.json")),
        **tables,
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
    return model.eval()
