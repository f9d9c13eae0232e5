"""Labels that some rows do not have, from a table to the loss of one task of several."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

F = rr.features
NUMBERS = st.one_of(st.none(), st.just(math.nan), st.floats(-1e6, 1e6, width=32))


def label(values, dtype=pl.Float64, **options):
    table = pl.DataFrame({"buy": pl.Series(values, dtype=dtype, strict=False)})
    return rr.FeatureSpace({"buy": F.Passthrough(nulls="unknown", **options)}).fit(table).transform(table)["buy"]


@given(values=st.lists(NUMBERS, min_size=1, max_size=20))
def test_what_is_unknown_is_nan_and_the_rest_stays(values):
    got = label(values).numpy()
    known = np.array([value is not None and not math.isnan(value) for value in values])
    assert np.array_equal(np.isnan(got), ~known)
    assert got[known].tolist() == [value for value, is_known in zip(values, known, strict=True) if is_known]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Boolean, pl.Float32, pl.Null])
def test_any_type_of_numbers(dtype):
    values = [None, None, None] if dtype == pl.Null else [1, None, 0]
    assert label(values, dtype).nan_to_num(-1).tolist() == ([-1.0] * 3 if dtype == pl.Null else [1.0, -1.0, 0.0])


def test_vectors_may_have_gaps_but_not_be_missing():
    assert label([[1.0, None], [2.0, 3.0]], pl.List(pl.Float64)).nan_to_num(-1).tolist() == [[1.0, -1.0], [2.0, 3.0]]
    with pytest.raises(rr.errors.DataError, match="row 1.*null"):
        label([[1.0, None], None], pl.List(pl.Float64))


def test_what_is_no_number_is_still_refused():
    for values, row in (([None, math.inf], 1), ([1.0, 2.0, -math.inf], 2), ([1e300], 0)):
        with pytest.raises(rr.errors.DataError, match="column 'buy'") as caught:
            label(values)
        assert caught.value.row == row
    with pytest.raises(rr.errors.DataError, match="String"):
        label(["a", None], pl.String)
    with pytest.raises(rr.errors.DataError, match="row 0.*null.*Passthrough.nulls='unknown'"):
        rr.FeatureSpace({"buy": F.Passthrough()}).fit(pl.DataFrame({"buy": [None, 1.0]}))


def test_arguments_that_contradict_each_other():
    with pytest.raises(rr.errors.ConfigError, match="both, fill=0"):
        F.Passthrough(nulls="unknown", fill=0.0)
    with pytest.raises(rr.errors.ConfigError, match="'nan'"):
        F.Passthrough(nulls="nan")
    with pytest.raises(rr.errors.ConfigError, match="may_be_nan"):
        rr.core.ColumnSchema("a", "ids", num_ids=4, may_be_nan=True)


TABLE = pl.DataFrame(
    {
        "user": ["a", "b", "a", "c", "b", "c"],
        "item": ["x", "x", "y", "y", "z", "z"],
        "click": [1, 0, 1, 0, 1, 0],
        "buy": [None, 0.0, None, 1.0, float("nan"), 1.0],
    }
)


def a_space():
    kinds = {"user": F.Categorical(), "item": F.Categorical(), "click": F.Passthrough()}
    return rr.FeatureSpace({**kinds, "buy": F.Passthrough(nulls="unknown")}).fit(TABLE)


def test_the_other_task_learns_of_rows_without_a_label(tmp_path):
    space = a_space()
    space.save(tmp_path / "space")
    space = rr.FeatureSpace.load(tmp_path / "space")
    tables = rr.EmbeddingCollection({name: rr.EmbeddingTable(space.schema[name], 4) for name in ("user", "item")})
    tasks = {"click": rr.tasks.Ranking(), "buy": rr.tasks.Ranking(metrics=[rr.metrics.LabelMean()])}
    model = rr.models.MultiTaskRanking(tables, tasks)
    for streaming in (False, True):
        loader = space.loader(TABLE, 2, streaming=streaming)
        history = model.fit(loader, optimizer=rr.optim.LazyAdam(0.01), epochs=2, progress=False)
        assert all(math.isfinite(value) for value in history["loss"])
    measured = model.evaluate(space.loader(TABLE, 6))
    assert measured["buy.label_mean"] == pytest.approx(2 / 3)
    logits = model.predict(space.loader(TABLE, 6))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    known = torch.tensor([1, 3, 5])
    expected = bce(logits[:, 0], torch.tensor(TABLE["click"].to_list()).float())
    expected += bce(logits[known, 1], torch.tensor([0.0, 1.0, 1.0]))
    assert measured["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_no_model_takes_them_as_inputs():
    space = a_space()
    with pytest.raises(rr.errors.ConfigError, match="'buy', which may be NaN"):
        rr.models.Tower(space, ["user", "buy"], layers=[4])
    tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(space.schema["user"], 4)})
    with pytest.raises(rr.errors.ConfigError, match="'buy', which may be NaN"):
        rr.models.Ranking(tables, dense_features=[space.schema["buy"]])
