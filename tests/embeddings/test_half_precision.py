"""Tables in half precision: half of the memory, vectors and gradients in float32."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import retrank as rr
from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.embeddings.embedding_table import EmbeddingTable

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
LISTS = Jagged.from_lists([[3, 5, 0, 5], [], [0], [8, 2]])


@pytest.fixture(params=list(DTYPES))
def dtype(request):
    return request.param


def pair(dtype, **arguments):
    """A table in half precision, and one in float32 with the same numbers."""
    table = EmbeddingTable(9, 3, dtype=dtype, **arguments)
    table.weight.data[1:] = torch.randn(8, 3)
    plain = EmbeddingTable(9, 3, **arguments)
    plain.weight.data = table.weight.detach().float()
    return table, plain


def test_memory_halves(dtype):
    half, plain = EmbeddingTable(1_000, 8, dtype=dtype), EmbeddingTable(1_000, 8)
    assert half.weight.dtype == DTYPES[dtype]
    assert 2 * half.weight.nbytes == plain.weight.nbytes


def test_the_first_numbers_are_those_of_float32_rounded(dtype):
    torch.manual_seed(5)
    plain = EmbeddingTable(70_000, 3, scale=0.2)  # more than are drawn at once
    torch.manual_seed(5)
    half = EmbeddingTable(70_000, 3, scale=0.2, dtype=dtype)
    assert torch.equal(half.weight, plain.weight.to(DTYPES[dtype]))


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", "max"])
@pytest.mark.parametrize(
    "ids",
    [torch.tensor([3, 0, 3]), torch.tensor([[1, 2], [0, 8]]), LISTS, torch.empty(0, dtype=torch.int64)],
    ids=["ids", "rectangle", "lists", "nothing"],
)
def test_vectors_and_gradients_are_float32(dtype, combiner, ids):
    half, plain = pair(dtype, combiner=combiner)
    output, expected = half(ids), plain(ids)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    upstream = torch.randn_like(output)
    output.backward(upstream)
    expected.backward(upstream)
    gradient = half.weight.grad
    assert gradient.is_sparse
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient.to_dense(), plain.weight.grad.to_dense(), rtol=1e-5, atol=1e-6)
    assert (gradient.to_dense()[0] == 0).all()


def test_weighted_lists(dtype):
    half, plain = pair(dtype, combiner="mean")
    factors = [torch.tensor([0.3, 0.9, 1.0, 0.5, 2.0, 0.1, 4.0], requires_grad=True) for _ in range(2)]
    outputs = [
        table(Jagged(LISTS.values, LISTS.offsets, weights))
        for table, weights in zip((half, plain), factors, strict=True)
    ]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(factors[0].grad, factors[1].grad)
    torch.testing.assert_close(half.weight.grad.to_dense(), plain.weight.grad.to_dense())


def test_gradients_of_a_step_add_up_in_float32(dtype):
    half, _ = pair(dtype)
    small = 1 + 2.0**-20  # that half precision cannot tell from 1
    for _ in range(2):
        (small * half(torch.tensor([4, 4]))).sum().backward()
    assert half.weight.grad.to_dense()[4].tolist() == [4 * small] * 3
    assert rr.training.clip_gradients([half.weight], max_norm=1.0).dtype == torch.float32
    assert half.weight.grad.dtype == torch.float32


def test_under_autocast_vectors_are_those_of_a_float32_table(dtype):
    half, plain = pair(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert half(LISTS).dtype == plain(LISTS).dtype == torch.float32


def test_a_copy_keeps_gradients_in_float32(dtype):
    half, _ = pair(dtype)
    other = copy.deepcopy(half)
    (half(torch.tensor([2])).sum() + other(torch.tensor([2])).sum()).backward()
    assert other.weight.grad.dtype == torch.float32


def test_no_gradients(dtype):
    half, plain = pair(dtype)
    half.weight.requires_grad_(False)
    with torch.inference_mode():
        assert torch.equal(half(torch.tensor([2, 3])), plain(torch.tensor([2, 3])))
    assert not half(torch.tensor([2])).requires_grad


def test_config_and_weights_round_trip_after_growing(dtype):
    table = EmbeddingTable(20, 4, combiner="sqrtn", l2=0.5, name="genres", dtype=dtype)
    before = table.weight.detach().clone()
    table.grow(25)
    assert table.weight.dtype == DTYPES[dtype]
    assert torch.equal(table.weight[:20], before)
    assert (table.weight[20:] != 0).any()
    again = from_config(json.loads(json.dumps(to_config(table))))
    again.load_state_dict(load(save(dict(table.state_dict()))))
    assert again.weight.dtype == DTYPES[dtype]
    assert torch.equal(again.weight, table.weight)
    assert f"dtype='{dtype}'" in repr(again)
    assert "dtype" not in repr(EmbeddingTable(20, 4))


def test_the_penalty_is_computed_in_single_precision(dtype):
    half, plain = pair(dtype, l2=0.5)
    ids = torch.tensor([2, 2, 3])
    penalty = half.penalty(ids)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, plain.penalty(ids))
    penalty.backward()
    assert half.weight.grad.is_sparse
    assert half.weight.grad.dtype == torch.float32


def test_wrong_dtypes_are_refused(monkeypatch):
    with pytest.raises(
        ConfigError, match="'movie_id': expected dtype in .'float32', 'bfloat16', 'float16'., got 'int8'"
    ):
        EmbeddingTable(9, 3, name="movie_id", dtype="int8")
    monkeypatch.setattr("retrank.embeddings.embedding_table._TORCH_KNOWS_GRAD_DTYPE", False)
    EmbeddingTable(9, 3)
    with pytest.raises(ConfigError, match=r"expected torch 2\.10 or newer, for half precision"):
        EmbeddingTable(9, 3, dtype="bfloat16")


def clicks(rows=6_000):
    """Users who like much or little, popular movies and others, and whether one liked the other."""
    rng = np.random.default_rng(0)
    users, movies = rng.integers(2, 202, rows), rng.integers(2, 302, rows)
    taste, appeal = rng.normal(size=302), rng.normal(size=302)
    liked = appeal[movies] + taste[users] + 0.3 * rng.normal(size=rows) > 0
    columns = {"user": users, "movie": movies, "label": liked.astype(np.float32)}
    return rr.Batch({name: torch.from_numpy(column) for name, column in columns.items()})


def ranking(dtype):
    torch.manual_seed(7)
    tables = {
        "user": EmbeddingTable(202, 8, scale=0.3, dtype=dtype),
        "movie": EmbeddingTable(302, 8, scale=0.3, dtype=dtype),
    }
    return rr.models.Ranking(
        rr.EmbeddingCollection(tables),
        feature_interaction=rr.layers.Concatenate(),
        top_stack=rr.layers.MLP(None, [16, 1]),
    )


def fit(model, *, epochs=4, **arguments):
    optimizer = rr.optim.Composite(
        [(rr.optim.LazyAdam(lr=0.02), model.embedding_parameters), (rr.optim.Adam(lr=0.01), model.dense_parameters)]
    )
    batches = rr.data.Loader(clicks(), 256, shuffle=True, seed=3)
    return model.fit(batches, optimizer=optimizer, epochs=epochs, progress=False, device="cpu", **arguments).rows


def test_training_reaches_the_loss_of_float32(dtype):
    """Within 2% of the loss of float32, which falls by a third."""
    plain, half = fit(ranking("float32")), fit(ranking(dtype))
    assert plain[-1]["loss"] < 0.67 * plain[0]["loss"]
    assert half[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.02)


def test_a_run_that_is_resumed_ends_with_the_same_bits(dtype, tmp_path):
    whole = ranking(dtype)
    rows = fit(whole, epochs=2)
    fit(ranking(dtype), epochs=1, checkpoint=tmp_path / "run")
    resumed = ranking(dtype)
    resumed.embeddings["user"].weight.data.zero_()  # all comes from the checkpoint
    assert fit(resumed, epochs=2, checkpoint=tmp_path / "run") == rows
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
