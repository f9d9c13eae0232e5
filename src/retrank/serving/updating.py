"""`update_from_store`: a recommender learns from what a service has kept since the recommender was made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import polars as pl

from retrank.core.errors import DataError
from retrank.data.keys import KeyType, as_key, as_keys
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.recommender.update import update
from retrank.serving.bundles import EVENTS_FACT, position_of
from retrank.serving.event_times import HistoryClock
from retrank.serving.live import Live
from retrank.serving.settings import Effect
from retrank.serving.stores.records import Change, Document, Event
from retrank.serving.stores.store import Store

__all__ = ["StoreUpdate", "update_from_store", "with_learned_position"]

_PAGE: Final = 10_000
_ALL: Final = 2**63 - 1  # a position after all others


@final
@dataclass(frozen=True)
class StoreUpdate:
    """A recommender that has learned from a store, and what that was.

    Args:
        recommender: its card says, as `facts["events"]`, up to which position of which store it has learned; a service
            that loads it brings in what came after, and nothing twice.
        position: this position.
        num_learned: interactions that it was trained with.
        num_kept: interactions that only joined the history: with candidates that are not in the catalogue, and of
            queries without a feature that the models need.
        num_refused: changes of the store that do not fit the bundle.
    """

    recommender: Recommender
    position: int
    num_learned: int
    num_kept: int
    num_refused: int


def update_from_store(
    recommender: Recommender,
    store: Store,
    *,
    event_types: Mapping[str, Effect],
    epochs: int = 2,
    replay: float = 0.5,
    ranking_epochs: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> StoreUpdate:
    """Train a recommender on with the interactions of a store that it does not know yet.

    New and changed candidates, and the features of queries, come from the documents of the store. What queries have
    hidden is no part of a recommender: services read it from the store at every start.

    Args:
        recommender: of the bundle that was served; it does not change.
        store: of the service. It may go on writing: what comes from now on is for the next update.
        event_types: the types of events, and what each does, as the service has them.
        epochs: passes over new and replayed interactions.
        replay: how many old interactions are learned from again, for each new one.
        ranking_epochs: passes of the ranking model over lists for the new interactions.
        seed: of everything that is drawn.
        progress: whether to report progress on standard error.

    Returns:
        Another recommender, and what it has learned from.

    Raises:
        ConfigError: a recommender that cannot be updated.
        StoreUnavailableError: the store cannot be read.

    Example:
        >>> import tempfile, polars as pl, retrank as rr
        >>> from retrank.serving.settings import EVENT_TYPES
        >>> from retrank.serving.stores import Event, open_store
        >>> from retrank.serving.updating import update_from_store
        >>> plays = pl.DataFrame({"user": list("aabb"), "song": list("xyyz")})
        >>> recommender = rr.Recommender(rr.baselines.ItemKNN().fit(plays, query="user", candidate="song"),
        ...     catalogue=plays.select("song").unique(), history=plays)
        >>> with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/events.db") as store:
        ...     _ = store.append_events([Event("e1", query="c", candidate="x", type="click", time=0)])
        ...     updated = update_from_store(recommender, store, event_types=EVENT_TYPES)
        >>> updated.num_learned, updated.recommender.recommend("c", k=1)["song"].to_list()
        (1, ['y'])
    """
    after, position = position_of(recommender.card.facts.get(EVENTS_FACT), store), store.position()
    live = Live(recommender, version="", event_types=event_types, after=_ALL)
    live.follow(store)  # documents alone, as no event comes after all others
    before, num_refused = live.recommender, live.num_refused
    described, events = dict[Key, None](), list[Event]()
    for change in _changes(store, position):
        item = change.item
        if isinstance(item, Document):
            if item.kind == "query" and item.content is not None and _fits(item.key, before.queries.key_type):
                described[item.key] = None
        elif change.position > after and event_types.get(item.type) == "interaction":
            if _fits(item.query, before.queries.key_type) and _fits(item.candidate, before.catalogue.key_type):
                events.append(item)
            else:
                num_refused += 1
    table = _interactions(events, before)
    queries = _queries(dict.fromkeys([*described, *(event.query for event in events)]), live)
    is_learned = _is_learnable(table, queries, before)
    learned, kept = table.filter(is_learned), table.filter(~is_learned)
    if before.queries.reads_histories and not _has_past(learned, before):
        learned, kept = learned.clear(), table
    made = before
    if len(learned):
        made = update(
            before, learned, None, queries, epochs=epochs, replay=replay, ranking_epochs=ranking_epochs, seed=seed,
            progress=progress,
        )  # fmt: skip
    if len(kept):
        made = made.with_events(kept)
    made = with_learned_position(made, store, position)
    return StoreUpdate(made, position, len(learned), len(kept), num_refused)


def with_learned_position(recommender: Recommender, store: Store, position: int) -> Recommender:
    """Write on a card up to where a recommender has learned from a store, e.g. one trained anew on exported events.

    Args:
        recommender: whose history has these events.
        store: that it will be served with.
        position: which `export_events` has returned; a service brings in what came after.

    Returns:
        The same recommender with another card.
    """
    facts = {**recommender.card.facts, EVENTS_FACT: {"store": store.identity(), "position": position}}
    return recommender.with_card(replace(recommender.card, facts=facts))


def _changes(store: Store, until: int) -> Iterator[Change]:
    """Yield what a store has, up to a position."""
    after = 0
    while after < until and (page := store.changes(after, _PAGE)):
        yield from (change for change in page if change.position <= until)
        after = page[-1].position


def _fits(key: Key, expected: KeyType) -> bool:
    """Tell whether a key is of the type of the bundle's."""
    try:
        as_key(key, expected, "key")
    except DataError:
        return False
    return True


def _interactions(events: Sequence[Event], recommender: Recommender) -> pl.DataFrame:
    """Return events as rows of a history."""
    log = recommender.history.events
    types = {log.query: log.query_type, log.candidate: log.candidate_type}
    keys = [[event.query for event in events], [event.candidate for event in events]]
    columns = [
        as_keys(pl.Series(name, of_events), kind, "error") if of_events else log.table()[name].clear()
        for (name, kind), of_events in zip(types.items(), keys, strict=True)
    ]
    times = HistoryClock(log).column([event.time for event in events])
    return pl.DataFrame(columns if times is None else [*columns, times])


def _queries(keys: Iterable[Key], live: Live) -> pl.DataFrame | None:
    """Return the feature columns of queries as bundle and store know them; None where nothing reads any."""
    recommender = live.recommender
    if recommender.baseline is not None:
        return None
    stored, index = recommender.queries.stored_table, recommender.queries.index
    rows = []
    for key in keys:
        place = index.place(key)
        rows.append({**(stored.row(place, named=True) if place >= 0 else {}), **live.query(key, {})})
    return pl.DataFrame(
        [pl.Series(name, [row.get(name) for row in rows], dtype=dtype) for name, dtype in stored.schema.items()]
    )


def _is_learnable(table: pl.DataFrame, queries: pl.DataFrame | None, recommender: Recommender) -> pl.Series:
    """Tell for each interaction whether models can learn from it."""
    candidates = recommender.candidates[recommender.candidate]
    is_learnable = table[recommender.candidate].is_in(candidates.implode())
    if queries is None:
        return is_learnable
    layout = recommender.space.layout
    needed = {layout.column(name) for name, kind in layout.features.items() if not kind.accepts_nulls}
    names = [name for name in queries.columns if name in needed and name != recommender.query]
    whole = queries.drop_nulls(names) if names else queries
    return is_learnable & table[recommender.query].is_in(whole[recommender.query].implode())


def _has_past(table: pl.DataFrame, recommender: Recommender) -> bool:
    """Tell whether a query had done anything before one of these interactions."""
    log = recommender.history.events
    if log.time is None:
        return True
    names = [log.query, log.time]
    events = pl.concat([log.table().select(names), table.select(names)])
    first = events.group_by(log.query).agg(pl.col(log.time).min().alias("first"))
    joined = table.select(names).join(first, on=log.query)
    return bool((joined[log.time] > joined["first"]).any())
