"""Tables of a byte a number, and models that serve with them."""

import copy
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import retrank as rr
from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.int8 import Int8Table
from retrank.embeddings.quantized import quantized


def trained(num_ids, dim, **arguments):
    """A table whose rows are all different and, but for padding, not zero."""
    table = EmbeddingTable(num_ids, dim, **arguments)
    table.weight.data[1:] = torch.randn(num_ids - 1, dim, generator=torch.Generator().manual_seed(dim)).to(
        table.weight.dtype
    )
    return table


def vectors(table):
    return table(torch.arange(table.num_ids)).detach()


NUMBERS = st.floats(-100, 100, width=32)


@settings(max_examples=100)
@given(arrays.arrays(np.float32, st.tuples(st.integers(2, 6), st.integers(1, 9)), elements=NUMBERS))
def test_no_number_is_off_by_more_than_half_a_step(numbers):
    table = EmbeddingTable(*numbers.shape)
    table.weight.data = torch.from_numpy(numbers)
    served = vectors(table.to_int8()).numpy().astype(np.float64)
    exact = numbers.astype(np.float64)
    step = (exact.max(axis=1, keepdims=True) - exact.min(axis=1, keepdims=True)) / 255
    slack = 1e-6 * np.abs(exact).max(axis=1, keepdims=True) + 1e-37  # float32 itself
    assert (np.abs(served - exact) <= step / 2 + slack).all()
    constant = (step == 0)[:, 0]
    assert (served[constant] == exact[constant]).all()


def test_codes_by_hand():
    table = EmbeddingTable(3, 3)
    table.weight.data[2] = torch.tensor([-1.0, 0.5, 1.55])
    served = table.to_int8()
    assert served.codes[2].tolist() == [0, 150, 255]
    torch.testing.assert_close(served.steps[2], torch.tensor([0.01, -1.0]))
    assert served.codes[:2].tolist() == [[0, 0, 0]] * 2


def test_padding_and_unknown_are_exact_zeros():
    table = EmbeddingTable(50, 8)
    served = table.to_int8()
    assert (served(torch.tensor([0, 1])) == 0).all()
    assert served(Jagged.from_lists([[0, 0], [], [0, 4]])).tolist() == [
        [0.0] * 8,
        [0.0] * 8,
        served(torch.tensor([4]))[0].tolist(),
    ]


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", "max"])
def test_lists_are_pooled_as_by_a_table_of_the_same_numbers(combiner):
    served = trained(9, 4, combiner=combiner).to_int8()
    same = EmbeddingTable(9, 4, combiner=combiner)
    same.weight.data = vectors(served)
    lists = Jagged.from_lists([[3, 5, 0, 5], [], [0], [8, 2]])
    torch.testing.assert_close(served(lists), same(lists))
    rectangle = torch.tensor([[1, 2], [0, 8]])
    assert torch.equal(served(rectangle), same(rectangle))
    if combiner != "max":
        weighted = Jagged(lists.values, lists.offsets, torch.rand(7))
        torch.testing.assert_close(served(weighted), same(weighted))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_memory(dtype):
    table = trained(70_000, 64, dtype=dtype)  # more than are quantized at once
    served = table.to_int8()
    size = sum(tensor.nbytes for tensor in served.state_dict().values())
    assert size == 70_000 * (64 + 8)
    assert table.weight.nbytes / size > (3.5 if dtype == "float32" else 1.75)
    error = (vectors(served) - table.weight.float()).abs().amax(dim=1)
    assert (error <= served.steps[:, 0] * 0.5001 + 1e-6).all()


def test_config_and_state_round_trip():
    served = trained(20, 4, combiner="sqrtn", l2=0.5, name="genres").to_int8()
    again = from_config(json.loads(json.dumps(to_config(served))))
    assert type(again) is Int8Table
    again.load_state_dict(served.state_dict())
    assert torch.equal(vectors(again), vectors(served))
    assert (again.name, again.combiner, again.l2, again.num_ids) == ("genres", "sqrtn", 0.5, 20)
    assert sorted(served.state_dict()) == ["codes", "steps"]


def test_the_penalty_is_that_of_the_numbers():
    served = trained(9, 4, l2=0.5).to_int8()
    expected = 0.5 * vectors(served)[[2, 3]].square().sum() / 2
    torch.testing.assert_close(served.penalty(torch.tensor([2, 3])), expected)


def test_it_does_not_learn_or_grow():
    served = trained(9, 4, name="movie_id").to_int8()
    assert not list(served.parameters())
    served.train()
    with pytest.raises(ConfigError, match="Int8Table 'movie_id': expected a table that learns"):
        served(torch.tensor([3]))
    with torch.no_grad():
        served(torch.tensor([3]))
    with pytest.raises(ConfigError, match="a table that grows, to 12 ids"):
        served.grow(12)
    assert served.num_ids == 9


@pytest.mark.parametrize("bad", [-1, 9])
def test_ids_out_of_range(bad):
    served = trained(9, 4, name="movie_id").to_int8()
    with pytest.raises(DataError, match=rf"table 'movie_id', row 1: expected ids in \[0, 9\), got {bad}"):
        served(torch.tensor([3, bad]))
    with pytest.raises(DataError, match=rf"row 2: expected ids in \[0, 9\), got {bad}"):
        served(Jagged.from_lists([[1], [], [bad]]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    table = trained(9, 4, name="movie_id")
    table.weight.data[6, 2] = bad
    with pytest.raises(DataError, match="Int8Table 'movie_id', row 6: expected finite weights"):
        table.to_int8()
    with pytest.raises(ShapeError, match=r"expected \(9, 4\), got \(8, 4\)"):
        Int8Table(9, 4).quantize_(torch.zeros(8, 4))


def test_all_kinds_of_tables_of_a_module():
    shared = trained(30, 8)
    model = rr.EmbeddingCollection(
        {
            "movie": shared,
            "watched": shared,
            "bias": EmbeddingTable(30, 1),
            "short": EmbeddingTable(30, 8, dtype="bfloat16"),
            "hashed": rr.embeddings.HashedTable(1_000, 8, num_buckets=20, l2=0.1),
            "parts": rr.embeddings.QuotientRemainderTable(100, 8, divisor=10, l2=0.1),
            "mixed": rr.embeddings.MixedDimensionTable(100, 8, boundaries=[20], dims=[8, 4], l2=0.1),
        }
    )
    small = quantized(model.eval())
    assert small["movie"] is small["watched"]
    kinds = {name: type(small[name]).__name__ for name in model.features}
    assert kinds["movie"] == "Int8Table"
    assert kinds["bias"] == kinds["short"] == "EmbeddingTable"
    assert type(small["hashed"].table) is type(small["parts"].quotients) is type(small["mixed"].blocks[1]) is Int8Table
    assert model["movie"] is shared  # the model itself is as it was
    assert type(shared) is EmbeddingTable
    batch = rr.Batch({name: torch.tensor([0, 1, 2, 17, 29]) for name in model.features})
    for name, vector in small(batch).items():
        torch.testing.assert_close(vector, model(batch)[name].detach(), rtol=0, atol=0.02)
    for name in ("hashed", "parts", "mixed"):
        penalty, expected = small[name].penalty(batch[name]), model[name].penalty(batch[name])
        torch.testing.assert_close(penalty, expected, rtol=0.05, atol=1e-4)
    again = from_config(json.loads(json.dumps(to_config(small))))
    again.load_state_dict(small.state_dict())
    assert again["movie"] is again["watched"]
    for name, vector in again(batch).items():
        assert torch.equal(vector, small(batch)[name])
    twice = quantized(small)
    assert to_config(twice) == to_config(small)


def test_an_unknown_change_is_refused():
    config = to_config(quantized(rr.EmbeddingCollection({"a": EmbeddingTable(9, 8)})))
    assert config["changes"] == ["retrank.embeddings.quantized"]
    with pytest.raises(ConfigError, match="expected a change that is known here, got 'os.system'"):
        from_config({**config, "changes": ["os.system"]})


def test_unified_embeddings():
    model = rr.embeddings.UnifiedEmbedding({"a": 2, "b": 1}, buckets_per_table=50, dim_per_table=4, l2=0.1)
    small = quantized(model)
    batch = rr.Batch({"a": torch.tensor([3, 4]), "b": torch.tensor([5, 6])})
    torch.testing.assert_close(small(batch)["a"], model(batch)["a"].detach(), rtol=0, atol=1e-3)
    torch.testing.assert_close(small.penalty(batch), model.penalty(batch).detach(), rtol=0.02, atol=1e-6)


def test_there_must_be_something_to_gain():
    with pytest.raises(ConfigError, match="quantized of MLP: expected a float32 table of 3 dimensions"):
        quantized(rr.layers.MLP(3, [1]))
    with pytest.raises(ConfigError, match="none"):
        quantized(rr.EmbeddingCollection({"a": EmbeddingTable(9, 8, dtype="float16")}))


def plays():
    """A toy of 120 users and 200 songs, where users like songs of their own kind."""
    rng = np.random.default_rng(1)
    users, songs = np.repeat(np.arange(120), 25), rng.integers(0, 50, 3_000)
    return pl.DataFrame({"user": users, "song": songs * 4 + users % 4}).unique(maintain_order=True)


@pytest.fixture(scope="module")
def recommenders():
    """A recommender of two towers, and the same with quantized tables."""
    table = plays()
    songs = table.select("song").unique(maintain_order=True).with_columns(kind=pl.col("song") % 4)
    features = {name: rr.features.Categorical() for name in ("user", "song", "kind")}
    space = rr.FeatureSpace(features).fit(table.join(songs, on="song"))
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"], layers=[32, 16], dim=64),
        rr.models.Tower(space, ["song", "kind"], layers=[32, 16], dim=64, residual="song"),
        rr.tasks.Retrieval(),
        catalogue=space.catalogue(songs, key="song"),
    )
    model.fit(
        space.loader(table.join(songs, on="song"), 256, shuffle=True),
        optimizer=rr.optim.LazyAdam(lr=0.01), epochs=3, progress=False, device="cpu",
    )  # fmt: skip
    parts = {"space": space, "catalogue": songs, "history": table}
    return rr.Recommender(model, **parts), rr.Recommender(quantized(model), **parts)


def test_a_model_shares_its_catalogue_with_the_copy(recommenders):
    full, small = recommenders
    assert small.retrieval.catalogue is full.retrieval.catalogue
    assert not small.retrieval.training


def test_recommendations_are_nearly_the_same(recommenders):
    queries = pl.DataFrame({"user": np.arange(120)})
    one, other = (recommender.recommend_many(queries, k=10) for recommender in recommenders)
    both = one.join(other, on=["user", "song"])
    assert len(both) / len(one) > 0.95
    assert (both["score"] - both["score_right"]).abs().max() < 0.05 * one["score"].std()


def size(directory, name):
    return Path(directory, name).stat().st_size


def test_a_bundle_is_smaller_and_loads(recommenders, tmp_path):
    full, small = recommenders
    for recommender, name in ((full, "full"), (small, "small")):
        recommender.save(tmp_path / name)
    weights = [
        sum(tensor.nbytes for name, tensor in recommender.retrieval.state_dict().items() if "embeddings" in name)
        for recommender in recommenders
    ]
    assert weights[0] / weights[1] == 4 * 64 / (64 + 8)
    saved = size(tmp_path / "full", "retrieval.safetensors") - size(tmp_path / "small", "retrieval.safetensors")
    assert saved > 0.95 * (weights[0] - weights[1])
    again = rr.Recommender.load(tmp_path / "small")
    assert type(again.retrieval.query.embeddings["user"]) is Int8Table
    queries = pl.DataFrame({"user": np.arange(120)})
    assert again.recommend_many(queries).equals(small.recommend_many(queries))
    assert to_config(again.retrieval) == to_config(small.retrieval)


def test_a_quantized_model_is_not_trained(recommenders):
    small = copy.deepcopy(recommenders[1].retrieval)
    space = small.query.space
    with pytest.raises(ConfigError, match="Int8Table .*: expected a table that learns"):
        small.fit(
            space.loader(plays().with_columns(kind=pl.col("song") % 4), 256),
            optimizer=rr.optim.LazyAdam(), epochs=1, progress=False, device="cpu",
        )  # fmt: skip
    small.eval()
    results = small.evaluate(space.loader(plays().with_columns(kind=pl.col("song") % 4), 256))
    assert np.isfinite(results["loss"])
