"""Tables that grow between two steps of one optimizer: the new rows start as in a new optimizer, the others go on."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ShapeError
from retrank.optim.adagrad import Adagrad
from retrank.optim.clippy_adagrad import ClippyAdagrad
from retrank.optim.composite import Composite
from retrank.optim.ftrl import FTRL
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.rowwise_adagrad import RowwiseAdagrad
from retrank.optim.torch_specs import SGD, Adam, AdamW

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

DIM = 3
SPECS = [
    Adagrad(lr=0.1, weight_decay=0.05),
    RowwiseAdagrad(lr=0.1),
    LazyAdam(lr=0.05, weight_decay=0.1),
    ClippyAdagrad(lr=0.1, absolute_threshold=0.01),
    FTRL(lr=0.1, l1=0.01, l2=0.1, beta=1.0),
]
TORCHS = [Adam(lr=0.1), AdamW(lr=0.1, weight_decay=0.0), SGD(lr=0.1, momentum=0.9), SGD(lr=0.1)]
SIZES = [5, 5, 9, 9, 9, 10, 10, 40, 40, 41]  # rows of the table at each step


def named(spec):
    return type(spec).__name__


# One step in float64, on rows that are all there is. State is a dict of arrays, as many rows as the weights.


def adagrad(spec, w, g, state, step, is_sparse):
    g = g + spec.weight_decay * w
    state["accumulator"] += g**2
    w -= spec.lr * g / (np.sqrt(state["accumulator"]) + spec.eps)


def rowwise_adagrad(spec, w, g, state, step, is_sparse):
    state["accumulator"] += (g**2).mean(axis=1, keepdims=True) if is_sparse else g**2
    w -= spec.lr * g / (np.sqrt(state["accumulator"]) + spec.eps)


def lazy_adam(spec, w, g, state, step, is_sparse):
    beta1, beta2 = spec.betas
    state["mean"] += (1 - beta1) * (g - state["mean"])
    state["square"] += (1 - beta2) * (g**2 - state["square"])
    mean, correction = state["mean"] / (1 - beta1**step), np.sqrt(1 - beta2**step)
    root = (np.sqrt(state["square"]) + spec.eps) / correction if is_sparse else np.sqrt(state["square"]) / correction
    w *= 1 - spec.lr * spec.weight_decay
    w -= spec.lr * mean / (root if is_sparse else root + spec.eps)


def clippy_adagrad(spec, w, g, state, step, is_sparse):
    p = 1 / np.sqrt(state["accumulator"] + spec.eps)
    delta = spec.lr * p * g
    bound = spec.variable_relative_threshold * np.abs(w) + spec.absolute_threshold
    w -= delta * min([1.0, *(bound / np.maximum(np.abs(delta), 1e-300)).ravel()])
    state["accumulator"] += g**2


def ftrl(spec, w, g, state, step, is_sparse):
    before = (np.sqrt(state["accumulator"]) + spec.beta) / state["last_lr"]
    state["accumulator"] += g**2
    after = (np.sqrt(state["accumulator"]) + spec.beta) / spec.lr
    state["linear"] += g - (after - before) * w
    state["last_lr"][:] = spec.lr
    linear = state["linear"]
    w[:] = -np.sign(linear) * np.maximum(np.abs(linear) - spec.l1, 0) / (after + 2 * spec.l2)


ORACLES = {
    Adagrad: (adagrad, {"accumulator": (DIM, 0.1)}),
    RowwiseAdagrad: (rowwise_adagrad, {"accumulator": (1, 0.1)}),
    LazyAdam: (lazy_adam, {"mean": (DIM, 0.0), "square": (DIM, 0.0)}),
    ClippyAdagrad: (clippy_adagrad, {"accumulator": (DIM, 0.1)}),
    FTRL: (ftrl, {"accumulator": (DIM, 0.1), "linear": (DIM, 0.0), "last_lr": (1, np.inf)}),
}


def sparse(ids, values, num_rows):
    return torch.sparse_coo_tensor(torch.tensor(ids)[None], values, (num_rows, values.shape[1]), check_invariants=False)


def set_rows(parameter, weights):
    parameter.data = weights.clone()
    parameter.grad = None


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_steps_of_a_growing_parameter_are_those_of_an_oracle(spec, is_sparse):
    rng = np.random.default_rng(1)
    everything = rng.normal(size=(SIZES[-1], DIM))
    oracle, kept = ORACLES[type(spec)]
    state = {name: np.zeros((0, width)) for name, (width, _) in kept.items()}
    if isinstance(spec, RowwiseAdagrad) and not is_sparse:
        kept, state = {"accumulator": (DIM, 0.1)}, {"accumulator": np.zeros((0, DIM))}
    weights, parameter = np.zeros((0, DIM)), nn.Parameter(torch.zeros(0, DIM))
    optimizer = spec.build([("table", parameter)])
    for step, size in enumerate(SIZES, start=1):
        old = len(weights)
        if size > old:
            weights = np.concatenate([weights, everything[old:size]])
            for name, (width, start) in kept.items():
                state[name] = np.concatenate([state[name], np.full((size - old, width), start)])
            set_rows(parameter, torch.cat([parameter.data, torch.from_numpy(everything[old:size]).float()]))
        ids = rng.integers(0, size, size=7)
        ids[-1] = size - 1
        values = rng.normal(size=(7, DIM))
        gradient = np.zeros((size, DIM))
        np.add.at(gradient, ids, values)
        rows = np.unique(ids) if is_sparse else np.arange(size)
        chosen, part = weights[rows], {name: array[rows] for name, array in state.items()}
        oracle(spec, chosen, gradient[rows], part, step, is_sparse)
        weights[rows] = chosen
        for name, array in part.items():
            state[name][rows] = array
        tensor = torch.from_numpy(values).float()
        given = sparse(ids, tensor, size) if is_sparse else torch.from_numpy(gradient).float()
        parameter.grad = given
        optimizer.step()
        np.testing.assert_allclose(parameter.detach(), weights, rtol=1e-4, atol=1e-5)
        for name, array in state.items():
            np.testing.assert_allclose(optimizer.state[parameter][name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("spec", SPECS, ids=named)
@settings(max_examples=4)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 2**20))
def test_a_table_that_grows_is_one_that_was_large_from_the_start(spec, dtype, steps, seed):
    """Bit for bit: rows that nobody reads cost nothing, whether they are there or not."""
    last = 4 + sum(steps)
    small, large = (rr.EmbeddingTable(rows, DIM, dtype=dtype) for rows in (4, last))
    small.weight.data.copy_(large.weight.data[:4])
    one, other = (spec.build(table.named_parameters()) for table in (small, large))
    rng = np.random.default_rng(seed)
    for more in steps:
        size = small.num_ids + more
        small.grow(size)
        small.weight.data.copy_(large.weight.data[:size])
        ids = torch.from_numpy(rng.integers(0, size, size=6))
        pull = torch.from_numpy(rng.normal(size=(6, DIM))).float()
        for table, optimizer in ((small, one), (large, other)):
            optimizer.zero_grad()
            (table(ids) * pull).sum().backward()
            torch.manual_seed(seed)
            optimizer.step()
        assert torch.equal(small.weight, large.weight[:size])
        for name, kept in one.state[small.weight].items():
            whole = other.state[large.weight][name]
            whole = whole[:size] if isinstance(whole, torch.Tensor) and whole.dim() else whole
            assert torch.equal(kept, whole) if isinstance(kept, torch.Tensor) else kept == whole


@pytest.mark.parametrize("spec", TORCHS, ids=repr)
def test_the_state_of_torchs_own_optimizers_grows_too(spec):
    start = torch.randn(12, DIM)
    small, large = nn.Parameter(start[:4].clone()), nn.Parameter(start.clone())
    one, other = spec.build([("w", small)]), spec.build([("w", large)])
    for step, size in enumerate([4, 4, 7, 7, 12, 12]):
        set_rows(small, torch.cat([small.data, large.data[len(small) : size]]))
        small.grad = torch.randn(size, DIM)
        large.grad = torch.cat([small.grad, torch.zeros(12 - size, DIM)])
        one.step()
        other.step()
        assert torch.allclose(small, large[:size], rtol=1e-6, atol=1e-7), step
    copied = copy.deepcopy(one)  # torch copies no hooks
    [parameter] = copied.param_groups[0]["params"]
    set_rows(parameter, torch.zeros(2_000, DIM))
    parameter.grad = torch.ones(2_000, DIM)
    copied.step()
    assert (parameter[12:] < 0).all()


def test_every_part_of_a_composite_grows():
    tables = nn.ModuleList(rr.EmbeddingTable(6, DIM) for _ in range(len(SPECS)))
    score = nn.Linear(DIM, 2)
    parts = [(spec, f"0.{place}.*") for place, spec in enumerate(SPECS)]
    optimizer = Composite([*parts, (Adam(lr=0.1), "1.*")]).build(nn.ModuleList([tables, score]).named_parameters())
    for size in (6, 6, 500, 501):
        for table in tables:
            table.grow(size)
        set_rows(score.weight, torch.randn(size, DIM))
        set_rows(score.bias, torch.zeros(size))
        optimizer.zero_grad()
        sum(score(table(torch.arange(size))).square().mean() for table in tables).backward()
        before = [table.weight.detach().clone() for table in tables]
        optimizer.step()
        for table, old in zip(tables, before, strict=True):
            assert (table.weight[2:] != old[2:]).any(dim=1).all()
            assert (table.weight[0] == 0).all()
        for parameter, state in optimizer.state.items():
            assert {len(kept) for kept in state.values() if getattr(kept, "ndim", 0)} == {len(parameter)}


MAKERS = [
    lambda: rr.EmbeddingTable(9, 4),
    lambda: rr.EmbeddingTable(9, 4, dtype="bfloat16"),
    lambda: rr.embeddings.HashedTable(9, 4, num_buckets=5),
    lambda: rr.embeddings.QuotientRemainderTable(9, 4, divisor=3),
    lambda: rr.embeddings.MixedDimensionTable(9, 4, boundaries=[5], dims=[4, 2]),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_all_kinds_of_tables_learn_on_after_growing(spec, make):
    table = make()
    optimizer = spec.build(table.named_parameters())
    parameters = list(table.parameters())
    for size in (9, 9, 700, 700, 2_000):
        table.grow(size)
        assert all(one is other for one, other in zip(parameters, table.parameters(), strict=True))
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer.zero_grad()
        table(torch.arange(size)).square().sum().backward()
        optimizer.step()
        assert all((one != old).any() for one, old in zip(parameters, before, strict=True))
        assert (table(torch.tensor([0])) == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_table_grows_while_a_loss_from_before_is_held(dtype):
    """As `loss = ...` at the top of a loop holds it until the next one is computed."""
    table = rr.EmbeddingTable(6, DIM, dtype=dtype, l2=0.1)
    optimizer = Adagrad(lr=0.1).build(table.named_parameters())
    loss = table(torch.arange(6)).square().sum() + table.penalty(torch.arange(6))
    loss.backward()
    table.grow(9)
    assert table.weight.grad is None
    new = table(torch.arange(9)).square().sum() + table.penalty(torch.arange(9))
    new.backward()
    assert table.weight.grad.shape == (9, DIM)
    optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_gradient_from_before_the_table_grew_is_refused(spec):
    table = rr.EmbeddingTable(6, DIM, name="movies")
    optimizer = spec.build(table.named_parameters())
    loss = table(torch.arange(6)).square().sum()
    table.grow(9)
    loss.backward()
    before = table.weight.detach().clone()
    with pytest.raises(ShapeError, match=r"parameter 'weight': expected a gradient of torch.float32, shape \(9, 3\)"):
        optimizer.step()
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("spec", [*SPECS, *TORCHS[:3]], ids=named)
def test_a_state_saved_before_a_parameter_grew_is_loaded_and_grows(spec):
    def stepped(optimizer, parameter):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
        optimizer.step()

    first = nn.Parameter(torch.ones(4, DIM))
    optimizer = spec.build([("w", first)])
    stepped(optimizer, first)
    saved = copy.deepcopy(optimizer.state_dict())
    later = nn.Parameter(torch.cat([first.data, torch.ones(50, DIM)]))
    again = spec.build([("w", later)])
    again.load_state_dict(saved)
    set_rows(first, later.data)
    stepped(optimizer, first)
    stepped(again, later)
    assert torch.equal(first, later)


def test_growing_to_the_same_size_changes_nothing():
    table = rr.EmbeddingTable(np.int64(5), np.int64(DIM))
    table(torch.tensor([2])).sum().backward()
    weights, random = table.weight.data_ptr(), torch.get_rng_state()
    table.grow(np.int64(5))
    assert table.weight.grad is not None
    assert table.weight.data_ptr() == weights
    assert torch.equal(torch.get_rng_state(), random)
    assert table.config["rows"] == 5
    for wrong in (5.0, "6", None, 4):
        with pytest.raises(rr.errors.ConfigError, match="at least 5 rows"):
            table.grow(wrong)
    assert table.num_ids == 5


def test_a_reader_of_a_table_that_did_not_grow_with_the_vocabulary_is_told_so():
    users, movies = rr.EmbeddingTable(5, DIM, name="user"), rr.EmbeddingTable(5, DIM, name="movie")
    both = rr.EmbeddingCollection({"user": users, "movie": movies})
    users.grow(8)
    batch = rr.Batch({"user": torch.tensor([2, 7]), "movie": torch.tensor([4, 7])})
    for read in (both, both.concatenate):
        with pytest.raises(rr.errors.DataError, match=r"table 'movie', row 1: expected ids in \[0, 5\), got 7.*grow"):
            read(batch)
    movies.grow(8)
    assert both.concatenate(batch).shape == (2, 2 * DIM)
