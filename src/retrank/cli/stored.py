"""What commands do with the store of a service: learn from it, and write it as Parquet."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from retrank.cli.output import print_json
from retrank.core.directories import ensure_replaceable
from retrank.core.errors import ConfigError
from retrank.core.extras import optional
from retrank.recommender import Recommender

__all__ = ["export_store", "update_from_store"]


def update_from_store(
    bundle: Path, url: str, *, effects: Mapping[str, str], out: Path, as_json: bool, **how: Any
) -> None:
    """Train a bundle on with what a service has kept since it was made, and save it.

    Args:
        bundle: the directory.
        url: of the store.
        effects: what further types of events do.
        out: where the updated bundle goes.
        as_json: print one JSON object instead of text.
        how: `epochs`, `replay`, `ranking_epochs` and `seed` of the training.

    Raises:
        ConfigError: a bundle that cannot be updated, or no store.
        StoreUnavailableError: the store cannot be read.
        StorageError: there is no bundle, or the new one would replace something that is no bundle.
    """
    ensure_replaceable(out)
    started = time.perf_counter()
    updating, settings = optional("retrank.serving.updating", "serve"), optional("retrank.serving.settings", "serve")
    recommender = Recommender.load(bundle)
    event_types = settings.Settings(event_types={**settings.EVENT_TYPES, **effects}).event_types
    with _existing_store(url) as store:
        made = updating.update_from_store(recommender, store, event_types=event_types, progress=not as_json, **how)
    is_same = made.recommender.card.facts == recommender.card.facts and out.resolve() == bundle.resolve()
    if not is_same:  # else services that watch it would load the same again
        made.recommender.save(out)
    seconds = time.perf_counter() - started
    if as_json:
        done = {"learned": made.num_learned, "kept": made.num_kept, "refused": made.num_refused}
        print_json({"bundle": str(out), "seconds": seconds, "position": made.position, **done})
        return
    console = Console(highlight=False)
    console.print(
        f"{made.num_learned:,} interactions learned, {made.num_kept:,} more kept in the history; {made.num_refused:,} "
        "changes of the store do not fit the bundle"
    )
    if is_same:
        console.print("Nothing is new since the last update: the bundle stays as it is.")
        return
    console.print(f"The bundle is in [bold]{escape(shlex.quote(str(out)))}[/bold]. [dim]{seconds:.0f} seconds[/dim]")


def export_store(url: str, out: Path, *, impressions: bool, after: int, as_json: bool) -> None:
    """Write the events or impressions of a store as a Parquet file.

    Args:
        url: of the store.
        out: the file.
        impressions: whether impressions are written, rather than events.
        after: the last position that is not wanted.
        as_json: print one JSON object instead of text.

    Raises:
        ConfigError: there is no store.
        StorageError: it cannot be read, or the file not be written.
    """
    stores = optional("retrank.serving.stores", "serve")
    with _existing_store(url) as store:
        position = (stores.export_impressions if impressions else stores.export_events)(store, out, after)
    if as_json:
        print_json({"file": str(out), "position": position})
    else:
        what = "impressions" if impressions else "events"
        print(f"{what} up to position {position} are in {out}; the next time, begin with --after {position}")  # noqa: T201


def _existing_store(url: str) -> Any:
    """Open a store that is there: a mistyped path must not become an empty file."""
    scheme, separator, rest = url.partition("://")
    path = Path(url) if not separator else Path(rest[1:]) if scheme == "sqlite" else None
    if path is not None and not path.exists():
        fix = "name the file that `retrank serve` says at its start"
        raise ConfigError("a store of events", "nothing there", str(path), fix)
    return optional("retrank.serving.stores", "serve").open_store(url)
