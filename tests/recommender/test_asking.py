"""What a query brings means what it would mean in training, or it is refused with its column and row."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
import torch
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.recommender.typed_columns import as_trained, kind_of_values

F = rr.features
NOW = datetime(2024, 1, 15, 20, 30)
N = 40
LISTED = ["song", "rank", "score", "stage"]

BASE = {
    "user": [f"u{i % 10}" for i in range(N)],
    "song": [f"s{i * 7 % 20}" for i in range(N)],
    "age": [float(i % 50) for i in range(N)],
    "visits": list(range(N)),
    "text": [f"word{i % 5} other" for i in range(N)],
    "flag": [i % 2 == 0 for i in range(N)],
    "seconds": [1_700_000_000 + i * 1000 for i in range(N)],
    "at": [NOW + timedelta(hours=i) for i in range(N)],
    "zoned": [(NOW + timedelta(hours=i)).replace(tzinfo=UTC) for i in range(N)],
    "day": [date(2024, 1, 1) + timedelta(days=i) for i in range(N)],
    "tags": [[f"t{i % 4}"] for i in range(N)],
}
KINDS = {
    "age": F.Normalized(),
    "visits": F.Log(),
    "text": F.Text(),
    "flag": F.Categorical(),
    "seconds": F.Normalized(),
    "at": F.TimestampPart("hour"),
    "zoned": F.TimestampPart("hour"),
    "day": F.TimestampPart("weekday"),
    "tags": F.CategoricalList(),
}
TABLE = pl.DataFrame(BASE).with_columns(pl.col("zoned").dt.convert_time_zone("Europe/Berlin"))


def serve(columns, table=TABLE, kinds=None, time="seconds", **arguments):
    kinds = kinds or {name: KINDS[name] for name in columns}
    space = rr.FeatureSpace({"user": F.Categorical(), "song": F.Categorical(), **kinds}).fit(table)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", *kinds], layers=[8]), rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    songs = table.select("song").unique(maintain_order=True)
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table, time=time, **arguments)


@pytest.fixture(scope="module")
def recommender():
    return serve(list(KINDS))


def scores(recommender, **brought):
    return recommender.recommend({"user": "u3", **brought}, k=5, exclude_seen=False).select("song", "score").rows()


SAME = [
    ("age", 30, [30.0, np.float32(30), np.int8(30), True and 30]),
    ("visits", 30, [30.0, np.int64(30), np.float64(30)]),
    ("text", "word1 other", [np.str_("word1 other")]),
    ("flag", True, [np.bool_(True)]),
    ("at", NOW, [np.datetime64("2024-01-15T20:30:00", "us"), np.datetime64("2024-01-15T20:30:00", "ms")]),
    ("zoned", NOW.replace(tzinfo=UTC), [NOW.replace(hour=22, tzinfo=timezone(timedelta(hours=2)))]),
    ("day", date(2024, 1, 15), [np.datetime64("2024-01-15", "D")]),
    ("tags", ["t1", "t2"], [("t1", "t2"), np.array(["t1", "t2"]), pl.Series(["t1", "t2"])]),
]


@pytest.mark.parametrize(("column", "value", "others"), SAME, ids=[case[0] for case in SAME])
def test_one_value_in_many_types_is_one_value(recommender, column, value, others):
    expected = scores(recommender, **{column: value})
    for other in others:
        assert scores(recommender, **{column: other}) == expected
    dtype = {"dtype": TABLE.schema[column]} if column != "day" else {}
    many = pl.DataFrame({"user": ["u3"], column: pl.Series([value], **dtype)})
    lists = recommender.recommend_many(many, k=5, exclude_seen=False)
    assert lists.select("song", "score").rows() == expected


REFUSED = {
    "age": ["30", True, NOW, date(2024, 1, 1), timedelta(days=1), [30.0], b"30", {"a": 1}, ..., 1j],
    "visits": ["30", False, NOW, -1],
    "text": [1, 2.5, True, NOW, ["word1"]],
    "flag": ["yes", 1, 0.0, NOW],
    "seconds": [NOW, NOW.replace(tzinfo=UTC), date(2024, 1, 15), "2024-01-15"],
    "at": [NOW.replace(tzinfo=UTC), 1_700_000_000, date(2024, 1, 15), "2024-01-15T20:30:00", True],
    "zoned": [NOW, 1_700_000_000, date(2024, 1, 15)],
    "day": [NOW, 19_737, "2024-01-15"],
    "tags": ["t1", [1], [True], [["t1"]], 3, ["t1", 1], ["t1", None]],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column, values in REFUSED.items() for value in values], ids=str
)
def test_values_of_another_kind_are_refused_with_the_column(recommender, column, value):
    with pytest.raises(DataError, match=f"'{column}'"):
        recommender.recommend({"user": "u3", column: value})


@pytest.mark.parametrize("bad", [pl.Series([1, 2]), pl.Series([True, False]), pl.Series([NOW, NOW])], ids=str)
def test_columns_of_another_kind_are_refused_in_bulk(recommender, bad):
    with pytest.raises(DataError, match="'text'"):
        recommender.recommend_many(pl.DataFrame({"user": ["u1", "u2"], "text": bad}))


def test_the_row_of_a_bad_value_is_the_callers_row():
    served = serve(["visits", "age"])
    for size, bad in ((200, 100), (3000, 2999), (2500, 1024), (1, 0)):
        visits = [5.0] * bad + [-1.0] + [5.0] * (size - bad - 1)
        asked = pl.DataFrame({"user": [f"u{i % 13}" for i in range(size)], "visits": visits})
        with pytest.raises(DataError, match=rf"'visits' of queries, row {bad}\b.*-1"):
            served.recommend_many(asked, k=1)
    asked = pl.DataFrame({"user": ["u1"] * 9, "visits": [None, None, 3.0, None, -2.0, 1.0, -5.0, None, 1.0]})
    with pytest.raises(DataError, match=r"row 4\b.*-2"):
        served.recommend_many(asked, k=1)
    requests = [rr.recommender.Request({"user": "u1", "visits": visits}) for visits in (1, 2, -3)]
    with pytest.raises(DataError, match="row 2"):
        served.recommend_many(requests)


def test_missing_is_what_is_known_then_what_fills_and_then_popular():
    known = TABLE.with_columns(age=pl.when(pl.col("user") == "u4").then(float("nan")).otherwise("age"))
    filled = serve([], known, {"age": F.Normalized(fill=7.0)})
    strict = serve([], known.filter(pl.col("user") != "u4"), {"age": F.Normalized()}, queries=known)
    for served in (filled, strict):
        usual = served.recommend({"user": "u3"})
        for missing in (None, float("nan"), np.float32("nan")):
            assert served.recommend({"user": "u3", "age": missing}).equals(usual)
        table = pl.DataFrame({"user": ["u3", "u3"], "age": [float("nan"), None]})
        assert same_lists(served.recommend_many(table).drop("user"), pl.concat([usual, usual]).select(LISTED))
        assert set(served.recommend({"user": "u4", "age": 3.0})["stage"]) == {"retrieval"}
    assert filled.recommend({"user": "u4"}).equals(filled.recommend({"user": "u4", "age": 7.0}))
    assert set(strict.recommend({"user": "u4"})["stage"]) == {"popularity"}
    assert set(filled.recommend({"user": "new", "age": None})["stage"]) == {"popularity"}


def test_one_and_many_agree_whatever_they_bring(recommender):
    asked = TABLE.sample(fraction=1.0, shuffle=True, seed=3).head(30).drop("song")
    asked = asked.with_columns(user=pl.when(pl.arange(0, 30) % 3 == 0).then(pl.lit("new")).otherwise("user"))
    asked = asked.with_columns(
        pl.when(pl.arange(0, 30) % (place + 2) > 0).then(name).otherwise(None).alias(name)
        for place, name in enumerate(asked.columns)
        if name != "user"
    )
    many = recommender.recommend_many(asked, k=4)
    requests = [rr.recommender.Request(row, k=4) for row in asked.to_dicts()]
    assert recommender.recommend_many(requests).equals(many)
    single = [recommender.recommend(row, k=4).select(LISTED) for row in asked.to_dicts()]
    assert same_lists(pl.concat(single), many.drop("user"))


@pytest.mark.parametrize("name", ["row", "row number", "is known", "usable", "query", "key", "index", "literal"])
def test_any_name_of_a_key_column_works(name):
    table = TABLE.select(pl.col("user").alias(name), "song", "seconds")
    space = rr.FeatureSpace({"u": F.Categorical(column=name), "song": F.Categorical()}).fit(table)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["u"], schema["song"], rr.tasks.Retrieval(), dim=4)
    served = rr.Recommender(retrieval=model, space=space, catalogue=table.select("song").unique(), history=table)
    lists = served.recommend_many(pl.DataFrame({name: ["u1", "nobody"]}), k=2)
    assert lists.columns == [name, "song", "rank", "score", "stage"]
    assert served.recommend({name: "u1"}, k=2).columns == ["rank", "song", "score", "stage"]


@pytest.mark.parametrize("name", ["rank", "score", "stage", "song"])
def test_names_that_lists_have_are_refused_once_where_they_enter(name):
    table = (
        TABLE.select(pl.col("user").alias(name)) if name == "song" else TABLE.select(pl.col("user").alias(name), "song")
    )
    kinds = {"u": F.Categorical(column=name), "item": F.Categorical(column="song")}
    space = rr.FeatureSpace(kinds).fit(table)
    model = rr.models.MatrixFactorization(space.schema["u"], space.schema["item"], rr.tasks.Retrieval(), dim=4)
    songs = table.select("song").unique()
    with pytest.raises(DataError, match=f"'{name}'"):
        rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table)


def test_keys_of_integers_take_every_width_and_no_flags():
    table = TABLE.with_columns(pl.col("visits").alias("user") % 10)
    served = serve([], table, {"age": F.Normalized()})
    expected = served.recommend({"user": 3}).drop("rank")
    for key in (np.int8(3), np.uint64(3)):
        assert served.recommend({"user": key}).drop("rank").equals(expected)
    for dtype in (pl.Int8, pl.UInt64, pl.Int64):
        lists = served.recommend_many(pl.DataFrame({"user": pl.Series([3], dtype=dtype)}))
        assert lists["score"].to_list() == expected["score"].to_list()
    for key in (True, 3.0, "3", None, [3], 2**70):
        with pytest.raises(DataError, match="user"):
            served.recommend({"user": key})


def test_kinds_of_values_have_names():
    assert kind_of_values(pl.List(pl.Datetime("us", "UTC"))) == "list of datetime with time zone"
    assert kind_of_values(pl.Duration()).startswith("duration")
    assert kind_of_values(pl.Null()) == "nothing"


def test_queries_that_lack_their_key_are_refused(recommender):
    with pytest.raises(DataError, match="'user'"):
        recommender.recommend({"age": 3})
    with pytest.raises(DataError, match="'user'"):
        recommender.recommend_many(pl.DataFrame({"usr": ["a"]}))
    with pytest.raises(DataError, match="row 1"):
        recommender.recommend_many(pl.DataFrame({"user": ["a", None]}))
    with pytest.raises(DataError, match="request 1"):
        recommender.recommend_many([rr.recommender.Request({"user": "u1"}), rr.recommender.Request({"age": 1.0})])
    with pytest.raises(DataError, match="Request"):
        recommender.recommend_many([{"user": "u1"}])


def test_a_history_without_times_that_feeds_a_feature_of_recent_candidates_is_refused():
    table = rr.data.with_recent_candidates(TABLE, query="user", candidate="song", time="seconds", length=3)
    kinds = {"recent": F.Recent("song")}
    with pytest.raises(ConfigError, match="time="):
        serve([], table.drop("at", "zoned", "day", "seconds"), kinds, time=None)


def test_nothing_but_nulls_may_have_any_type():
    for dtype in (pl.String(), pl.Null(), pl.List(pl.Int64()), pl.Datetime("us")):
        column = as_trained(pl.Series("age", [None, None], dtype=dtype), pl.Float64())
        assert (column.name, column.dtype, column.to_list()) == ("age", pl.Float64(), [None, None])
    with pytest.raises(rr.errors.DataError, match="number values"):
        as_trained(pl.Series("age", [None, "a"]), pl.Float64())
