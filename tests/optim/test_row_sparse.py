"""Every row-sparse optimizer against torch's own or a NumPy oracle, over many steps."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.jagged import Jagged
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.ops.row_sparse import merge_rows
from retrank.optim.adagrad import Adagrad
from retrank.optim.clippy_adagrad import ClippyAdagrad
from retrank.optim.ftrl import FTRL
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.rowwise_adagrad import RowwiseAdagrad

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

ROWS, DIM, STEPS = 12, 3, 40
SPECS = [
    Adagrad(lr=0.1),
    Adagrad(lr=0.1, weight_decay=0.05, initial_accumulator=0.0),
    RowwiseAdagrad(lr=0.1),
    RowwiseAdagrad(lr=0.1, initial_accumulator=0.0),
    LazyAdam(lr=0.05),
    LazyAdam(lr=0.05, weight_decay=0.1, betas=(0.8, 0.9)),
    ClippyAdagrad(lr=0.1, absolute_threshold=0.01),
    ClippyAdagrad(lr=0.1, clip_accumulator=True, accumulator_relative_threshold=0.1),
    ClippyAdagrad(lr=0.1, accumulate_first=True),
    FTRL(lr=0.1),
    FTRL(lr=0.1, l1=0.01, l2=0.1, beta=1.0, initial_accumulator=0.0),
]


def lookups(seed=0, low=2, steps=STEPS):
    """Ids with repeats, among them an empty batch, and the gradient of each looked-up vector."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        ids = rng.integers(low, ROWS, size=0 if step == 5 else rng.integers(1, 9))
        yield torch.from_numpy(ids), torch.from_numpy(rng.normal(size=(len(ids), DIM)).astype(np.float32))


def start():
    return torch.from_numpy(np.random.default_rng(9).normal(size=(ROWS, DIM)).astype(np.float32))


def sparse(ids, values):
    return torch.sparse_coo_tensor(ids[None], values, (ROWS, DIM), check_invariants=False)


def dense(ids, values):
    return torch.zeros(ROWS, DIM).index_add_(0, ids, values)


def run(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach().numpy()


def fresh(spec):
    parameter = nn.Parameter(start())
    return spec.build([("table", parameter)]), parameter


def test_adagrad_row_sparse_is_torchs_dense():
    spec = Adagrad(lr=0.1)
    reference = nn.Parameter(start())
    torchs = torch.optim.Adagrad([reference], lr=0.1, initial_accumulator_value=0.1, eps=1e-7)
    expected = run(torchs, reference, [dense(*lookup) for lookup in lookups()])
    for form in (sparse, dense):
        optimizer, parameter = fresh(spec)
        np.testing.assert_allclose(run(optimizer, parameter, [form(*x) for x in lookups()]), expected, rtol=1e-5)


def test_adagrad_weight_decay():
    spec = Adagrad(lr=0.1, weight_decay=0.1)
    reference = nn.Parameter(start())
    torchs = torch.optim.Adagrad([reference], lr=0.1, weight_decay=0.1, initial_accumulator_value=0.1, eps=1e-7)
    expected = run(torchs, reference, [dense(*lookup) for lookup in lookups()])
    optimizer, parameter = fresh(spec)
    np.testing.assert_allclose(run(optimizer, parameter, [dense(*x) for x in lookups()]), expected, rtol=1e-5)
    # row-sparse: as if the rows of the batch were all there is
    everything = torch.arange(ROWS)
    optimizer, parameter = fresh(spec)
    gradients = [sparse(torch.cat([x[0], everything]), torch.cat([x[1], torch.zeros(ROWS, DIM)])) for x in lookups()]
    np.testing.assert_allclose(run(optimizer, parameter, gradients), expected, rtol=1e-5)
    optimizer, parameter = fresh(spec)
    run(optimizer, parameter, [sparse(torch.tensor([4]), torch.ones(1, DIM))])
    assert ((parameter != start()).any(dim=1)).nonzero().flatten().tolist() == [4]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's own SparseAdam
def test_lazy_adam_row_sparse_is_torchs_sparse_adam():
    reference = nn.Parameter(start())
    torchs = torch.optim.SparseAdam([reference], lr=0.05, betas=(0.8, 0.95), eps=1e-4)
    expected = run(torchs, reference, [sparse(*lookup) for lookup in lookups()])
    optimizer, parameter = fresh(LazyAdam(lr=0.05, betas=(0.8, 0.95), eps=1e-4))
    np.testing.assert_allclose(
        run(optimizer, parameter, [sparse(*x) for x in lookups()]), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lazy_adam_dense_is_torchs_adam(weight_decay):
    reference = nn.Parameter(start())
    torchs = torch.optim.AdamW([reference], lr=0.05, eps=1e-4, weight_decay=weight_decay)
    expected = run(torchs, reference, [dense(*lookup) for lookup in lookups()])
    optimizer, parameter = fresh(LazyAdam(lr=0.05, eps=1e-4, weight_decay=weight_decay))
    np.testing.assert_allclose(
        run(optimizer, parameter, [dense(*x) for x in lookups()]), expected, rtol=1e-5, atol=1e-6
    )


def test_lazy_adam_decays_touched_rows_only():
    optimizer, parameter = fresh(LazyAdam(lr=0.5, weight_decay=0.2))
    run(optimizer, parameter, [sparse(torch.tensor([3, 3]), torch.zeros(2, DIM))])
    expected = start()
    expected[3] *= 0.9
    torch.testing.assert_close(parameter.data, expected)


def test_rowwise_adagrad_against_numpy():
    weight, accumulator = start().numpy().astype(np.float64), np.full(ROWS, 0.1)
    for ids, values in lookups():
        for row in sorted(set(ids.tolist())):
            gradient = values.numpy()[ids.numpy() == row].astype(np.float64).sum(axis=0)
            accumulator[row] += (gradient**2).sum() / DIM
            weight[row] -= 0.1 * gradient / (np.sqrt(accumulator[row]) + 1e-7)
    optimizer, parameter = fresh(RowwiseAdagrad(lr=0.1))
    np.testing.assert_allclose(run(optimizer, parameter, [sparse(*x) for x in lookups()]), weight, rtol=1e-4)
    state = optimizer.state[parameter]["accumulator"]
    assert state.shape == (ROWS, 1)
    np.testing.assert_allclose(state[:, 0], accumulator, rtol=1e-4)
    # a dense gradient of the same table later on keeps to one accumulator a row
    same, other = fresh(RowwiseAdagrad(lr=0.1))
    gradients = [(sparse if step % 2 == 0 else dense)(*x) for step, x in enumerate(lookups())]
    np.testing.assert_allclose(run(same, other, gradients), weight, rtol=1e-4)


def test_rowwise_adagrad_is_plain_for_dense_parameters():
    bias, reference = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    ours = RowwiseAdagrad(lr=0.1).build([("bias", bias)])
    theirs = torch.optim.Adagrad([reference], lr=0.1, initial_accumulator_value=0.1, eps=1e-7)
    for step in range(5):
        bias.grad = reference.grad = torch.arange(4.0) - step
        ours.step()
        theirs.step()
    torch.testing.assert_close(bias, reference)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 8), max_size=20))
def test_merge_rows(ids):
    values = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(len(ids)))
    gradient = torch.sparse_coo_tensor(torch.tensor([ids], dtype=torch.int64), values, (9, 2), check_invariants=False)
    rows, sums = merge_rows(gradient)
    assert rows.tolist() == sorted(set(ids))
    for row, total in zip(rows.tolist(), sums, strict=True):
        chosen = values.numpy()[np.array(ids) == row].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(total, chosen, rtol=1e-5, atol=1e-6)
    kept = gradient._values().clone()
    sums.fill_(7)
    assert torch.equal(gradient._values(), kept)


def test_merge_rows_refuses_other_sparse_tensors():
    index = torch.arange(3).expand(2, 3)
    with pytest.raises(ShapeError, match="2 sparse and 0 dense"):
        merge_rows(torch.sparse_coo_tensor(index, torch.ones(3), (3, 3), check_invariants=False))


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_only_rows_of_the_batch_move_and_padding_never(spec):
    table = EmbeddingTable(ROWS, DIM, l2=0.1)
    optimizer = spec.build(table.named_parameters())
    before = table.weight.detach().clone()
    for ids, _ in lookups(low=0, steps=10):
        optimizer.zero_grad()
        ids = ids[(ids != 3) & (ids != 7)]
        pooled = table(Jagged.from_lists([ids.tolist(), [0]]))
        (table(ids).exp().sum() + pooled.exp().sum() + table.penalty(ids)).backward()
        assert table.weight.grad.is_sparse
        optimizer.step()
    assert (table.weight[0] == 0).all()
    moved = (table.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [row for row in range(ROWS) if row not in (0, 3, 7)]
    assert table.weight.isfinite().all()


@pytest.mark.parametrize("spec", SPECS, ids=repr)
@pytest.mark.parametrize("form", [sparse, dense])
def test_restored_state_continues_bit_for_bit(spec, form):
    gradients = [form(*x) for x in lookups()]
    whole, expected = fresh(spec)
    run(whole, expected, gradients)

    first, parameter = fresh(spec)
    run(first, parameter, gradients[:17])
    saved = copy.deepcopy(first.state_dict())
    leaves = [value for state in saved["state"].values() for value in state.values()]
    assert all(isinstance(leaf, torch.Tensor | int | float) for leaf in leaves)
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))
    second, continued = fresh(spec)
    continued.data.copy_(parameter.data)
    second.load_state_dict(saved)
    run(second, continued, gradients[17:])
    assert torch.equal(continued, expected)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_a_scheduler_sets_the_rate(spec):
    optimizer, parameter = fresh(spec)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.0)
    gradients = [sparse(*x) for x in lookups(steps=3)]
    run(optimizer, parameter, gradients[:1])
    scheduler.step()
    after_one = parameter.detach().clone()
    run(optimizer, parameter, gradients[1:])
    assert torch.equal(parameter, after_one)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_config_round_trip(spec):
    assert from_config(json.loads(json.dumps(to_config(spec)))) == spec


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_closure_and_missing_gradients(spec):
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = spec.build([("used", used), ("unused", unused)])

    def closure():
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert (used < 1).all()
    assert (unused == 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adagrad(lr=-1.0), "lr >= 0"),
        (lambda: Adagrad(lr=float("nan")), "finite lr"),
        (lambda: Adagrad(eps=0.0), "eps > 0"),
        (lambda: RowwiseAdagrad(initial_accumulator=-0.1), "initial_accumulator"),
        (lambda: LazyAdam(betas=(0.9, 1.0)), "two betas"),
        (lambda: LazyAdam(weight_decay=float("inf")), "weight_decay"),
        (lambda: ClippyAdagrad(variable_relative_threshold=-0.1), "variable_relative_threshold"),
        (lambda: ClippyAdagrad(accumulator_relative_threshold=-0.1), "accumulator_relative_threshold"),
        (lambda: ClippyAdagrad(absolute_threshold=-0.1), "absolute_threshold"),
        (lambda: ClippyAdagrad(initial_accumulator=0.0, eps=0.0), "eps > 0 or initial_accumulator > 0"),
        (lambda: ClippyAdagrad(clip_accumulator=True, accumulate_first=True), "not both"),
        (lambda: FTRL(l1=-1.0), "finite l1 >= 0"),
        (lambda: FTRL(initial_accumulator=0.0), "initial_accumulator > 0 or beta > 0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_nothing_to_optimize_is_refused(spec):
    with pytest.raises(ConfigError, match=f"{type(spec).__name__}: expected at least one parameter"):
        spec.build([])
