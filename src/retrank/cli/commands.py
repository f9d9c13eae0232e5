"""What the commands do; `main` only parses their arguments."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from retrank.cli.config import RunConfig
from retrank.cli.pipeline import RECENT, Pipeline, Tables
from retrank.core.errors import ConfigError
from retrank.core.version import __version__
from retrank.data import frame
from retrank.evaluation import Recommends, Report, baselines, evaluate
from retrank.recommender import Card, Recommender

__all__ = ["doctor", "evaluate_bundle", "recommend", "run"]

_METRICS: Final = ["ndcg@10", "recall@10", "hit_rate@10", "mrr@10"]
_EXTRAS: Final = {
    "ann": "faiss",
    "serve": "fastapi",
    "export": "onnx",
    "sharded": "torchrec",
    "tune": "optuna",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "plot": "matplotlib",
    "text": "sentence_transformers",
}


def run(config: RunConfig, *, seeds: int, out: Path, show: str | None, as_json: bool) -> None:
    """Train, evaluate, save and show.

    Args:
        config: the checked configuration.
        seeds: how many models are trained, with seeds from `config.seed` on; the first is saved.
        out: the bundle's directory.
        show: the query to show; any by default.
        as_json: print one JSON object instead of text.

    Raises:
        SystemExit: Ctrl-C, with code 130; what was learned is kept for the next run of the same configuration.
    """
    try:
        _run(config, seeds, out, show, as_json)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to go on from here")
        raise SystemExit(130) from None


def _run(config: RunConfig, seeds: int, out: Path, show: str | None, as_json: bool) -> None:
    console = Console(stderr=as_json)
    started = time.perf_counter()
    checkpoints = out.parent / f".{out.name}-checkpoints"
    pipeline = Pipeline(
        config,
        folder=checkpoints,
        say=lambda text: console.print(f"[dim]{time.perf_counter() - started:6.1f}s[/dim]  {text}", highlight=False),
        progress=not as_json,
    )
    tables = pipeline.load()
    recommenders = [pipeline.train(tables, seed) for seed in range(config.seed, config.seed + seeds)]
    pipeline.say("evaluation: the whole corpus, seen candidates excluded")
    report = pipeline.evaluate(tables, recommenders, config.seed)
    recommender = recommenders[0].with_card(_card(config, tables, report, seeds))
    recommender.save(out)
    shutil.rmtree(checkpoints, ignore_errors=True)
    report.table(_METRICS, console=console)
    key = _query_to_show(recommender, show)
    if as_json:
        lists = recommender.recommend({recommender.query: key}).to_dicts()
        summary = {"bundle": str(out), "seconds": time.perf_counter() - started, "seeds": seeds}
        print(json.dumps({**summary, "report": report.to_dict(), "query": key, "recommendations": lists}))  # noqa: T201
        return
    _show_query(console, config, tables, recommender, key)
    console.print(f"\nThe bundle is in [bold]{out}[/bold]. Next:", highlight=False)
    console.print(f"  retrank recommend {out} --user {key} -k 10", highlight=False)
    console.print(f"  retrank recommend {out} --user {key} --json", highlight=False)
    console.print("  retrank config > my.toml; retrank train my.toml", highlight=False)
    console.print(f"[dim]{time.perf_counter() - started:.0f} seconds in all[/dim]", highlight=False)


def recommend(
    bundle: Path,
    query: Mapping[str, str],
    *,
    key: str | None,
    k: int,
    where: str | None,
    include_seen: bool,
    as_json: bool,
) -> None:
    """Recommend to one query from a bundle.

    Args:
        bundle: the directory.
        query: column name to value, as typed.
        key: the query's key, in place of its column in `query`.
        k: the length of the list.
        where: a condition on the catalogue in SQL.
        include_seen: whether to recommend what the query has already.
        as_json: print JSON instead of a table.

    Raises:
        ConfigError: the condition is not SQL, or a value does not fit its column.
    """
    recommender = Recommender.load(bundle)
    query = dict(query) if key is None else {recommender.query: key, **query}
    typed = _typed(recommender, query)
    lists = recommender.recommend(typed, k, exclude_seen=not include_seen, where=_condition(where))
    if as_json:
        print(json.dumps({"query": typed, "recommendations": lists.to_dicts()}))  # noqa: T201
    else:
        Console().print(_table(lists, f"for {', '.join(f'{name} {value}' for name, value in query.items())}"))


def evaluate_bundle(bundle: Path, test: Path, *, ks: list[int], as_json: bool) -> None:
    """Evaluate a bundle beside the baselines on a test table.

    Args:
        bundle: the directory; what it has seen is its training data.
        test: a Parquet or CSV file of later interactions.
        ks: lengths of the lists.
        as_json: print JSON instead of a table.
    """
    recommender = Recommender.load(bundle)
    systems: dict[str, Recommends | Sequence[Recommends]] = {
        "popularity": baselines.Popularity(),
        "EASE": baselines.EASE(),
        "bundle": recommender,
    }
    table = frame(test)
    types = [pl.col(name).cast(dtype) for name, dtype in recommender.seen.schema.items() if name in table.columns]
    query, candidate = recommender.query, recommender.candidate
    report = evaluate(systems, recommender.seen, table.with_columns(types), ks=ks, query=query, candidate=candidate)
    if as_json:
        print(json.dumps(report.to_dict()))  # noqa: T201
    else:
        report.table([metric for metric in report.metrics if metric.split("@")[0] in ("ndcg", "recall")])


def doctor(*, as_json: bool) -> None:
    """Tell what a bug report needs: versions, device, extras, data.

    Args:
        as_json: print JSON instead of a table.
    """
    facts: dict[str, Any] = {
        "retrank": __version__,
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy", "polars")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **{f"extra {name}": importlib.util.find_spec(module) is not None for name, module in _EXTRAS.items()},
        "RETRANK_DATA": os.environ.get("RETRANK_DATA", "not set"),
    }
    if as_json:
        print(json.dumps(facts))  # noqa: T201
        return
    table = Table("fact", "value", title="retrank doctor", title_justify="left")
    for name, value in facts.items():
        table.add_row(name, "installed" if value is True else "missing" if value is False else str(value))
    Console().print(table)


def _card(config: RunConfig, tables: Tables, report: Report, seeds: int) -> Card:
    split = config.split
    return Card(
        title=config.title,
        data=f"{config.data.dataset or config.data.interactions}: {len(tables.train):,} training interactions of "
        f"{len(tables.queries):,} queries with {len(tables.candidates):,} candidates.",
        split=f"The last {split.test:.0%} of each query's interactions by {config.data.time} are the test part; "
        "equal times in the order of the table.",
        models="Two towers (in-batch softmax, log_q, accidental hits removed)"
        + ("" if config.ranking is None else f", then a reranker over {config.ranking.retrieved} candidates."),
        metrics=f"Mean of {seeds} seeds over {report.num_queries:,} queries with 95% intervals; the whole corpus is "
        f"ranked, seen candidates excluded.\n\n{report.to_markdown(_METRICS)}",
        limits="Other queries' later interactions were part of training, as the split is per query. "
        "Past choices are learned from as they were made, with whatever decided what was shown.",
        facts={"seed": config.seed, "retrank": __version__},
    )


def _query_to_show(recommender: Recommender, wanted: str | None) -> Any:
    known = recommender.queries.table[recommender.query]
    if wanted is None:
        return "42" if known.dtype == pl.String and "42" in known.implode().item() else known[0]
    return _cast(wanted, known.dtype, recommender.query)


def _show_query(console: Console, config: RunConfig, tables: Tables, recommender: Recommender, key: Any) -> None:
    data = config.data
    own = tables.train.filter(pl.col(data.query) == key).sort(data.time, descending=True, maintain_order=True)
    if "rating" in own.columns:
        own = own.filter(pl.col("rating") >= 4)
    console.print(_table(own.head(5).select(recommender.candidates.columns), f"what {data.query} {key} liked last"))
    lists = recommender.recommend({data.query: key}, k=10)
    console.print(_table(lists, f"what we recommend to {data.query} {key}"))


def _table(rows: pl.DataFrame, title: str) -> Table:
    hidden = {"stage", RECENT, "title"} if "movie_title" in rows.columns else {"stage", RECENT}
    names = [name for name in rows.columns if name not in hidden]
    table = Table(*names, title=title, title_justify="left")
    for row in rows.select(names).iter_rows():
        table.add_row(*map(_text, row))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _typed(recommender: Recommender, query: Mapping[str, str]) -> dict[str, Any]:
    schema = recommender.queries.table.schema
    unknown = [name for name in query if name not in schema]
    if unknown:
        raise ConfigError(f"columns of {list(schema)}", str(unknown), "--query", "name the query's columns")
    return {name: _cast(value, schema[name], name) for name, value in query.items()}


def _cast(value: str, dtype: pl.DataType, name: str) -> Any:
    try:
        if isinstance(dtype, pl.List):
            return pl.Series(value.split(",") if value else [], dtype=pl.String).cast(dtype.inner).to_list()
        return pl.Series([value]).cast(dtype)[0]
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"a value of type {dtype}", repr(value), f"'{name}'", "type such a value") from error


def _condition(where: str | None) -> pl.Expr | None:
    if where is None:
        return None
    try:
        return pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        raise ConfigError("a condition in SQL", str(error), "--where", "write e.g. --where 'year >= 1990'") from error
