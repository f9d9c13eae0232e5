"""The command `recommend` for many queries: a file of lists."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from retrank.cli.output import print_json
from retrank.core.errors import ConfigError
from retrank.recommender import recommend_to_file
from retrank.recommender.conditions import condition

__all__ = ["recommend_in_bulk"]


def recommend_in_bulk(
    bundle: Path,
    users: str | None,
    *,
    out: Path | None,
    others: bool,
    k: int,
    where: str | None,
    include_seen: bool,
    as_json: bool,
) -> None:
    """Write the lists of all queries of a bundle, or of those in a file.

    Args:
        bundle: the directory.
        users: "all", or a Parquet or CSV file with a row per query.
        out: the file to write.
        others: whether the command names single queries, too.
        k: the length of a list.
        where: a condition on the catalogue in SQL.
        include_seen: whether to recommend what a query has already.
        as_json: print JSON instead of a line of text.

    Raises:
        ConfigError: options that do not go together, or the condition is not SQL.
        DataError: the file of queries is not what it must be.
        StorageError: there is no bundle, or a file cannot be written.
        SystemExit: Ctrl-C, with code 130; what was made is kept for the next run of the same command.
    """
    if users is None or out is None or others:
        got = "one without the other" if (users is None) != (out is None) else "--user or --query beside them"
        raise ConfigError("both --users and --out, for many queries", got, "recommend", "see retrank recommend --help")
    try:
        done = recommend_to_file(
            bundle,
            out,
            None if users == "all" else users,
            k,
            exclude_seen=not include_seen,
            where=None if where is None else condition(where, "--where"),
            progress=not as_json,
        )
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to go on from here")
        raise SystemExit(130) from None
    if as_json:
        print_json(asdict(done))
        return
    rate = (done.queries - done.resumed) / done.seconds
    before = f", {done.resumed:,} of them before" if done.resumed else ""
    Console(highlight=False, soft_wrap=True).print(
        f"{done.queries:,} queries{before} in {done.seconds:.1f} seconds ({rate:,.0f} a second): "
        f"{done.out}, {done.bytes / 1_000_000:,.2f} MB",
        markup=False,
    )
