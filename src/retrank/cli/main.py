"""The command line of retrank; `cli` lists the commands."""

import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from retrank.cli import bulk, cleaning, commands, exporting, serving, stored
from retrank.cli.config import DataConfig, RunConfig, load_config, quickstart_config
from retrank.cli.doctor import doctor as tell
from retrank.core.errors import ConfigError, RetrankError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Recommenders from raw tables to served recommendations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines, one object a line; text goes to standard error.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many models are trained and averaged; the first one is saved.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The first seed; 0 by default.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs of retrieval, in place of the configured ones.")]
Serve = Annotated[
    str | None, typer.Option(help="What the bundle holds: models, or popularity, item-knn, ease or ease-recent.")
]
Show = Annotated[str | None, typer.Option(help="The query whose recommendations are shown.")]
Bundle = Annotated[Path, typer.Argument(help="The directory of a bundle.")]


@app.command()
def quickstart(
    data: Annotated[
        str, typer.Option(help="movielens_100k, movielens_1m, movielens_20m, or a folder with MovieLens-100K.")
    ] = "movielens_100k",
    seed: Seed = None,
    seeds: Seeds = 3,
    epochs: Epochs = None,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path("runs/quickstart"),
    show: Show = None,
    as_json: Json = False,
) -> None:
    """Train retrieval and ranking on MovieLens, compare them with baselines, recommend, and save a bundle."""
    config = quickstart_config()
    config = config.model_copy(update={"data": _data(config.data, data)})
    commands.run(_with(config, seed, epochs), seeds=seeds, out=out, show=show, as_json=as_json)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; begin with a copy of `retrank config`.")],
    seed: Seed = None,
    seeds: Seeds = 1,
    epochs: Epochs = None,
    out: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path("runs/train"),
    serve: Serve = None,
    show: Show = None,
    as_json: Json = False,
) -> None:
    """Do what a configuration describes: load, split, train, evaluate, save. Run again after Ctrl-C to go on."""
    commands.run(_with(load_config(config), seed, epochs, serve), seeds=seeds, out=out, show=show, as_json=as_json)


@app.command()
def config() -> None:
    """Print the configuration of the quickstart, to be edited."""
    typer.echo(Path(__file__).with_name("quickstart.toml").read_text(encoding="utf-8"), nl=False)


@app.command()
def evaluate(
    bundle: Bundle,
    test: Annotated[Path, typer.Option(help="Later interactions, Parquet or CSV.")],
    k: Annotated[list[int], typer.Option("-k", min=1, help="Length of the lists; may be repeated.")] = [10],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compare a bundle with the baselines on later interactions, over the whole corpus, as `train` does."""
    commands.evaluate_bundle(bundle, test, ks=k, as_json=as_json)


@app.command()
def recommend(
    bundle: Bundle,
    query: Annotated[list[str], typer.Option(help="COLUMN=VALUE of the query; repeat for more columns.")] = [],  # noqa: B006
    user: Annotated[list[str], typer.Option(help="The query's key, in short; repeat for several queries.")] = [],  # noqa: B006
    users: Annotated[str | None, typer.Option(help="'all', or a Parquet or CSV file of queries; needs --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .parquet, .csv or .jsonl file for the lists of --users.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the list.")] = 10,
    where: Annotated[str | None, typer.Option(help="A condition on the catalogue, in SQL: 'year >= 1990'.")] = None,
    include_seen: Annotated[bool, typer.Option(help="Also recommend what the query has already.")] = False,
    as_json: Json = False,
) -> None:
    """Recommend to one query or several from a bundle, or to all of them into a file."""
    if users is not None or out is not None:
        bulk.recommend_in_bulk(
            bundle, users, out=out, others=bool(query or user), k=k, where=where, include_seen=include_seen,
            as_json=as_json,
        )  # fmt: skip
        return
    commands.recommend(bundle, _pairs(query), keys=user, k=k, where=where, include_seen=include_seen, as_json=as_json)


@app.command()
def similar(
    bundle: Bundle,
    candidate: Annotated[str, typer.Argument(help="The candidate's key.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the list.")] = 10,
    where: Annotated[str | None, typer.Option(help="A condition on the catalogue, in SQL: 'year >= 1990'.")] = None,
    as_json: Json = False,
) -> None:
    """List the candidates of a bundle that are most like one of them."""
    commands.similar(bundle, candidate, k=k, where=where, as_json=as_json)


@app.command()
def clean(
    folder: Annotated[Path, typer.Argument(help="Where to look: in it, and in the folders in it.")] = Path(),
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed.")] = False,
    hours: Annotated[float, typer.Option(min=0, help="Leave out what was written less than so long ago.")] = 1,
    as_json: Json = False,
) -> None:
    """List the checkpoints of runs that were stopped and never went on; with --delete, delete them."""
    cleaning.clean(folder, hours=hours, delete=delete, as_json=as_json)


@app.command()
def update(
    bundle: Bundle,
    interactions: Annotated[Path | None, typer.Option(help="New interactions, Parquet or CSV.")] = None,
    store: Annotated[
        str | None, typer.Option(help="In place of files, the store of a service: what it has kept since the bundle.")
    ] = None,
    event_type: Annotated[
        list[str], typer.Option(help="NAME=EFFECT, with a store, as `retrank serve` has it; may be repeated.")
    ] = [],  # noqa: B006
    candidates: Annotated[Path | None, typer.Option(help="New candidates, and known ones that have changed.")] = None,
    queries: Annotated[Path | None, typer.Option(help="New queries, and known ones that have changed.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the updated bundle goes; in place of the old one.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over new and replayed interactions.")] = 2,
    replay: Annotated[float, typer.Option(min=0, help="Old interactions learned from again, for each new one.")] = 0.5,
    ranking_epochs: Annotated[int, typer.Option(min=0, help="Passes of the ranking model over new lists.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a bundle on with new interactions, from files or from the store of a service, instead of from scratch."""
    place = bundle if out is None else out
    how: dict[str, Any] = {"epochs": epochs, "replay": replay, "ranking_epochs": ranking_epochs, "seed": seed}
    if (interactions is None) == (store is None):
        got = "neither" if store is None else "both"
        raise ConfigError("either --interactions or --store", got, "update", "write e.g. --interactions new.parquet")
    if interactions is not None:
        if event_type:
            raise ConfigError("--event-type with --store alone", "with --interactions", "update")
        commands.update_bundle(
            bundle, interactions, candidates=candidates, queries=queries, out=place, as_json=as_json, **how
        )
    elif store is not None:
        if candidates is not None or queries is not None:
            raise ConfigError("--candidates and --queries with --interactions alone", "with --store", "update")
        stored.update_from_store(
            bundle, store, effects=serving.effects_of(event_type), out=place, as_json=as_json, **how
        )


@app.command()
def events(
    store: Annotated[str, typer.Argument(help="A file of SQLite, or a URL as `retrank serve --store` takes it.")],
    out: Annotated[Path, typer.Option(help="The Parquet file.")],
    impressions: Annotated[bool, typer.Option("--impressions", help="Which lists were shown, not events.")] = False,
    after: Annotated[int, typer.Option(min=0, help="Leave out what came up to this position.")] = 0,
    as_json: Json = False,
) -> None:
    """Write what a service has kept as a Parquet file."""
    stored.export_store(store, out, impressions=impressions, after=after, as_json=as_json)


serving.add_commands(app)
app.add_typer(exporting.app)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what a bug report needs: versions, which implementations are in use and why, threads, extras."""
    tell(as_json=as_json)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done; 1 an unexpected error; 2 bad input, said in one line; 130 stopped by Ctrl-C.
    """
    try:
        app()
    except RetrankError as error:
        lines = (line.strip() for line in str(error).splitlines())
        typer.echo(f"error: {' '.join(filter(None, lines))}", err=True)
        sys.exit(2)


def _data(config: DataConfig, wanted: str) -> DataConfig:
    if wanted in ("movielens_100k", "movielens_1m", "movielens_20m"):
        return config.model_copy(update={"dataset": wanted})
    if not Path(wanted).is_dir():
        raise ConfigError("movielens_100k, movielens_1m, movielens_20m or a folder", wanted, "--data")
    return config.model_copy(update={"root": Path(wanted)})


def _with(config: RunConfig, seed: int | None, epochs: int | None, serve: str | None = None) -> RunConfig:
    if seed is not None:
        config = config.model_copy(update={"seed": seed})
    if epochs is not None:
        config = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"epochs": epochs})})
    if serve is not None:
        if serve.lower() not in (known := get_args(RunConfig.model_fields["serve"].annotation)):
            raise ConfigError(f"one of {', '.join(known)}", serve, "--serve")
        config = config.model_copy(update={"serve": serve.lower()})
    return config


def _pairs(options: list[str]) -> dict[str, str]:
    for option in options:
        if "=" not in option:
            raise ConfigError("COLUMN=VALUE", repr(option), "--query", "write e.g. --query user_id=42")
    return dict(option.split("=", 1) for option in options)
