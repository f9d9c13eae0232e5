"""What a run is made of, as a TOML file: checked before anything is computed."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retrank.core.errors import ConfigError

__all__ = [
    "BaselinesConfig",
    "CrossConfig",
    "DataConfig",
    "FeatureConfig",
    "RankingConfig",
    "RetrievalConfig",
    "RunConfig",
    "ShowConfig",
    "SplitConfig",
    "load_config",
    "quickstart_config",
]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@final
class DataConfig(_Strict):
    """Where the tables are and which columns matter.

    `recent` gives every interaction the column "recent": so many of the candidates that its query had before.
    """

    dataset: Literal["movielens_100k", "movielens_1m", "movielens_20m"] | None = None
    root: Path | None = None
    interactions: Path | None = None
    candidates: Path | None = None
    queries: Path | None = None
    query: str
    candidate: str
    time: str
    recent: Count | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        files = [name for name in ("interactions", "candidates", "queries") if getattr(self, name) is not None]
        if self.dataset is not None and files:
            raise ValueError(f"give either 'dataset', which brings its own tables, or {files}")
        if self.dataset is None and not {"interactions", "candidates"} <= {*files}:
            raise ValueError("give either 'dataset', or 'interactions' and 'candidates'")
        if self.dataset is None and self.root is not None:
            raise ValueError("'root' is where a 'dataset' is; the paths of files are relative to this file")
        return self


@final
class SplitConfig(_Strict):
    """Which of each query's last interactions are held back, and for what."""

    test: Fraction = 0.2
    ranking: Fraction = 0.15


@final
class FeatureConfig(BaseModel):
    """A feature kind by name, and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the kind."""
        return dict(self.model_extra or {})


@final
class CrossConfig(_Strict):
    """A cross of features."""

    features: list[str]
    bins: Count


@final
class RetrievalConfig(_Strict):
    """Two towers and how they are trained."""

    query: list[str]
    candidate: list[str]
    query_residual: str | None = None
    candidate_residual: str | None = None
    layers: list[Count] = [128, 64]
    dim: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    temperature: Positive = 0.1
    epochs: Count = 3
    batch_size: Count = 1024
    lr: Positive = 0.002


@final
class RankingConfig(_Strict):
    """A reranker and how it is trained."""

    features: list[str]
    recent: str | None = None
    retrieved: Count = 100
    max_lists: Count | None = None
    layers: list[Count] = [64]
    dim: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    epochs: Count = 1
    batch_size: Count = 64
    lr: Positive = 0.002


@final
class BaselinesConfig(_Strict):
    """Settings of the baselines, tuned on a validation part of train."""

    ease_l2: Positive = 500.0
    ease_decay: Positive = 0.1
    knn_neighbors: Count = 100
    knn_shrink: Annotated[float, Field(ge=0)] = 0.0


@final
class ShowConfig(_Strict):
    """The query whose recommendations are shown in the end.

    `query` is its key, the first one by default; `liked` a condition in SQL on its interactions; `columns` those of the
    candidates to show, all by default.
    """

    query: str | int | None = None
    liked: str | None = None
    columns: list[str] | None = None


@final
class RunConfig(_Strict):
    """A whole run: data, split, features, models, baselines, and what is shown of it."""

    title: str = "A recommender"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig
    split: SplitConfig = SplitConfig()
    features: dict[str, FeatureConfig]
    crosses: list[CrossConfig] = []
    retrieval: RetrievalConfig
    ranking: RankingConfig | None = None
    baselines: BaselinesConfig = BaselinesConfig()
    show: ShowConfig = ShowConfig()

    @property
    def fingerprint(self) -> str:
        """Twelve digits that differ when anything does that matters for training."""
        content = self.model_dump_json(exclude={"title", "show", "baselines"})
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def load_config(path: str | Path) -> RunConfig:
    """Read a TOML file; paths in it are relative to its folder.

    Args:
        path: the file.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: the file is missing or not TOML, or an entry is missing, unknown or out of range.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "a TOML file", f"{type(error).__name__}: {error}", str(path), "see retrank train --help"
        ) from error
    data = content.get("data")
    if isinstance(data, dict):
        for name in ("root", "interactions", "candidates", "queries"):
            if isinstance(data.get(name), str):
                data[name] = str(path.parent / data[name])
    return _checked(content, str(path))


def quickstart_config() -> RunConfig:
    """Return the configuration of `retrank quickstart`."""
    path = Path(__file__).with_name("quickstart.toml")
    return _checked(tomllib.loads(path.read_text(encoding="utf-8")), str(path))


def _checked(content: dict[str, Any], where: str) -> RunConfig:
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError("a valid configuration", f"{first['msg']} ({place})", where) from error
