"""`CachedStack` gives at every call the bits of `dense_stack`, whatever became of the weights since the last one."""

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.layers.mlp import MLP
from retrank.ops.dense import CachedStack, Dense, dense_stack

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def _fresh(shape):
    return torch.randn(shape)


def _in_place(layers):
    with torch.no_grad():
        layers[0].weight.mul_(2)
    return layers


def _other_memory(layers):
    layers[0].weight.data = torch.randn_like(layers[0].weight)
    return layers


def _transposed(layers):
    weight = layers[0].weight
    if weight.shape[0] == weight.shape[1]:
        weight.data = weight.data.t()  # the same memory
    return layers


def _other_width(layers):
    first = layers[0]
    return [Dense(_fresh((len(first.weight), first.weight.shape[1] + 1)), *first[1:]), *layers[1:]]


def _without_bias(layers):
    return [*layers[:-1], layers[-1]._replace(bias=None)]


def _other_activation(layers):
    return [*layers[:-1], layers[-1]._replace(rectified=not layers[-1].rectified)]


def _shrunk(layers):
    weight = layers[-1].weight
    if len(weight) < 2:
        return layers
    weight.data = weight.data[: len(weight) - 1]  # the same address
    return [*layers[:-1], layers[-1]._replace(bias=None)]


CHANGES = [_in_place, _other_memory, _transposed, _other_width, _without_bias, _other_activation, _shrunk]


@given(
    widths=st.lists(st.sampled_from([1, 2, 16, 17, 33]), min_size=2, max_size=4),
    changes=st.lists(st.sampled_from([*CHANGES, None]), max_size=8),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_call_is_a_call_of_dense_stack(widths, changes, seed):
    torch.manual_seed(seed)
    layers = [Dense(_fresh((b, a)), _fresh((b,)), True) for a, b in itertools.pairwise(widths)]
    stack = CachedStack()
    with torch.no_grad():
        for change in [None, *changes]:
            layers = layers if change is None else change(layers)
            for batch in (1, 0, 5, 40):
                inputs = _fresh((batch, layers[0].weight.shape[1]))
                assert torch.equal(stack(inputs, layers), dense_stack(inputs, layers))
            wide = _fresh((7, 2 * inputs.shape[1]))
            for rows in (wide[:, : inputs.shape[1]], wide[:, ::2], inputs.t().contiguous().t()):
                assert torch.equal(stack(rows, layers), dense_stack(rows, layers))


def test_what_does_not_fit_is_refused_after_a_call_that_fitted():
    stack, layers = CachedStack(), [Dense(torch.randn(3, 4), torch.randn(3), True)]
    with torch.no_grad():
        stack(torch.randn(2, 4), layers)
        for inputs in (torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 0), torch.randn(2, 4, dtype=torch.float64)):
            with pytest.raises(rr.errors.RetrankError):
                stack(inputs, layers)
        assert stack(torch.randn(2, 4), layers).shape == (2, 3)


def test_memory_that_was_freed_is_not_read_for_weights_that_took_its_place():
    stack = CachedStack()
    with torch.no_grad():
        for width in (64, 8, 64, 8, 16):
            for _ in range(20):  # the allocator gives the same address again
                layers = [Dense(torch.randn(width, 16), torch.randn(width), False)]
                inputs = torch.randn(1, 16)
                assert torch.equal(stack(inputs, layers), dense_stack(inputs, layers))


def test_a_module_learns_loads_is_copied_and_pickled_between_calls():
    torch.manual_seed(0)
    module, other = MLP(5, (8, 3)), MLP(5, (8, 3))
    inputs = torch.randn(4, 5)

    def plain(of):
        first, last = of.linears
        return dense_stack(inputs, [Dense(first.weight, first.bias, True), Dense(last.weight, last.bias, False)])

    def check(of):
        with torch.no_grad():
            before = of(inputs)
            assert torch.equal(before, plain(of))
        with torch.inference_mode():
            assert torch.equal(of(inputs), before)

    check(module)
    module(inputs).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    check(module)
    module.load_state_dict(other.state_dict())
    check(module)
    module.load_state_dict(MLP(5, (8, 3)).state_dict(), assign=True)
    check(module)
    copied = copy.deepcopy(module)
    copied.load_state_dict(other.state_dict())
    check(copied)
    check(module)
    check(pickle.loads(pickle.dumps(module)))
    module.linears[1] = nn.Linear(8, 3)
    module.activations[0] = nn.Identity()
    with torch.no_grad():
        expected = module.linears[1](module.linears[0](inputs))
        torch.testing.assert_close(module(inputs), expected)


def test_threads_that_share_a_module_get_what_one_gets():
    torch.manual_seed(0)
    modules = [MLP(6, (16, 4)), MLP(6, (16, 4))]
    inputs = torch.randn(3, 6)
    stack = CachedStack()
    pairs = [[Dense(layer.weight, layer.bias, True) for layer in module.linears] for module in modules]

    def ask(place):
        with torch.no_grad():
            return all(
                torch.equal(stack(inputs, layers), dense_stack(inputs, layers))
                for n in range(place, place + 200)
                for layers in [pairs[n % 2]]
            )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))
