"""What the commands do; `main` only parses their arguments."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from rich.console import Console
from rich.markup import escape

from retrank.baselines.popularity import Popularity
from retrank.cli.comparison import COMPARED, NAMES, baseline_of, better_baseline, compare, settings_of
from retrank.cli.config import RunConfig
from retrank.cli.next_steps import next_steps
from retrank.cli.output import print_json, table_of
from retrank.cli.pipeline import Pipeline
from retrank.cli.showing import Showing
from retrank.cli.splitting import described
from retrank.cli.tables import Tables, read_interactions
from retrank.cli.values import cast
from retrank.core.directories import ensure_replaceable
from retrank.core.errors import ConfigError, DataError
from retrank.core.version import __version__
from retrank.evaluation import Report
from retrank.recommender import Card, Recommender, update
from retrank.recommender.conditions import condition
from retrank.recommender.index_choice import index_sentence

__all__ = ["evaluate_bundle", "recommend", "run", "similar", "update_bundle"]

_LIMITS: Final = {
    "query": "Other queries' later interactions were part of training, as the split is per query. ",
    "time": "",
    "random": "Later interactions were part of training, as the split is at random. ",
}
_METRICS: Final = [f"{metric}@10" for metric in COMPARED]


def run(config: RunConfig, *, seeds: int, out: Path, show: str | None, as_json: bool) -> None:
    """Train, evaluate, save and show.

    Args:
        config: the checked configuration.
        seeds: how many models are trained, with seeds from `config.seed` on; the first is saved.
        out: the bundle's directory.
        show: the query to show; any by default.
        as_json: print one JSON object instead of text.

    Raises:
        ConfigError: the configuration does not fit the tables, or the query to show is unknown.
        DataError: a table is not what it must be.
        StorageError: the bundle would replace something that is no bundle.
        SystemExit: Ctrl-C, with code 130; what was learned is kept for the next run of the same configuration.
    """
    try:
        _run(config, seeds, out, show, as_json)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to go on from here")
        raise SystemExit(130) from None


def _run(config: RunConfig, seeds: int, out: Path, show: str | None, as_json: bool) -> None:
    ensure_replaceable(out)
    console = Console(stderr=as_json, highlight=False)
    started = time.perf_counter()
    pipeline = Pipeline(
        config,
        folder=out.parent / f".{out.name}-checkpoints",
        say=lambda text: console.print(f"[dim]{time.perf_counter() - started:6.1f}s[/dim]  {text}"),
        progress=not as_json,
    )
    tables = pipeline.load()
    showing = Showing(config, tables, show)
    seeds = seeds if config.serve == "models" else 1  # a baseline is the same with every seed
    recommenders = [pipeline.train(tables, seed) for seed in range(config.seed, config.seed + seeds)]
    if sentence := index_sentence(recommenders[0].card):
        pipeline.say(sentence)
    pipeline.say("evaluation: the whole corpus, seen candidates excluded")
    report = pipeline.evaluate(tables, recommenders, config.seed)
    recommender = recommenders[0].with_card(_card(config, tables, report, seeds, recommenders[0].card))
    recommender.save(out)
    pipeline.forget(tables)
    report.table(_METRICS, console=console)
    if config.serve == "models" and (advice := better_baseline(report)) is not None:
        console.print(escape(advice))
    if as_json:
        lists = recommender.recommend({recommender.query: showing.key}).to_dicts()
        summary = {"bundle": str(out), "seconds": time.perf_counter() - started, "seeds": seeds}
        print_json({**summary, "report": report.to_dict(), "query": showing.key, "recommendations": lists})
        return
    showing.show(recommender, console)
    console.print(f"\nThe bundle is in [bold]{escape(str(out))}[/bold]. Next:")
    for line in next_steps(out, str(showing.key)):
        console.print(f"  {escape(line)}", soft_wrap=True)
    console.print(f"[dim]{time.perf_counter() - started:.0f} seconds in all[/dim]")


def recommend(
    bundle: Path,
    query: Mapping[str, str],
    *,
    keys: Sequence[str],
    k: int,
    where: str | None,
    include_seen: bool,
    as_json: bool,
) -> None:
    """Recommend to queries from a bundle.

    Args:
        bundle: the directory.
        query: column name to value, as typed.
        keys: the keys of the queries, in place of their column in `query`; one list each.
        k: the length of a list.
        where: a condition on the catalogue in SQL.
        include_seen: whether to recommend what the query has already.
        as_json: print JSON, a line for each query, instead of tables.

    Raises:
        ConfigError: no key is given, or two; the condition is not SQL, or a value does not fit its column.
    """
    recommender = Recommender.load(bundle)
    name = recommender.query
    only = None if where is None else condition(where, "--where")
    known = _typed(recommender, query)
    if bool(keys) == (name in query):
        example = "KEY" if recommender.queries.index.keys.is_empty() else recommender.queries.index.keys[0]
        got = "both" if keys else "neither"
        raise ConfigError(f"either --user or --query {name}=...", got, "recommend", f"write e.g. --user {example}")
    asked = [{name: key, **query} for key in keys] or [dict(query)]
    typed = [known | _typed(recommender, {name: one[name]}) for one in asked]
    for one, values in zip(asked, typed, strict=True):
        lists = recommender.recommend(values, k, exclude_seen=not include_seen, where=only)
        if as_json:
            print_json({"query": values, "recommendations": lists.to_dicts()})
        else:
            title = f"for {', '.join(f'{column} {value}' for column, value in one.items())}"
            if "popularity" in lists["stage"] and not isinstance(recommender.baseline, Popularity):
                title += ", of whom nothing is known: what is popular"
            Console().print(table_of(lists.drop("stage"), title))


def similar(bundle: Path, candidate: str, *, k: int, where: str | None, as_json: bool) -> None:
    """List the candidates of a bundle that are most like one of them.

    Args:
        bundle: the directory.
        candidate: the candidate's key, as typed.
        k: the length of the list.
        where: a condition on the catalogue in SQL.
        as_json: print JSON instead of a table.

    Raises:
        ConfigError: the condition is not SQL, or the key does not fit its column.
        DataError: no such candidate.
    """
    recommender = Recommender.load(bundle)
    key = cast(candidate, recommender.candidates.schema[recommender.candidate], f"'{recommender.candidate}'")
    lists = recommender.similar(key, k, where=None if where is None else condition(where, "--where"))
    if as_json:
        print_json({recommender.candidate: key, "similar": lists.to_dicts()})
    else:
        Console().print(table_of(lists, f"like {recommender.candidate} {candidate}"))


def evaluate_bundle(bundle: Path, test: Path, *, ks: list[int], as_json: bool) -> None:
    """Evaluate a bundle on a test table, beside the baselines that it was compared with in training.

    Args:
        bundle: the directory; what it has seen is its training data.
        test: a Parquet or CSV file of later interactions.
        ks: lengths of the lists.
        as_json: print JSON instead of a table.

    Raises:
        DataError: the test table lacks a key, a key is not of the bundle's type, or the bundle knows none of them.
    """
    recommender = Recommender.load(bundle)
    query, candidate = recommender.query, recommender.candidate
    table = read_interactions(test, recommender.seen.select(query, candidate).schema)
    _require_known(table[query], recommender.queries.index.keys, test)
    _require_known(table[candidate], recommender.candidates[candidate], test)
    events = recommender.history.events
    report = compare(
        {"bundle": recommender}, events.table(), table, settings_of(recommender.card), query=query,
        candidate=candidate, time=events.time, ks=ks, seed=0, say=Console(stderr=True, highlight=False).print,
        progress=not as_json,
    )  # fmt: skip
    if as_json:
        print_json(report.to_dict())
    else:
        report.table([f"{metric}@{k}" for k in ks for metric in COMPARED])


def _card(config: RunConfig, tables: Tables, report: Report, seeds: int, built: Card) -> Card:
    source = config.data.dataset or Path(config.data.interactions or "").name  # no folders of this machine
    return Card(
        title=config.title,
        data=f"{source}: {len(tables.train):,} training interactions of "
        f"{len(tables.queries):,} queries with {len(tables.candidates):,} candidates.",
        split=_how_split(config),
        models=_what_serves(config),
        metrics=f"Mean of {seeds} seed{'' if seeds == 1 else 's'} over {report.num_queries:,} queries with 95% "
        f"intervals; the whole corpus is ranked, seen candidates excluded.\n\n{report.to_markdown(_METRICS)}",
        limits=("" if config.data.test else _LIMITS[config.split.by])
        + "Past choices are learned from as they were made, with whatever decided what was shown.",
        facts={**built.facts, "seed": config.seed, "retrank": __version__, "baselines": config.baselines.model_dump()},
    )


def _how_split(config: RunConfig) -> str:
    if config.data.test is not None:
        return f"The interactions in {config.data.test.name} are the test part."
    part = f"The test part is {described(config, config.split.test)}"
    if config.split.by == "query" and config.data.time is not None:
        return f"{part} by {config.data.time}; equal times in the order of the table."
    return f"{part} by {config.data.time}." if config.split.by == "time" else f"{part} (seed {config.split.seed})."


def _what_serves(config: RunConfig) -> str:
    if config.serve != "models":
        baseline = baseline_of(config.serve, config.baselines)
        settings = ", ".join(f"{name}={value}" for name, value in baseline.config.items())
        return f"{NAMES[config.serve]}: {type(baseline).__name__}({settings})."
    ranking = "" if config.ranking is None else f", then a reranker over {config.ranking.retrieved} candidates"
    return f"Two towers (in-batch softmax, log_q, accidental hits removed){ranking}."


def update_bundle(
    bundle: Path,
    interactions: Path,
    *,
    candidates: Path | None,
    queries: Path | None,
    out: Path,
    epochs: int,
    replay: float,
    ranking_epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train a bundle on with new interactions, and save it.

    Args:
        bundle: the directory.
        interactions: a Parquet or CSV file of new interactions, with the columns of the history.
        candidates: a file of new candidates, and of known ones that have changed.
        queries: a file of new queries, and of known ones that have changed.
        out: where the updated bundle goes.
        epochs: passes over new and replayed interactions.
        replay: how many old interactions are learned from again, for each new one.
        ranking_epochs: passes of the ranking model over lists for the new interactions.
        seed: of everything that is drawn.
        as_json: print one JSON object instead of text.

    Raises:
        ConfigError: a bundle that cannot be updated.
        DataError: a table is not what it must be.
        StorageError: there is no bundle, or the new one would replace something that is no bundle.
    """
    ensure_replaceable(out)
    started = time.perf_counter()
    recommender = Recommender.load(bundle)
    types = recommender.history.events.table().schema
    keys = {name: types[name] for name in (recommender.query, recommender.candidate)}
    details = [
        None if path is None else read_interactions(path, {name: keys[name]})
        for path, name in ((candidates, recommender.candidate), (queries, recommender.query))
    ]
    updated = update(
        recommender,
        read_interactions(interactions, keys),
        *details,
        epochs=epochs,
        replay=replay,
        ranking_epochs=ranking_epochs,
        seed=seed,
        progress=not as_json,
    )
    updated.save(out)
    done, seconds = updated.card.facts["updates"][-1], time.perf_counter() - started
    if as_json:
        print_json({"bundle": str(out), "seconds": seconds, **done})
        return
    console = Console(highlight=False)
    console.print(
        f"{done['events']:,} interactions learned, {done['new queries']:,} queries and {done['new candidates']:,} "
        f"candidates new, {done['replayed']:,} old interactions replayed"
    )
    console.print(f"The bundle is in [bold]{escape(shlex.quote(str(out)))}[/bold]. [dim]{seconds:.0f} seconds[/dim]")


def _require_known(keys: pl.Series, known: pl.Series, test: Path) -> None:
    if not keys.is_in(known.cast(keys.dtype).implode()).any():
        raise DataError(
            f"some keys that the bundle knows, such as {known[0]!r}",
            f"{keys.n_unique()} others" + ("" if keys.is_empty() else f", such as {keys[0]!r}"),
            f"column '{keys.name}' of {test}",
            "the bundle may have been trained on other data",
        )


def _typed(recommender: Recommender, query: Mapping[str, str]) -> dict[str, Any]:
    schema = {recommender.query: recommender.queries.index.dtype, **recommender.queries.column_types}
    unknown = [name for name in query if name not in schema]
    if unknown:
        raise ConfigError(f"columns of {list(schema)}", str(unknown), "--query")
    return {name: cast(value, schema[name], f"'{name}'") for name, value in query.items()}
