import datetime as dt

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.serving.stores.values import event, impression

import retrank as rr
from retrank.core.errors import DataError, StorageError, StoreUnavailableError
from retrank.serving.stores import (
    Document,
    Event,
    Impression,
    export_events,
    export_impressions,
    open_store,
    read_events,
    tables,
)

TIME = pl.Datetime("us", "UTC")


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "events.db") as store:
        yield store


@pytest.fixture(params=[1, 2, 3, 10_000])
def page(request, monkeypatch):
    monkeypatch.setattr(tables, "_PAGE", request.param)


def test_events_are_a_table(store, page, tmp_path):
    store.append_events([Event("a", 7, "x", "like", 1_700_000_000_000_001, 2.5, "l")])
    store.put([Document("query", 7, b"{}"), Document("candidate", "x", b"{}")])
    store.append_events([event("b", 8, "y"), event("c", 9, "z", time=-1)])
    store.put([Document("query", 7, b"{}")])
    expected = pl.DataFrame(
        {
            "position": [1, 4, 5],
            "id": ["a", "b", "c"],
            "query": [7, 8, 9],
            "candidate": ["x", "y", "z"],
            "type": ["like", "click", "click"],
            "time": pl.Series([1_700_000_000_000_001, 0, -1]).cast(TIME),
            "value": [2.5, None, None],
            "list_id": ["l", None, None],
        }
    )
    assert expected["time"][1] == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    file = tmp_path / "out" / "events.parquet"
    assert export_events(store, file) == store.position() == 6
    assert_frame_equal(pl.read_parquet(file), expected)
    assert_frame_equal(read_events(store), expected)
    assert_frame_equal(read_events(store, after=4), expected[2:])
    assert export_events(store, file, after=6) == 6
    assert pl.read_parquet(file).is_empty()
    assert list(file.parent.iterdir()) == [file], "nothing is left beside it"


@pytest.mark.parametrize(
    ("keys", "dtype"), [(["a", "é"], pl.String), ([1, -(2**63)], pl.Int64), ([True, False], pl.Boolean)]
)
def test_keys_are_a_column_of_their_type(store, page, tmp_path, keys, dtype):
    store.append_events([event(n, key, key) for n, key in enumerate(keys)])
    store.log_impressions([impression(0, None, []), impression(1, None, keys), impression(2, keys[0], [])])
    export_events(store, tmp_path / "e.parquet")
    export_impressions(store, tmp_path / "i.parquet")
    events, shown = pl.read_parquet(tmp_path / "e.parquet"), pl.read_parquet(tmp_path / "i.parquet")
    assert events["query"].to_list() == events["candidate"].to_list() == keys
    assert events.schema["query"] == events.schema["candidate"] == shown.schema["query"] == dtype
    assert shown.schema["keys"] == pl.List(dtype)
    assert shown["keys"].to_list() == [[], keys, []]
    assert shown["query"].to_list() == [None, None, keys[0]]


def test_keys_of_several_types_are_refused_by_position(store, page, tmp_path):
    file = tmp_path / "e.parquet"
    file.write_bytes(b"old")
    store.append_events([event(1, 1), event(2, 2), event(3, True)])
    with pytest.raises(DataError, match=r"column 'query', position 3 .*True, of type bool"):
        export_events(store, file)
    store.log_impressions([impression(1, keys=["a", "b"]), impression(2, keys=["a", 7])])
    with pytest.raises(DataError, match=r"column 'keys', position 2 .*7, of type int"):
        export_impressions(store, file)
    assert file.read_bytes() == b"old"
    assert {p.name for p in tmp_path.iterdir()} == {"e.parquet", "events.db", "events.db-wal", "events.db-shm"}


def test_impressions_are_a_table(store, page, tmp_path):
    shown = [Impression(f"l{n}", n, n, ("a", "b"), (0.1, float("-inf")), (0.5, 1.0), "v") for n in range(7)]
    store.log_impressions(shown)
    file = tmp_path / "i.parquet"
    assert export_impressions(store, file) == 7
    frame = pl.read_parquet(file)
    assert frame.schema["time"] == TIME
    assert frame["position"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    rows = frame.with_columns(pl.col("time").to_physical()).drop("position").rows()
    assert rows == [
        (i.list_id, i.query, i.time, list(i.keys), list(i.scores), list(i.probabilities), i.bundle) for i in shown
    ]
    assert export_impressions(store, file, after=5) == 7
    assert pl.read_parquet(file)["position"].to_list() == [6, 7]
    assert frame.explode("keys", "scores", "probabilities").height == 14


def test_an_empty_store_is_an_empty_table(store, tmp_path):
    assert export_events(store, tmp_path / "e.parquet") == 0
    assert export_impressions(store, tmp_path / "i.parquet") == 0
    assert pl.read_parquet(tmp_path / "e.parquet").columns == read_events(store).columns
    assert read_events(store).is_empty()
    assert pl.read_parquet(tmp_path / "i.parquet").is_empty()


def test_a_file_that_cannot_be_written_is_an_error_of_ours(store, tmp_path):
    store.append_events([event(1)])
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="folder"):
        export_events(store, tmp_path / "folder")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        export_events(store, tmp_path / "file" / "e.parquet")
    store.close()
    with pytest.raises(StoreUnavailableError):
        export_events(store, tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()


def test_who_writes_meanwhile_does_not_keep_an_export_from_its_end(store, monkeypatch):
    monkeypatch.setattr(tables, "_PAGE", 2)
    store.append_events([event(n) for n in range(5)])
    pages = iter(tables.EventPages(store, 0))
    found = []
    for number, frame in enumerate(pages):
        found += frame["id"].to_list()
        store.append_events([event(f"more-{number}-{n}") for n in range(10)])
        assert number < 5
    assert found[:5] == list("01234")
    assert len(found) <= 6


def test_a_recommender_learns_from_the_events_of_a_store(store):
    plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
    plays = plays.with_columns(time=pl.Series(range(6)).cast(TIME))
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    songs = plays.select("song").unique(maintain_order=True)
    recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays, time="time")
    store.append_events([event(1, "d", "x", type="play", time=10), event(2, "d", "w", type="play", time=11)])
    store.append_events([event(3, "d", "z", type="hide", time=12)])
    events = read_events(store).filter(type="play").select(user="query", song="candidate", time="time")
    updated = rr.update(recommender, events, new_candidates=pl.DataFrame({"song": ["w"]}), epochs=1)
    history = updated.history.events.table()
    assert history.filter(user="d").sort("time")["song"].to_list() == ["x", "w"]
    assert updated.recommend("d", k=4)["song"].to_list() in (["y", "z"], ["z", "y"])
