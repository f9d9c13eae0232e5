"""Every kind of feature, value by value: what the runner makes of it is what the feature makes of it."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.export import world

import retrank as rr
from retrank.export.feature_tables import write_features
from retrank.export.runner_features import _TRANSFORMS, Features, Lists, kind_of_value
from retrank.recommender.typed_columns import kind_of_values


@pytest.fixture(scope="module")
def space():
    return world.space_of(*world.tables())


@pytest.fixture(scope="module")
def features(space, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "features"
    write_features(folder, space, space.names)
    return Features(folder)


texts = st.text() | st.lists(
    st.sampled_from([*world.WORDS, "ΣΑΣ", "İ", "ß", "\x1c", "\u200b", "\x85", "_", "~", "\ufb01"])
).map(" ".join)
keys = st.sampled_from([*world.KEYS, "unheard", ""])
numbers = st.floats(-1e6, 1e6) | st.integers(-(2**53), 2**53) | st.booleans()
times = st.datetimes(dt.datetime(1901, 1, 1), dt.datetime(2100, 1, 1))
weighted = st.lists(st.tuples(keys, st.floats(0, 10)), max_size=6)
VALUES = {
    "user": st.sampled_from([*world.KNOWN, "new"]).map(lambda key: [key]),
    "age": numbers.map(lambda number: [number]),
    "income": numbers.map(lambda number: [number]),
    "stars": numbers.map(lambda number: [number]),
    "visits": st.integers(0, 10**12).map(lambda number: [number]),
    "level": st.sampled_from([0.999, 1.0, 2.5, 2.4999999, 1e9]).map(lambda number: [number]),
    "taste": st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3).map(lambda vector: [vector]),
    "bio": texts.map(lambda text: [text]),
    "motto": texts.map(lambda text: [text]),
    "title": texts.map(lambda text: [text]),
    "tags": st.lists(st.sampled_from(["x", " y ", "z\u3000", "", "\x1c", "new"])).map(lambda tags: ["|".join(tags)]),
    "genres": st.lists(st.sampled_from(["rock", "jazz", "new"])).map(lambda genres: [genres]),
    "likes": weighted.map(lambda pairs: [[key for key, _ in pairs], [weight for _, weight in pairs]]),
    "site": st.text().map(lambda key: [key]),
    "device": st.integers(-(2**63), 2**63 - 1).map(lambda key: [key]),
    "hour": times.map(lambda time: [time.replace(tzinfo=dt.UTC)]),
    "weekday": times.map(lambda time: [time.replace(tzinfo=dt.UTC)]),
    "month": times.map(lambda time: [time.date()]),
    "epoch": st.integers(-(10**13), 10**13).map(lambda count: [count]) | st.floats(-1e12, 1e12).map(lambda n: [n]),
    "member": st.booleans().map(lambda flag: [flag]),
    "recent": st.lists(keys, max_size=20).map(lambda found: [found]),
    "seen": st.lists(keys, max_size=20).map(lambda found: [found]),
}


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_a_value_becomes_the_same(name, space, features, data):
    values = data.draw(VALUES[name])
    columns = space.columns([name])
    table = pl.DataFrame([pl.Series(column, [value]) for column, value in zip(columns, values, strict=True)])
    try:
        wanted = space[name].transform_rows(table, name)
    except rr.errors.DataError:
        with pytest.raises(ValueError):
            features.transform(name, values)
        return
    found = features.transform(name, values)
    if isinstance(wanted, torch.Tensor):
        assert isinstance(found, np.ndarray)
        assert torch.equal(torch.from_numpy(found), wanted)
        return
    assert isinstance(found, Lists)
    assert found.ids.dtype == np.int64
    assert found.ids.tolist() == wanted.values.tolist()
    assert (found.weights is None) == (wanted.weights is None)
    if wanted.weights is not None:
        assert found.weights.dtype == np.float32
        np.testing.assert_allclose(found.weights, wanted.weights.numpy(), rtol=1e-6)


def test_all_kinds_are_known_to_the_runner_and_tried_here():
    kinds = {getattr(rr.features, name) for name in rr.features.__all__}
    concrete = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, rr.features.Feature)}
    concrete = {kind for kind in concrete if not kind.__abstractmethods__}
    assert {kind.__name__ for kind in concrete} == set(_TRANSFORMS)
    every = world.QUERY_KINDS | world.CANDIDATE_KINDS
    assert {type(every[name]) for name in VALUES} | {rr.features.Normalized} == concrete


@given(age=st.integers(0, 100), site=st.text())
def test_a_cross_becomes_the_same(space, features, age, site):
    table = pl.DataFrame({"age": [age], "site": [site]})
    parts = {name: features.transform(name, [value]) for name, value in (("age", age), ("site", site))}
    assert features.cross("age_x_site", parts).tolist() == space.transform(table, ["age_x_site"])["age_x_site"].tolist()


scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=2) | times | st.dates()


@given(value=scalars | st.lists(st.integers(-9, 9)) | st.lists(st.text(max_size=2) | st.none()))
def test_values_are_told_apart_as_columns_are(value):
    assert kind_of_value(value) == kind_of_values(pl.Series("column", [value]).dtype)


def test_a_zone_is_told_apart():
    assert kind_of_value(dt.datetime(2024, 1, 1, tzinfo=dt.UTC)) == "datetime with time zone"
