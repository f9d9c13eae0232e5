"""The softmax whose scores are never in memory, against the same in plain torch in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.allocations import Recorded, peak_memory

import retrank as rr
from retrank.core import native
from retrank.core.errors import DataError, ShapeError
from retrank.metrics import BatchTopK
from retrank.ops import softmax_by_kernel, softmax_by_torch
from retrank.ops.softmax import dot_product_cross_entropy
from retrank.tasks import Retrieval

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


def slow_losses(queries, candidates, positives, *, bias=None, ids=None, first_shared=0):
    scores = queries @ candidates.T
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if ids is not None:
        columns = torch.arange(len(candidates))
        hits = (ids == ids[positives][:, None]) & (columns != positives[:, None])
        scores = scores.masked_fill(hits, -torch.inf)
    if first_shared:
        columns = torch.arange(len(candidates))
        scores = scores.masked_fill((columns < first_shared) & (columns != positives[:, None]), -torch.inf)
    return F.cross_entropy(scores, positives, reduction="none")


def values_and_gradients(losses_of, dtype, queries, candidates, positives, *, weight=None, **more):
    queries = queries.to(dtype, copy=True).requires_grad_()
    candidates = candidates.to(dtype, copy=True).requires_grad_()
    losses = losses_of(queries, candidates, positives, **more)
    weight = torch.ones_like(losses) if weight is None else weight.to(dtype)
    (losses * weight).sum().backward()
    return losses.detach(), queries.grad, candidates.grad


def assert_same(*inputs, rtol=1e-5, **more):
    found = values_and_gradients(dot_product_cross_entropy, torch.float32, *inputs, **more)
    expected = values_and_gradients(slow_losses, torch.float64, *inputs, **more)
    sizes = (0.0, inputs[1].abs().max().item(), inputs[0].abs().max().item())  # of what a gradient sums up
    for ours, theirs, size in zip(found, expected, sizes, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=rtol * max(size, 0.1))
    return found


def draw(rng, batch, num_candidates, dim, size=1.0):
    """Embeddings whose scores are exact in float32, hence of the same size in both computations."""
    queries = torch.from_numpy(rng.integers(-8, 9, (batch, dim)) / 8).float()
    candidates = torch.from_numpy(rng.integers(-8, 9, (num_candidates, dim)) / 8).float() * size
    return queries, candidates, torch.from_numpy(rng.integers(num_candidates, size=batch))


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 100),
    st.integers(1, 70),
    st.sampled_from([None, 1, 3, 50, 10**6]),
    st.sampled_from([None, 0.1, 5.0, 80.0, 1000.0]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_values_and_gradients(batch, num_candidates, dim, num_ids, bias, weighted, seed):
    rng = np.random.default_rng(seed)
    queries, candidates, positives = draw(rng, batch, num_candidates, dim)
    assert_same(
        queries,
        candidates,
        positives,
        bias=None if bias is None else torch.from_numpy(rng.uniform(-bias, 0, num_candidates)).float(),
        ids=None if num_ids is None else torch.from_numpy(rng.integers(-num_ids, num_ids, num_candidates)),
        weight=torch.from_numpy(rng.choice([0.0, 0.5, 2.0], batch)) if weighted else None,
        rtol=1e-5 if bias is None or bias < 50 else 1e-4 if bias < 100 else 1e-3,  # of scores that large
    )


@settings(max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(1, 70),
    st.sampled_from([None, 1, 3, 50]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_positives_that_no_other_query_is_compared_with(batch, num_shared, dim, num_ids, biased, weighted, seed):
    rng = np.random.default_rng(seed)
    num_own = int(rng.integers(1, batch + 1))
    queries, candidates, _ = draw(rng, batch, num_own + num_shared, dim)
    bias = torch.from_numpy(rng.uniform(-5, 0, num_own + num_shared)).float()
    bias[num_own:][torch.from_numpy(rng.random(num_shared) < 0.2)] = -torch.inf  # such a candidate takes no part
    assert_same(
        queries,
        candidates,
        torch.from_numpy(rng.integers(num_own, size=batch)),
        first_shared=num_own,
        bias=bias if biased else None,
        ids=None if num_ids is None else torch.from_numpy(rng.integers(num_ids, size=num_own + num_shared)),
        weight=torch.from_numpy(rng.choice([0.0, 0.5, 2.0], batch)) if weighted else None,
    )


def test_a_shared_candidate_is_nobodys_positive():
    with pytest.raises(DataError, match=r"a column in \[0, 2\), got 2"):
        dot_product_cross_entropy(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 2]), first_shared=2)
    for outside in (-1, 4):
        with pytest.raises(ShapeError, match="from 0 to 3"):
            dot_product_cross_entropy(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 2]), first_shared=outside)


@pytest.mark.parametrize("size", [1, 10, 100, 1000, 10_000])
def test_large_scores_neither_overflow_nor_vanish(size):
    rng = np.random.default_rng(size)
    queries, candidates, positives = draw(rng, 33, 65, 16, size / 4)
    losses, *gradients = assert_same(queries, candidates, positives, rtol=1e-3)
    assert losses.max() > size / 4
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("size", [1000, 10_000])
def test_large_scores_have_gradients_as_good_as_plain_torch(size):
    scores = torch.tensor([-size, size, size, size, size - 1.0])
    assert_same(torch.ones(5, 1), scores[:, None], torch.tensor([0, 0, 1, 1, 0]))


@pytest.mark.parametrize("gap", [0, 20, 59.5, 60, 60.5, 87, 88, 120, 3000])
@pytest.mark.parametrize("batch", [1, 2, 40])
def test_a_positive_far_below_and_far_above(gap, batch):
    candidates = torch.tensor([[0.0], [gap], [gap], [-gap], [1.0]]).repeat(60, 1)  # what is far above comes late, too
    candidates[5:150] -= 7.0
    for positive in (0, 1, 3, 298):
        assert_same(torch.ones(batch, 1), candidates, torch.full((batch,), positive), rtol=1e-4)


def test_many_candidates_for_few_queries():
    rng = np.random.default_rng(0)
    queries, candidates, positives = draw(rng, 3, 20_000, 7)
    positives[:] = positives[0]  # repeated
    assert_same(queries, candidates, positives)


@pytest.mark.parametrize(
    "bias",
    [60.0, 89.0, 95.0, 3000.0],
)
def test_a_bias_above_what_exp_can_take(bias):
    rng = np.random.default_rng(1)
    queries, candidates, positives = draw(rng, 5, 9, 4)
    biases = torch.zeros(9)
    biases[3] = bias
    assert_same(queries, candidates, positives, bias=biases, rtol=1e-3)


def test_a_removed_candidate_has_no_gradient_at_all():
    rng = np.random.default_rng(2)
    queries, candidates, _ = draw(rng, 20, 50, 9)
    positives, ids = torch.arange(20) % 4, torch.arange(50)
    ids[:40] = 7
    losses, _, gradient = assert_same(queries, candidates, positives, ids=ids)
    assert (gradient[4:40] == 0).all()
    assert (gradient[40:] != 0).any()
    ids[:] = 7
    losses, *gradients = values_and_gradients(
        dot_product_cross_entropy, torch.float32, queries, candidates, positives, ids=ids
    )
    assert all((found == 0).all() for found in (losses, *gradients))
    bias = torch.zeros(50)
    bias[4:] = -torch.inf
    _, _, gradient = assert_same(queries, candidates, positives, bias=bias)
    assert (gradient[4:] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["query", "positive", "negative", "removed"])
@pytest.mark.parametrize("num_candidates", [6, 40, 200])
def test_what_is_no_number_is_never_lost(bad, where, num_candidates):
    rng = np.random.default_rng(3)
    queries, candidates, _ = draw(rng, 5, num_candidates, 3)
    queries, candidates, positives = queries + 1.5, candidates + 1.5, torch.arange(5)  # scores above 0, inf stays inf
    ids = torch.arange(num_candidates)
    ids[5] = 2
    row = {"query": None, "positive": 1, "negative": num_candidates - 1, "removed": 5}[where]
    (queries[1] if row is None else candidates[row])[2] = bad
    found = values_and_gradients(dot_product_cross_entropy, torch.float32, queries, candidates, positives, ids=ids)
    expected = values_and_gradients(slow_losses, torch.float32, queries, candidates, positives, ids=ids)
    torch.testing.assert_close(found[0], expected[0], equal_nan=True)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert not (ours.isfinite() & ~theirs.isfinite()).any()
    if math.isnan(bad):
        assert Retrieval()(queries, candidates).isnan()


def test_a_positive_at_infinity_is_not_won():
    assert Retrieval()(torch.ones(1, 1), torch.tensor([[math.inf], [1.0]])).isnan()


def test_a_row_without_a_finite_loss_can_be_left_out():
    queries, candidates, positives = torch.randn(4, 3), torch.randn(6, 3), torch.arange(4)
    bias, weight = torch.zeros(6), torch.tensor([1.0, 0.0, 1.0, 1.0])
    bias[1] = -torch.inf

    def gradient():
        given = queries.clone().requires_grad_()
        dot_product_cross_entropy(given, candidates, positives, weight=weight, bias=bias).sum().backward()
        return given.grad

    with native.without_kernels():
        expected = gradient()
    torch.testing.assert_close(gradient(), expected)
    assert expected.isfinite().all()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_share_the_work(threads):
    rng = np.random.default_rng(4)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same(*draw(rng, 301, 505, 18), ids=torch.from_numpy(rng.integers(40, size=505)))
    finally:
        torch.set_num_threads(before)


def test_columns_of_other_layouts():
    queries, candidates = torch.randn(16, 30).T[:, ::2], torch.randn(8, 50).T
    assert_same(queries, candidates, torch.arange(30).flip(0), weight=torch.randn(1).expand(30))
    for positives in (torch.arange(60)[::2], torch.zeros(1, dtype=torch.int64).expand(30)):
        assert_same(queries, candidates, positives % 50)


def test_what_the_kernels_cannot_take_goes_through_torch(monkeypatch):
    called, floats = [], torch.zeros(3, 2)
    monkeypatch.setattr(softmax_by_kernel, "call", lambda name, *rest: (called.append(name), native.call(name, *rest)))

    def is_fused(queries, candidates, **more):
        called.clear()
        dot_product_cross_entropy(queries, candidates, torch.zeros(len(queries), dtype=torch.int64), **more)
        return bool(called)

    assert is_fused(floats, floats)
    assert not is_fused(floats.double(), floats.double())
    assert not is_fused(floats[:0], floats)
    assert not is_fused(floats[:, :0], floats[:, :0])
    assert not is_fused(floats, floats, bias=torch.zeros(3, requires_grad=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fused(floats, floats.bfloat16())
    with native.without_kernels():
        assert not is_fused(floats, floats)


def both(task, queries, candidates, **more):
    """Loss and gradients with kernels and without."""
    found = []
    for without in (False, True):
        inputs = [queries.clone().requires_grad_(), candidates.clone().requires_grad_()]
        with native.without_kernels() if without else torch.enable_grad():
            loss = task(*inputs, **more)
            loss.backward()
        found.append([loss.detach(), *(tensor.grad for tensor in inputs)])
    return found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_setting_of_the_task_that_is_fused(symmetric, temperature, reduction):
    torch.manual_seed(5)
    task = Retrieval(
        temperature=temperature,
        symmetric=symmetric,
        reduction=reduction,
        remove_accidental_hits=True,
        log_q=True,
    )
    found, expected = both(
        task,
        torch.randn(37, 12),
        torch.randn(45, 12),
        candidate_ids=torch.randint(20, (45,)),
        log_q=torch.rand(45).log(),
        weight=torch.tensor([0.0, 1.0, 2.5]).repeat(13)[:37],
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, theirs.abs().max().item()))


WRONG_POSITIVES = [
    torch.tensor([2]),
    torch.arange(5)[:, None],
    torch.arange(4),
    torch.arange(5, dtype=torch.int32),
    torch.ones(5, dtype=torch.bool),
]


@pytest.mark.parametrize("positives", WRONG_POSITIVES, ids=["short", "column", "fewer", "int32", "bool"])
def test_positives_of_another_shape_are_refused_as_ever(positives):
    with native.without_kernels(), pytest.raises(ShapeError, match="positives"):
        Retrieval()(torch.randn(5, 4), torch.randn(9, 4), positives=positives)
    with pytest.raises(ShapeError, match="positives"):
        Retrieval()(torch.randn(5, 4), torch.randn(9, 4), positives=positives)


def test_positives_outside_are_refused_as_ever():
    for wrong in (-1, 9):
        with pytest.raises(DataError, match=f"got {wrong}"):
            Retrieval()(torch.randn(2, 4), torch.randn(9, 4), positives=torch.tensor([0, wrong]))


def test_ids_that_are_no_integers_are_refused_as_ever():
    task, embeddings = Retrieval(remove_accidental_hits=True), torch.randn(3, 2)
    with pytest.raises(ShapeError, match="candidate_ids"):
        task(embeddings, embeddings, candidate_ids=torch.tensor([0.0, 0.5, 1.0]))


def test_a_correction_that_learns_has_a_gradient():
    log_q = torch.zeros(5, requires_grad=True)
    Retrieval(log_q=True)(torch.randn(5, 4, requires_grad=True), torch.randn(5, 4), log_q=log_q).backward()
    assert log_q.grad is not None


class TwoTables(torch.nn.Module):
    def __init__(self, dense):
        super().__init__()
        torch.manual_seed(7)
        self.queries, self.candidates = rr.EmbeddingTable(60, 8), rr.EmbeddingTable(40, 8)
        self.dense = torch.nn.Linear(8, 8) if dense else torch.nn.Identity()

    def forward(self, queries, candidates):
        return self.dense(self.queries(queries)), self.candidates(candidates)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("optimizer", [rr.optim.Adagrad(lr=0.3), rr.optim.LazyAdam(lr=0.02)])
def test_a_hundred_steps_take_the_same_way(dense, optimizer):
    def losses():
        model, rng = TwoTables(dense), np.random.default_rng(8)
        task = Retrieval(temperature=0.3, remove_accidental_hits=True, log_q=True)
        moved, curve, log_q = optimizer.build(model.named_parameters()), [], torch.full((40,), 1 / 38).log()
        for _ in range(100):
            queries = torch.from_numpy(rng.integers(2, 60, 32))
            ids = queries % 37 + 2
            moved.zero_grad()
            loss = task(*model(queries, ids), candidate_ids=ids, log_q=log_q[ids])
            loss.backward()
            moved.step()
            curve.append(loss.item())
        return curve

    found = losses()
    with native.without_kernels():
        expected = losses()
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0] / 2


def test_a_hundred_steps_of_sgd_take_the_same_way():
    def losses():
        torch.manual_seed(9)
        first, second, features = torch.nn.Linear(6, 5), torch.nn.Linear(6, 5), torch.randn(200, 6)
        moved, curve = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.5), []
        for step in range(100):
            rows = features[step % 7 :: 7]
            moved.zero_grad()
            loss = Retrieval(symmetric=True)(first(rows), second(rows))
            loss.backward()
            moved.step()
            curve.append(loss.item())
        return curve

    found = losses()
    with native.without_kernels():
        assert found == pytest.approx(losses(), rel=1e-4)
    assert found[-1] < found[0] / 1.5


class Hinge(torch.nn.Module):
    def forward(self, scores, positives):
        own = scores.gather(1, positives[:, None])
        return (scores - own + 1).clamp(min=0).nan_to_num(neginf=0).sum(dim=1) - 1


BLOCKED = {
    "mask": ({}, {"score_mask": torch.rand(40, 50, generator=torch.Generator().manual_seed(0)) < 0.8}),
    "hard negatives": ({"num_hard_negatives": 3}, {}),
    "loss of one's own": ({"loss": Hinge()}, {}),
    "log q a row": ({"log_q": True}, {"log_q": torch.rand(40, 50, generator=torch.Generator().manual_seed(1)).log()}),
    "symmetric": ({"symmetric": True, "num_hard_negatives": 5}, {}),
    "positives": ({"num_hard_negatives": 5}, {"positives": torch.arange(40) // 2}),
    "all": (
        {"symmetric": True, "loss": Hinge(), "num_hard_negatives": 9, "temperature": 0.5, "reduction": "sum"},
        {"score_mask": torch.rand(40, 50, generator=torch.Generator().manual_seed(2)) < 0.6},
    ),
}


@pytest.mark.parametrize("heads", [0, 3])
@pytest.mark.parametrize(("settings", "inputs"), BLOCKED.values(), ids=BLOCKED)
def test_blocks_are_one_block(settings, inputs, heads, monkeypatch):
    torch.manual_seed(10)
    queries, candidates = torch.randn(40, heads, 6) if heads else torch.randn(40, 6), torch.randn(50, 6)
    ids, weight = torch.randint(25, (50,)), torch.tensor([0.0, 1.0, 2.0, 0.5]).repeat(10)

    def everything():
        task = Retrieval(**settings, remove_accidental_hits=True, batch_metrics=[BatchTopK(ks=(1, 3))])
        learned = [queries.clone().requires_grad_(), candidates.clone().requires_grad_()]
        loss = task(*learned, **inputs, candidate_ids=ids, weight=weight)
        loss.backward()
        assert task.batch_metrics[0].num_rows == 40
        return [loss.detach(), *(tensor.grad for tensor in learned), *task.results().values()]

    expected = everything()
    for limit in (1, 50 * 7, 50 * 39):  # blocks of one row, of seven, and one that leaves a single row
        monkeypatch.setattr(softmax_by_torch, "_SCORES_AT_ONCE_CPU", limit)
        for ours, theirs in zip(everything(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_scores_of_a_large_batch_are_never_in_memory():
    batch, dim = 16_384, 16
    queries, candidates = torch.randn(batch, dim, requires_grad=True), torch.randn(batch, dim, requires_grad=True)
    with peak_memory() as peak, Recorded() as record:
        Retrieval()(queries, candidates).backward()
    assert max(record.largest, peak.grown) < 20 * batch * dim * 4 < batch * batch * 4 / 40


def test_blocks_of_scores_are_dropped_before_the_next():
    batch = 4096
    queries, candidates = torch.randn(batch, 4, requires_grad=True), torch.randn(batch, 4, requires_grad=True)
    with Recorded() as record:
        Retrieval(num_hard_negatives=2)(queries, candidates).backward()
    assert record.largest < batch * batch * 4 / 4


def one_pass_and_two(monkeypatch, losses_of):
    """Return what losses and gradients are with the gradients made beside the losses, and after them."""
    first = losses_of()
    monkeypatch.setattr(softmax_by_kernel, "_KEPT_SCORES", 0)
    return zip(first, losses_of(), strict=True)


@pytest.mark.parametrize(("batch", "num_candidates", "dim"), [(1, 1, 1), (57, 300, 7), (200, 33, 32), (113, 1000, 65)])
@pytest.mark.parametrize("size", [0.3, 20.0])  # large scores raise the base of rows on the way
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_beside_the_losses_are_those_after_them(batch, num_candidates, dim, size, weighted, monkeypatch):
    queries, candidates = size * torch.randn(batch, dim), torch.randn(num_candidates, dim)
    positives, ids = torch.randint(num_candidates, (batch,)), torch.randint(50, (num_candidates,))
    weight = torch.rand(batch).where(torch.rand(batch) > 0.2, 0) if weighted else None

    def losses_of():
        leaves = [tensor.clone().requires_grad_() for tensor in (queries, candidates)]
        losses = dot_product_cross_entropy(*leaves, positives, weight=weight, bias=torch.zeros(num_candidates), ids=ids)
        return [losses, *torch.autograd.grad(losses.mean() * 3, leaves)]

    for one, two in one_pass_and_two(monkeypatch, losses_of):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_a_gradient_that_differs_from_row_to_row():
    queries, candidates = torch.randn(40, 6, requires_grad=True), torch.randn(90, 6, requires_grad=True)
    positives, pull = torch.arange(40), torch.rand(40)
    weight = torch.rand(40)
    outside = (dot_product_cross_entropy(queries, candidates, positives) * weight * pull).sum()
    inside = (dot_product_cross_entropy(queries, candidates, positives, weight=weight) * pull).sum()
    expected = torch.autograd.grad(outside, (queries, candidates))
    for found, exact in zip(torch.autograd.grad(inside, (queries, candidates)), expected, strict=True):
        torch.testing.assert_close(found, exact)


def test_a_query_of_weight_zero_takes_no_part():
    queries, candidates = torch.randn(20, 4), torch.randn(30, 4)
    queries[3] = torch.inf
    weight = torch.ones(20)
    weight[3] = 0
    leaves = [queries.requires_grad_(), candidates.requires_grad_()]
    losses = dot_product_cross_entropy(*leaves, torch.arange(20), weight=weight)
    assert losses[3] == 0
    assert losses.isfinite().all()


def test_without_gradients_none_are_made(monkeypatch):
    called = []
    monkeypatch.setattr(softmax_by_kernel, "call", lambda name, *rest: (called.append(name), native.call(name, *rest)))
    with torch.no_grad():
        dot_product_cross_entropy(torch.randn(20, 4, requires_grad=True), torch.randn(30, 4), torch.arange(20))
    assert "softmax_forward" in called
    assert "softmax_both" not in called


def test_weights_that_learn_have_gradients():
    queries, candidates, positives = torch.randn(20, 4), torch.randn(30, 4), torch.arange(20)
    weight = torch.rand(20, requires_grad=True)
    dot_product_cross_entropy(queries, candidates, positives, weight=weight).sum().backward()
    torch.testing.assert_close(weight.grad, F.cross_entropy(queries @ candidates.T, positives, reduction="none"))
