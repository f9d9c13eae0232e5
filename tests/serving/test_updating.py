"""A bundle that learns from a store: everything once, and nothing lost on the way back into the service."""

import json

import msgspec
import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr
from retrank.serving import Settings
from retrank.serving.bundles import EVENTS_FACT, load_live
from retrank.serving.settings import EVENT_TYPES
from retrank.serving.stores import Document, Event, export_events, open_store
from retrank.serving.updating import update_from_store, with_learned_position

NAMES = {"query": "user", "candidate": "song", "time": "time"}
START = 1_700_000_000
PLAYS = pl.DataFrame(
    {
        "user": [f"u{n % 7}" for n in range(60)],
        "song": [f"s{n * 7 % 12:02}" for n in range(60)],
        "time": range(START, START + 60),
    }
)
SONGS = pl.DataFrame({"song": [f"s{n:02}" for n in range(12)], "year": [1990 + n for n in range(12)]})
PEOPLE = pl.DataFrame({"user": [f"u{n}" for n in range(7)], "age": [20.0 + n for n in range(7)]})


def models(**age):
    F = rr.features
    past = rr.data.with_recent_candidates(PLAYS, length=4, **NAMES).join(PEOPLE, on="user").join(SONGS, on="song")
    kinds = {"user": F.Categorical(), "age": F.Normalized(**age), "song": F.Categorical(), "year": F.Normalized()}
    space = rr.FeatureSpace({**kinds, "recent": F.Recent("song")}).fit(past)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age", "recent"], layers=[8]),
        rr.models.Tower(space, ["song", "year"], layers=[8]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    return rr.Recommender(retrieval=model, space=space, catalogue=SONGS, history=PLAYS, queries=PEOPLE, progress=False)


def baseline(time="time"):
    plays = PLAYS if time else PLAYS.drop("time")
    fitted = rr.baselines.ItemKNN().fit(plays, query="user", candidate="song", time=time)
    return rr.Recommender(fitted, catalogue=SONGS, history=plays, time=time)


KINDS = {"models": lambda: models(fill=30.0), "baseline": baseline}


@pytest.fixture(params=list(KINDS))
def recommender(request):
    return KINDS[request.param]()


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "events.sqlite") as store:
        yield store


def event(number, user, song, kind="click"):
    return Event(f"e{number}", user, song, kind, (START + 1000 + number) * 1_000_000)


def updated(recommender, store, **others):
    return update_from_store(recommender, store, event_types=EVENT_TYPES, **others)


def served(recommender, store, folder):
    recommender.save(folder / "bundle")
    return load_live(folder / "bundle", store, Settings())


def history(recommender):
    return recommender.history.events.table().sort(pl.all())


def test_everything_counts_once(recommender, store, tmp_path):
    store.append_events([event(1, "u1", "s03"), event(2, "newcomer", "s04"), event(3, "u1", "s05", "skip")])
    made = updated(recommender, store)
    assert (made.num_learned, made.num_kept, made.num_refused, made.position) == (2, 0, 0, 3)
    assert made.recommender.card.facts[EVENTS_FACT] == {"store": store.identity(), "position": 3}
    assert len(history(made.recommender)) == 62
    store.append_events([event(4, "u2", "s06")])  # while the training ran
    live = served(made.recommender, store, tmp_path)
    assert live.position == 4
    assert history(live.recommender).equals(
        history(recommender.with_events(_rows([(1, "u1", "s03"), (2, "newcomer", "s04"), (4, "u2", "s06")])))
    )
    again = updated(made.recommender, store)
    assert (again.num_learned, again.position) == (1, 4)
    assert history(again.recommender).equals(history(live.recommender))
    nothing = updated(again.recommender, store)
    assert (nothing.num_learned, nothing.num_kept) == (0, 0)
    assert history(nothing.recommender).equals(history(live.recommender))


def _rows(events):
    rows = [(user, song, START + 1000 + number) for number, user, song in events]
    return pl.DataFrame(rows, schema=PLAYS.schema, orient="row")


def test_a_new_item_and_a_new_user_with_features(store, tmp_path):
    recommender = models()
    store.put([
        Document("candidate", "s99", msgspec.json.encode({"features": {"year": 2025}, "available": True})),
        Document("candidate", "s01", msgspec.json.encode({"features": {"year": 1950}, "available": False})),
        Document("query", "newcomer", b'{"age": 33.0}'),
        Document("query", "u3", b'{"age": 77.0}'),
    ])  # fmt: skip
    store.append_events([event(n, "newcomer", "s99") for n in range(3)] + [event(5, "u3", "s02")])
    made = updated(recommender, store).recommender
    assert made.space.schema["user"].num_ids == recommender.space.schema["user"].num_ids + 1
    assert made.space.schema["song"].num_ids == recommender.space.schema["song"].num_ids + 1
    years = dict(made.candidates.select("song", "year").iter_rows())
    assert (years["s99"], years["s01"]) == (2025, 1950)
    ages = dict(made.queries.table.select("user", "age").iter_rows())
    assert (ages["newcomer"], ages["u3"], ages["u1"]) == (33.0, 77.0, 21.0)
    assert not made.is_available("s01")
    live = served(made, store, tmp_path)
    assert "s01" not in live.recommender.recommend("u2", k=50)["song"]
    assert live.recommender.recommend("newcomer", k=50)["stage"][0] == "retrieval"
    assert live.num_refused == 0


def test_a_new_user_without_a_feature_that_is_needed_is_kept_in_the_history(store):
    recommender = models()  # of an age that may not be missing
    store.append_events([event(1, "newcomer", "s04"), event(2, "u1", "s03")])
    made = updated(recommender, store)
    assert (made.num_learned, made.num_kept) == (1, 1)
    assert len(history(made.recommender)) == 62
    filled = updated(models(fill=30.0), store)
    assert (filled.num_learned, filled.num_kept) == (2, 0)


def test_what_cannot_be_learned_from_is_not_lost(recommender, store):
    store.append_events([event(1, "u1", "nowhere"), event(2, "u1", 7), event(3, 8, "s03"), event(4, "u2", "s03")])
    made = updated(recommender, store)
    assert (made.num_learned, made.num_kept, made.num_refused) == (1, 1, 2)
    assert ("u1", "nowhere") in history(made.recommender).select("user", "song").rows()


def test_first_events_of_strangers_alone_train_nothing(store):
    store.append_events([event(1, "newcomer", "s04")])
    made = updated(models(fill=30.0), store, replay=0)
    assert (made.num_learned, made.num_kept) == (0, 1)


def test_without_times_nothing_counts_twice(store, tmp_path):
    recommender = baseline(time=None)
    store.append_events([event(1, "u1", "s03"), event(2, "u1", "s04")])
    made = updated(recommender, store).recommender
    assert len(history(made)) == 62
    assert len(history(served(made, store, tmp_path).recommender)) == 62
    assert len(history(updated(made, store).recommender)) == 62


def test_what_was_hidden_stays_hidden(recommender, store, tmp_path):
    store.append_events([event(1, "u1", "s03", "hide"), event(2, "u1", "s04"), event(3, "u2", "s05", "hide")])
    store.append_events([event(4, "u2", "s05", "unhide")])
    made = updated(recommender, store).recommender
    live = served(made, store, tmp_path)
    assert (live.hidden("u1"), live.hidden("u2")) == (("s03",), ())
    assert len(history(live.recommender)) == 61


def test_positions_of_another_store_mean_nothing(recommender, store, tmp_path):
    store.append_events([event(1, "u1", "s03")])
    made = updated(recommender, store).recommender
    with open_store(tmp_path / "other.sqlite") as other:
        other.append_events([event(2, "u2", "s05")])
        again = updated(made, other)
        assert again.num_learned == 1
        assert again.recommender.card.facts[EVENTS_FACT]["store"] == other.identity()


def test_a_bundle_that_was_trained_anew_on_exported_events(recommender, store, tmp_path):
    store.append_events([event(1, "u1", "s03")])
    position = export_events(store, tmp_path / "events.parquet")
    store.append_events([event(2, "u2", "s04")])
    anew = recommender.with_events(_rows([(1, "u1", "s03")]))
    live = served(with_learned_position(anew, store, position), store, tmp_path)
    assert history(live.recommender).equals(history(anew.with_events(_rows([(2, "u2", "s04")]))))


def test_the_command(tmp_path, store):
    baseline().save(tmp_path / "bundle")
    store.append_events([event(1, "u1", "s03"), event(2, "u5", "s04", "share")])
    place = tmp_path / "events.sqlite"
    result = retrank(
        "update", tmp_path / "bundle", "--store", place, "--event-type", "share=interaction", "--out",
        tmp_path / "next", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["learned"], said["kept"], said["refused"], said["position"]) == (2, 0, 0, 2)
    assert len(history(rr.Recommender.load(tmp_path / "next"))) == 62
    result = retrank("update", tmp_path / "bundle", "--store", f"sqlite:///{place}")
    assert "1 interactions learned" in result.stdout
    manifest = (tmp_path / "bundle" / "manifest.json").stat()
    result = retrank("update", tmp_path / "bundle", "--store", place)
    assert "stays as it is" in result.stdout
    assert (tmp_path / "bundle" / "manifest.json").stat() == manifest  # nobody who watches it loads it again
    for wrong in (
        [], ["--store", place, "--interactions", "x"], ["--store", place, "--queries", "x"],
        ["--interactions", "x", "--event-type", "a=hide"], ["--store", tmp_path / "nothing"],
        ["--store", place, "--event-type", "a=b"],
    ):  # fmt: skip
        assert retrank("update", tmp_path / "bundle", *wrong).returncode == 2, wrong
    assert not (tmp_path / "nothing").exists()


def test_events_are_written_as_a_file(tmp_path, store):
    store.append_events([event(n, "u1", "s03") for n in range(3)])
    result = retrank("events", tmp_path / "events.sqlite", "--out", tmp_path / "events.parquet", "--after", 1)
    assert result.returncode == 0, result.stderr
    assert "--after 3" in result.stdout
    assert pl.read_parquet(tmp_path / "events.parquet")["id"].to_list() == ["e1", "e2"]
    result = retrank(
        "events", tmp_path / "events.sqlite", "--impressions", "--out", tmp_path / "shown.parquet", "--json"
    )
    assert json.loads(result.stdout) == {"file": str(tmp_path / "shown.parquet"), "position": 0}
    assert retrank("events", tmp_path / "none", "--out", tmp_path / "x.parquet").returncode == 2
