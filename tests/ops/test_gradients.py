"""Every operation's gradient under what torch may do to the tensors that a backward pass needs."""

import threading
from functools import partial

import pytest
import torch
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import retrank as rr
from retrank.core import native
from retrank.ops import softmax_by_kernel, softmax_by_torch
from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups
from retrank.ops.dense import Dense, dense_stack
from retrank.ops.dot_interaction import dot_interaction
from retrank.ops.lookup import gather, pool
from retrank.ops.rank_one_crosses import rank_one_crosses
from retrank.ops.softmax import dot_product_cross_entropy

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

LISTS = rr.Jagged.from_lists([[2, 3, 2], [], [8, 1]] * 20)
IDS, POSITIVES, CANDIDATE_IDS = torch.arange(60) % 9, torch.arange(60) % 40, torch.arange(80) % 50


def stack(inputs, first, bias, second):
    return dense_stack(inputs, [Dense(first, bias, rectified=True), Dense(second, None, rectified=True)])


def lookups(table, inputs, lists=LISTS, ids=IDS):
    return concatenate_lookups([Lookup(table, ids, "sum"), inputs, Lookup(table, lists, "mean")])


def softmax_by_row(queries, candidates, first_shared=0):
    return dot_product_cross_entropy(
        queries,
        candidates,
        POSITIVES,
        ids=CANDIDATE_IDS,
        bias=torch.zeros(80, dtype=queries.dtype),
        first_shared=first_shared,
    )


OPERATIONS = {
    "dense": (stack, [(60, 8), (32, 8), (32,), (5, 32)]),
    "lookups": (lookups, [(9, 4), (60, 3)]),
    "gather": (partial(gather, ids=IDS), [(9, 4)]),
    "pool": (partial(pool, lists=LISTS, pooling="sqrtn"), [(9, 4)]),
    "dot interaction": (lambda *fields: dot_interaction(fields, self_interaction=True), [(60, 8)] * 4),
    "crosses": (rank_one_crosses, [(60, 7), (3, 7), (3, 7), (3, 7)]),
    "softmax": (softmax_by_row, [(60, 8), (80, 8)]),
    "softmax of a sample": (partial(softmax_by_row, first_shared=40), [(60, 8), (80, 8)]),
    "softmax in two passes": (softmax_by_row, [(60, 8), (80, 8)]),
}


@pytest.fixture(params=OPERATIONS)
def operation(request, monkeypatch):
    if request.param == "softmax in two passes":
        monkeypatch.setattr(softmax_by_kernel, "_KEPT_SCORES", 0)
        monkeypatch.setattr(softmax_by_torch, "_SCORES_AT_ONCE_CPU", 80 * 7)
    function, shapes = OPERATIONS[request.param]
    return function, [torch.randn(shape) for shape in shapes]


def gradients(function, inputs, *, retain=False):
    """Gradients of something that needs the outputs, with other things in the memory that was freed in between."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    loss = loss_of(function, leaves)
    _ = [torch.full((size, size), -1.0) for size in (8, 64, 128, 256) for _ in range(4)]
    loss.backward(retain_graph=retain)
    found = [dense(leaf.grad) for leaf in leaves]
    if retain:
        again = torch.autograd.grad(loss, leaves)
        assert all(torch.equal(one, dense(two)) for one, two in zip(found, again, strict=True))
    return found


def loss_of(function, leaves):
    return torch.exp(function(*leaves) * 1e-2).sum()


def dense(gradient):
    return gradient.to_dense() if gradient.is_sparse else gradient


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputed_activations_give_the_same_gradients(operation, use_reentrant):
    function, inputs = operation
    again = partial(checkpoint, function, use_reentrant=use_reentrant)
    assert_same(gradients(again, inputs), gradients(function, inputs))


HOOKS = {
    "clones": lambda: saved_tensors_hooks(torch.clone, torch.clone),
    "lists": lambda: saved_tensors_hooks(lambda t: (t.dtype, t.tolist(), t.shape), lambda p: remade(*p)),
    "on the CPU": save_on_cpu,
    "strided": lambda: saved_tensors_hooks(lambda t: torch.stack([t, t], dim=-1), lambda t: t[..., 0]),
}


def remade(dtype, numbers, shape):
    return torch.tensor(numbers, dtype=dtype).view(shape)


@pytest.mark.parametrize("hooks", HOOKS.values(), ids=HOOKS)
def test_what_is_saved_may_be_kept_elsewhere(operation, hooks):
    function, inputs = operation

    def hooked(*leaves):
        with hooks():
            return function(*leaves)

    assert_same(gradients(hooked, inputs), gradients(function, inputs))


def test_saved_tensors_of_another_size_are_refused_and_not_read(operation):
    function, inputs = operation
    if function is OPERATIONS["pool"][0]:
        pytest.skip("torch takes them for lists without ids")

    def hooked(*leaves):
        with saved_tensors_hooks(lambda t: t, lambda t: t.new_empty(0)):
            return function(*leaves)

    with pytest.raises(Exception):  # noqa: B017 (torch's or ours; reading beyond would end the process)
        gradients(hooked, inputs)


def test_a_graph_can_be_run_through_twice(operation):
    function, inputs = operation
    gradients(function, inputs, retain=True)


def test_an_input_that_changed_in_between_is_noticed(operation):
    function, inputs = operation
    for changed in range(len(inputs)):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        loss = loss_of(function, leaves)
        with torch.no_grad():
            leaves[changed].mul_(2)
        try:
            loss.backward()
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)  # noqa: PT017
        else:  # only what a gradient does not depend on may change
            assert_same([dense(leaf.grad) for leaf in leaves], gradients(function, inputs))


def test_ids_and_offsets_that_changed_in_between_are_noticed():
    for change in ("ids", "values", "offsets"):
        ids = IDS.clone()
        lists = rr.Jagged(LISTS.values.clone(), LISTS.offsets.clone())
        table, inputs = torch.randn(9, 4, requires_grad=True), torch.randn(60, 3)
        outputs = lookups(table, inputs, lists, ids).sum()
        {"ids": ids, "values": lists.values, "offsets": lists.offsets}[change].zero_()
        if change == "offsets" and not native.is_native(inputs):
            continue  # plain torch needs the row of each id instead
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            outputs.backward()


def test_second_derivatives_are_those_of_plain_torch(operation):
    function, inputs = operation

    def second():
        leaves = [tensor.double().float().requires_grad_() for tensor in inputs]
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        total = sum(dense(gradient).square().mean() for gradient in first)
        return [dense(gradient) for gradient in torch.autograd.grad(total, leaves)]

    with native.without_kernels():
        expected = second()
    for ours, theirs in zip(second(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * max(1.0, theirs.abs().max().item()))


def test_threads_may_go_backward_at_once(operation):
    function, inputs = operation
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = gradients(function, inputs)
    graphs, found = [loss_of(function, leaves) for _ in range(8)], []

    def run(graph):
        found.append([dense(gradient) for gradient in torch.autograd.grad(graph, leaves)])

    threads = [threading.Thread(target=run, args=(graph,)) for graph in graphs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for each in found:
        assert_same(each, expected)


def test_steps_that_change_leaves_in_place_take_the_same_way(operation):
    function, inputs = operation

    def walked():
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        for _ in range(3):
            found = torch.autograd.grad(loss_of(function, leaves), leaves)
            with torch.no_grad():
                for leaf, gradient in zip(leaves, found, strict=True):
                    leaf.sub_(0.1 * dense(gradient))
        return [leaf.detach() for leaf in leaves]

    with native.without_kernels():
        expected = walked()
    for ours, theirs in zip(walked(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
def test_forward_derivatives_go_through_torch(operation):
    function, inputs = operation
    if function in (OPERATIONS["lookups"][0], OPERATIONS["gather"][0], OPERATIONS["pool"][0]):
        pytest.skip("row-sparse gradients are made by functions without forward derivatives")
    scaled = [tensor * 0.1 for tensor in inputs]
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(tensor, tensor) for tensor in scaled]
        found = torch.autograd.forward_ad.unpack_dual(function(*duals)).tangent
    _, transformed = torch.func.jvp(function, tuple(scaled), tuple(scaled))
    torch.testing.assert_close(transformed, found)
    step = [function(*(tensor.double() * size for tensor in scaled)) for size in (1.001, 0.999)]
    torch.testing.assert_close(found.double(), (step[0] - step[1]) / 0.002, rtol=1e-3, atol=1e-3)
