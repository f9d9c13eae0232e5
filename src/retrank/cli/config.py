"""What a run is made of, as a TOML file: checked before anything is computed."""

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, final, get_args

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
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
ColumnType = Literal["text", "integer", "number", "boolean", "date", "datetime"]

_PATHS: Final = ("root", "interactions", "test", "candidates", "queries")  # of the data part
_FORMER: Final = (("data", "recent", "history"), ("ranking", "recent", "history"))  # a part, and names of an entry


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@final
class DataConfig(_Strict):
    """Where the tables are and which of their columns matter."""

    dataset: Literal["movielens_100k", "movielens_1m", "movielens_20m"] | None = Field(
        default=None, description="A data set that brings its own tables, in place of files."
    )
    root: Path | None = Field(default=None, description="The folder of the data set; it is downloaded by default.")
    interactions: Path | None = Field(
        default=None, description="A Parquet or CSV file, or a glob: what was chosen, one row an interaction."
    )
    test: Path | None = Field(
        default=None,
        description="A file or glob of the interactions to test on; by default they are split off `interactions`.",
    )
    candidates: Path | None = Field(
        default=None,
        description="A file or glob with one row for each candidate; by default they are the keys in `interactions` "
        "and `test`, and nothing else is known of them.",
    )
    queries: Path | None = Field(
        default=None,
        description="A file or glob with one row for each query; by default their features are in `interactions`.",
    )
    query: str = Field(description="The column of query keys, such as users.")
    candidate: str = Field(description="The column of candidate keys.")
    time: str | None = Field(
        default=None,
        description="The column of times: numbers, dates, or times written in ISO 8601; without it, interactions have "
        "no order.",
    )
    types: dict[str, ColumnType] = Field(
        default={}, description='The types of columns of CSV files that must not be guessed, e.g. `zip_code = "text"`.'
    )
    history: Count | None = Field(
        default=None,
        description="Makes the columns that features of kind `History`, `Recent` and `Seen` read: for each "
        "interaction, at most so many candidates of its query.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        files = [name for name in _PATHS if name != "root" and getattr(self, name) is not None]
        if self.dataset is not None and files:
            raise ValueError(f"give either 'dataset', which brings its own tables, or {files}")
        if self.dataset is None and self.interactions is None:
            raise ValueError("give either 'dataset' or 'interactions'")
        if self.dataset is None and self.root is not None:
            raise ValueError("'root' is where a 'dataset' is; the paths of files are relative to this file")
        return self


@final
class SplitConfig(_Strict):
    """Which interactions are held back, and for what."""

    by: Literal["query", "time", "random"] = Field(
        default="query",
        description="`query`: the last ones of each query, or where there are no times, some of each at random; "
        "`time`: the last ones of all; `random`: some of all at random, and times are not used.",
    )
    test: Fraction = Field(default=0.2, description="The part to test on.")
    ranking: Fraction = Field(
        default=0.15, description="Of the rest, the part held back from retrieval to train ranking."
    )
    seed: Seed = Field(default=0, description="Of what is held back at random; the seed of the run does not change it.")


@final
class FeatureConfig(BaseModel):
    """A feature kind by name, and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    kind: str = Field(
        description="A name in `rr.features`, e.g. `Categorical`, or `History`: `Recent` if interactions have an "
        "order, and else `Seen`. Its arguments are further entries."
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the kind."""
        return dict(self.model_extra or {})


@final
class CrossConfig(_Strict):
    """A cross of features."""

    features: list[str] = Field(description="Names of features; the cross is called `a_x_b`.")
    bins: Count = Field(description="Rows of its embedding table.")


@final
class RetrievalConfig(_Strict):
    """Two towers and how they are trained."""

    query: list[str] = Field(description="Features of a query, first the one that identifies it.")
    candidate: list[str] = Field(description="Features of a candidate, first the one that identifies it.")
    query_residual: str | None = Field(
        default=None, description="A feature whose vector is added to the output of the query tower."
    )
    candidate_residual: str | None = Field(
        default=None, description="The same for candidates; with both, the two share one table."
    )
    layers: list[Count] = Field(default=[128, 64], description="Widths of the layers of each tower.")
    dim: Count = Field(default=32, description="Width of the embedding tables.")
    dropout: Dropout = Field(default=0.0, description="The part of activations that is dropped in training.")
    temperature: Positive = Field(
        default=0.1, description="What scores are divided by; smaller looks at the hardest negatives."
    )
    remove_known_positives: bool | str = Field(
        default=False,
        description="Whether what a query likes is kept out of its negatives: its candidates in the batch, or with the "
        "name of a history in `query` or `query_residual` those and the ones in it.",
    )
    epochs: Count = Field(default=3, description="How often training goes through the interactions.")
    batch_size: Count = Field(default=1024, description="Interactions in a step.")
    lr: Positive = Field(default=0.002, description="The learning rate, which falls to 0.")


@final
class RankingConfig(_Strict):
    """A reranker and how it is trained."""

    features: list[str] = Field(description="Features of queries and candidates.")
    history: str | None = Field(
        default=None, description="The feature of kind `History`, `Recent` or `Seen` that candidates are compared with."
    )
    retrieved: Count = Field(default=100, description="How many candidates are retrieved for ranking.")
    max_lists: Count | None = Field(
        default=None, description="Train on so many lists, drawn at random; all by default."
    )
    layers: list[Count] = Field(default=[64], description="Widths of the layers.")
    dim: Count = Field(default=8, description="Width of the embedding tables.")
    dropout: Dropout = Field(default=0.1, description="The part of activations that is dropped in training.")
    epochs: Count = Field(default=1, description="How often training goes through the lists.")
    batch_size: Count = Field(default=64, description="Lists in a step.")
    lr: Positive = Field(default=0.002, description="The learning rate, which falls to 0.")


@final
class BaselinesConfig(_Strict):
    """Settings of the baselines, tuned on a validation part of train."""

    ease_l2: Positive = Field(default=500.0, description="The penalty of EASE.")
    ease_decay: Positive = Field(default=0.1, description='How fast a history fades for "EASE, recent first".')
    knn_neighbors: Count = Field(default=100, description="Neighbours of item-kNN.")
    knn_shrink: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Added to the norms of item-kNN, against pairs that met rarely."
    )


@final
class ShowConfig(_Strict):
    """The query whose recommendations are shown in the end."""

    query: str | int | None = Field(default=None, description="Its key; the first one by default.")
    liked: str | None = Field(default=None, description="A condition in SQL on which of its interactions are shown.")
    columns: list[str] | None = Field(default=None, description="Columns of candidates to show; all by default.")


@final
class RunConfig(_Strict):
    """A whole run: data, split, features, models, baselines, and what is shown of it."""

    title: str = Field(default="A recommender", description="The title of the bundle's card.")
    seed: Seed = Field(default=0, description="Of weights, order and dropout.")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    features: dict[str, FeatureConfig] = Field(
        description="What columns mean: each entry is named after its column, or says `column = ...`."
    )
    crosses: list[CrossConfig] = Field(default=[], description="Combinations of features as features of their own.")
    retrieval: RetrievalConfig
    ranking: RankingConfig | None = None
    baselines: BaselinesConfig = BaselinesConfig()
    serve: Literal["models", "popularity", "item-knn", "ease", "ease-recent"] = Field(
        default="models",
        description="What the bundle holds: the trained models, or a baseline, and then no model is trained.",
    )
    show: ShowConfig = ShowConfig()

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        if self.split.by == "time" and self.data.time is None:
            raise ValueError('split.by = "time" without data.time, the column of times')
        if self.data.test is not None and "test" in self.split.model_fields_set:
            raise ValueError("give either data.test, a file, or split.test, the part that is split off")
        return self

    @property
    def order(self) -> str | None:
        """The column of times that tells what a query did last; None if nothing does."""
        return None if self.split.by == "random" else self.data.time

    @property
    def fingerprint(self) -> str:
        """Twelve digits that differ when anything does that matters for training."""
        content = self.model_dump_json(exclude={"title", "show", "baselines", "serve"})
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
        for name in _PATHS:
            if isinstance(data.get(name), str):
                data[name] = path.parent / data[name]
    return _checked(content, str(path))


def quickstart_config() -> RunConfig:
    """Return the configuration of `retrank quickstart`."""
    path = Path(__file__).with_name("quickstart.toml")
    return _checked(tomllib.loads(path.read_text(encoding="utf-8")), str(path))


def _checked(content: dict[str, Any], where: str) -> RunConfig:
    for name, former, present in _FORMER:
        part = content.get(name)
        if isinstance(part, dict) and former in part and present not in part:
            part[present] = part.pop(former)
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refusal(first["type"], first["loc"], first["msg"], first["input"], where) from error


def _refusal(kind: str, place: tuple[int | str, ...], message: str, value: Any, where: str) -> ConfigError:
    """Say what pydantic refuses as our errors do."""
    entry = ".".join(map(str, place)) or "the file"
    if kind == "missing":
        return ConfigError("an entry", "none", f"{entry} in {where}", "see docs/configuration.md")
    if kind == "extra_forbidden":
        known = _entries(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        fix = f"did you mean '{near[0]}'?" if near else None
        return ConfigError(f"one of {known}", f"'{place[-1]}'", f"{entry} in {where}", fix)
    if kind == "value_error":
        return ConfigError("a valid configuration", message.removeprefix("Value error, "), f"{entry} in {where}")
    return ConfigError(message.removeprefix("Input should be "), repr(value), f"{entry} in {where}")


def _entries(place: tuple[int | str, ...]) -> list[str]:
    """Return the entries that a part of the file may have."""
    part: type[BaseModel] = RunConfig
    for step in place:
        field = part.model_fields.get(str(step))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner += [deeper for one in inner for deeper in get_args(one)]
        part = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), part)
    return list(part.model_fields)
