"""The door of optimizer steps: what it does is right, and it touches nothing but what it was given."""

import threading
from array import array
from contextvars import copy_context

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optim.learners import SPECS, named, same
from torch import nn

from retrank.core import native
from retrank.core.errors import RetrankError
from retrank.ops.optimizer_step import Update, optimizer_step
from retrank.ops.update_rules import AdagradRule, AdamRule, RowwiseAdagradRule, Slot

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@pytest.mark.parametrize("spec", SPECS, ids=named)
@pytest.mark.parametrize("num_threads", [1, 4])
def test_parameters_that_share_memory_step_one_after_another(spec, num_threads):
    """Views of one tensor, as tied tables are that were tied by hand; a copy of each steps alone for comparison."""
    torch.set_num_threads(num_threads)
    try:
        whole, generator = torch.randn(3_000, 8), torch.Generator().manual_seed(1)
        expected = whole.clone()
        views = [nn.Parameter(whole[start:]) for start in (0, 1_000, 0)]
        optimizer = spec.build([(str(place), view) for place, view in enumerate(views)])
        alone = [spec.build([("w", nn.Parameter(torch.zeros_like(view)))]) for view in views]
        for _ in range(5):
            for view, single in zip(views, alone, strict=True):
                [copied] = single.param_groups[0]["params"]
                view.grad = copied.grad = torch.randn(view.shape, generator=generator)
            optimizer.step()
            for single in alone:
                [copied] = single.param_groups[0]["params"]
                part = expected[len(expected) - len(copied) :]
                copied.data.copy_(part)
                single.step()
                part.copy_(copied.data)
            assert torch.equal(whole, expected)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_optimizers_step_in_threads_as_they_do_one_after_another(spec):
    def learn(seed, found):
        generator = torch.Generator().manual_seed(seed)
        table = nn.Parameter(torch.randn(500, 8, generator=generator))
        dense = nn.Parameter(torch.randn(50, 8, generator=generator))
        optimizer = spec.build([("table", table), ("dense", dense)])
        for _ in range(30):
            ids = torch.randint(500, (1, 200), generator=generator)
            values = torch.randn(200, 8, generator=generator)
            table.grad = torch.sparse_coo_tensor(ids, values, table.shape, check_invariants=False)
            dense.grad = torch.randn(50, 8, generator=generator)
            optimizer.step()
        found[seed] = (table.detach(), dense.detach())

    alone, together = {}, {}
    for seed in range(4):
        learn(seed, alone)
    # A thread has a context of its own, and with it kernels, unless it copies that of the test.
    threads = [threading.Thread(target=copy_context().run, args=(learn, seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(alone[seed], together[seed]) for seed in range(4))


# The door itself: any parameter, gradient and state, each within a larger piece of memory that must stay as it is.

SLOTS = {
    "adagrad": (Slot("accumulator", "number", 0.1),),
    "rowwise": (Slot("accumulator", "row", 0.1),),
    "adam": (Slot("mean", "number", 0.0), Slot("square", "number", 0.0)),
}
DENSE = AdagradRule(0.1, 1e-7, 0.0, SLOTS["adagrad"])
RULES = {
    "adagrad": DENSE,
    "rowwise": RowwiseAdagradRule(0.1, 1e-7, SLOTS["rowwise"], DENSE),
    "adam": AdamRule(0.1, (0.9, 0.99), 1e-8, 0.0),
}
MARGIN = 64


def within(shape, draw, dtypes, fill):
    """A tensor of some shape and strides inside of a buffer, and that buffer."""
    shape, dtype = list(shape), draw(st.sampled_from(dtypes))
    buffer = torch.full((4 * MARGIN + 4 * int(np.prod(shape)) + 8,), fill, dtype=dtype)
    kind = draw(st.sampled_from(["contiguous"] * 5 + ["transposed", "every second", "expanded"]))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    if kind == "transposed":
        strides = [int(np.prod(shape[:axis])) for axis in range(len(shape))]
    elif kind == "every second":
        strides = [2 * stride for stride in strides]
    elif kind == "expanded" and strides:
        strides[0] = 0
    return buffer.as_strided(shape, strides, MARGIN), buffer


def outside(tensor, buffer):
    places = torch.full(tensor.shape, MARGIN)
    for axis, stride in enumerate(tensor.stride()):
        shape = [-1 if other == axis else 1 for other in range(tensor.dim())]
        places += (torch.arange(tensor.shape[axis]) * stride).view(shape)
    mask = torch.ones(len(buffer), dtype=torch.bool)
    mask[places.flatten()] = False
    return buffer[mask]


@settings(max_examples=150)
@given(st.data())
def test_whatever_comes_to_the_door_is_done_right_or_refused(data):
    draw = data.draw
    rule = RULES[draw(st.sampled_from(sorted(RULES)))]
    num_rows, dim, off = draw(st.integers(0, 5)), draw(st.integers(0, 4)), st.sampled_from([0] * 12 + [1, -1])
    resized = lambda *shape: [max(0, size + draw(off)) for size in shape]  # noqa: E731
    mostly = [torch.float32] * 8
    parameter, memory = within((num_rows, dim), draw, [*mostly, torch.bfloat16, torch.float64, torch.int32], 1)
    is_sparse, held = draw(st.booleans()), [(parameter, memory)]
    values = torch.ones(0)
    if is_sparse:
        ids = draw(st.lists(st.integers(0, max(num_rows - 1, 0)) | st.sampled_from([-1, num_rows, 2**33]), max_size=6))
        values, own = within((len(ids), dim), draw, [*mostly, torch.float64], 0.5)
        shape = (num_rows, dim) if draw(st.integers(0, 9)) else [*resized(num_rows, dim)[:1], dim]
        gradient = torch.sparse_coo_tensor(torch.tensor([ids]).long(), values, shape, check_invariants=False)
    else:
        ids = []
        gradient, own = within(resized(num_rows, dim), draw, [*mostly, torch.float64, torch.complex64], 0.5)
    state = {}
    if draw(st.integers(0, 3)):
        for slot in rule.slots:
            width = dim if slot.per == "number" else 1
            state[slot.name], around = within(resized(num_rows, width), draw, [*mostly, torch.float16], 0.25)
            held.append((state[slot.name], around))
        if rule.counts_steps:
            state["step"] = draw(st.sampled_from([1, 1, 1, 5, -1, None]))
    rule = rule.for_parameter(state, is_sparse=is_sparse)
    fresh = not state
    before = [(tensor.clone(), outside(tensor, around)) for tensor, around in held]
    kept_state, kept_gradient = dict(state), own.clone()
    first = {name: kept.double().numpy() for name, kept in state.items() if torch.is_tensor(kept)}
    try:
        optimizer_step([Update(parameter, gradient, rule, state, "w")])
    except RetrankError:
        assert all(torch.equal(tensor, old) for (tensor, _), (old, _) in zip(held, before, strict=True))
        assert state == kept_state or all(state[name] is kept for name, kept in kept_state.items())
    else:
        assert parameter.is_floating_point()
        assert all(0 <= row < num_rows for row in ids)
        assert all(kept.dtype in (torch.float32, torch.float64) for kept in state.values() if torch.is_tensor(kept))
        compare(rule, parameter, before[0][0], gradient, ids, {} if fresh else first, kept_state, state)
    for (tensor, around), (_, margins) in zip(held, before, strict=True):
        assert torch.equal(outside(tensor, around), margins)
    assert torch.equal(own, kept_gradient)


def compare(rule, parameter, old, gradient, ids, first, kept_state, state):
    """Do the same in float64, row by row."""
    if gradient.is_sparse:  # not by to_dense(), which reads a single row with a stride of its own wrongly
        dense = np.zeros(gradient.shape)
        np.add.at(dense, ids, gradient._values().double().numpy())
    else:
        dense = gradient.double().numpy()
    weights, rows = old.double().numpy(), sorted(set(ids)) if gradient.is_sparse else range(len(old))
    full = {}
    for slot in rule.slots:
        kept = first.get(slot.name, np.zeros((0, *state[slot.name].shape[1:])))
        missing = np.full((len(old) - len(kept), *kept.shape[1:]), slot.start)
        full[slot.name] = np.concatenate([kept, missing])
    step = kept_state.get("step", 0) + 1
    for row in rows if dense.size else ():
        g = dense[row]
        if rule.counts_steps:
            mean, square = full["mean"], full["square"]
            mean[row] += 0.1 * (g - mean[row])
            square[row] += 0.01 * (g**2 - square[row])
            root, correction = np.sqrt(square[row]), np.sqrt(1 - 0.99**step)
            root = (root + 1e-8) / correction if gradient.is_sparse else root / correction + 1e-8
            weights[row] -= 0.1 * mean[row] / (1 - 0.9**step) / root
        else:
            a = full["accumulator"]
            is_by_number = a.shape[1:] == dense.shape[1:] and not isinstance(rule, RowwiseAdagradRule)
            a[row] += g**2 if is_by_number else (g**2).sum() / max(g.size, 1)
            weights[row] -= 0.1 * g / (np.sqrt(a[row]) + 1e-7)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if parameter.dtype != torch.bfloat16 else {"rtol": 2**-6, "atol": 1e-2}
    np.testing.assert_allclose(parameter.double(), weights, **tolerance)
    for name, expected in full.items():
        np.testing.assert_allclose(state[name].double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_gradient_shown_negated_is_read_as_shown(rule):
    """As the imaginary part of a conjugate is: memory holds the opposite sign."""
    numbers = torch.linspace(-1, 1, 12).view(4, 3)
    found = []
    for gradient in (numbers, torch._neg_view(-numbers), (torch.complex(numbers, -numbers).conj()).imag):
        parameter, own = torch.ones(4, 3), rule.for_parameter({}, is_sparse=False)
        optimizer_step([Update(parameter, gradient, own, {}, "w")])
        found.append(parameter)
    torch.testing.assert_close(found[1], found[0])  # plain torch does it, in another order
    torch.testing.assert_close(found[2], found[0])


def test_the_kernel_itself_writes_nothing_if_something_cannot_be():
    """What the door would have refused, given to the kernel directly."""
    if native.library() is None:
        pytest.skip("no C++ compiler")

    weights, kept, values = torch.ones(4, 3), torch.ones(4, 3), torch.ones(2, 3)
    good = [0, 0, values.data_ptr(), 3, 2, 4, 3, kept.data_ptr(), 0, weights.data_ptr(), 0, 0, 0]
    for rows, changes in (
        ([0, 4], {}),
        ([-1, 0], {}),
        ([0, 1], {0: 3}),
        ([0, 1], {0: -1}),
        ([0, 1], {0: 2}),  # without its second state
        ([0, 1], {2: 0}),
        ([0, 1], {3: -3}),
        ([0, 1], {4: 0}),
        ([0, 1], {5: -4}),
        ([0, 1], {6: 0}),
        ([0, 1], {7: 0}),
        ([0, 1], {9: 0}),
        (None, {}),  # of a dense gradient there is one row
    ):
        places = torch.tensor(rows or [0])
        table = array("q", good)
        table[1] = places.data_ptr() if rows else 0
        for column, value in changes.items():
            table[column] = value
        native.call("optimizer_step", table, 1, array("f", [0.1, 1e-7, 0.0, 0.0, 0.0]))
        assert table[12] == 1
        assert (weights == 1).all()
        assert (kept == 1).all()
    places = torch.tensor([0, 1])
    table = array("q", good)
    table[1] = places.data_ptr()
    native.call("optimizer_step", table, 1, array("f", [0.1, 1e-7, 0.0, 0.0, 0.0]))
    assert table[12] == 0
    assert (weights[:2] < 1).all()
