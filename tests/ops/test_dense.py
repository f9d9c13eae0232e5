"""Stacks of dense layers against torch's own linear maps in float64: values, gradients, gradients of gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core import native
from retrank.layers.mlp import MLP
from retrank.ops.dense import Dense, dense, dense_stack

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def layers_of(widths, *, bias, rectified, generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return [
        Dense(draw(after, before) / before**0.5, draw(after) if with_bias else None, with_relu)
        for before, after, with_bias, with_relu in zip(widths[:-1], widths[1:], bias, rectified, strict=True)
    ]


def by_torch(inputs, layers):
    for weight, bias, rectified in layers:
        inputs = F.linear(inputs, weight, bias)
        inputs = inputs.relu() if rectified else inputs
    return inputs


def leaves_of(inputs, layers, dtype=torch.float32):
    inputs = inputs.to(dtype).requires_grad_()
    copied = [
        Dense(*(None if t is None else t.detach().to(dtype).requires_grad_() for t in layer[:2]), layer.rectified)
        for layer in layers
    ]
    return inputs, copied, [inputs, *(t for layer in copied for t in layer[:2] if t is not None)]


@given(
    batch=st.sampled_from([0, 1, 31, 32, 33, 47, 170, 341]),
    widths=st.lists(st.sampled_from([1, 2, 15, 16, 17, 33, 64]), min_size=2, max_size=4),
    data=st.data(),
)
@settings(max_examples=60)
def test_values_and_gradients_are_those_of_torch(batch, widths, data):
    flags = st.lists(st.booleans(), min_size=len(widths) - 1, max_size=len(widths) - 1)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    layers = layers_of(widths, bias=data.draw(flags), rectified=data.draw(flags), generator=generator)
    inputs, pull = torch.randn(batch, widths[0], generator=generator), torch.randn(batch, widths[-1])
    threads = torch.get_num_threads()
    torch.set_num_threads(data.draw(st.integers(1, 3)))
    try:
        ours_in, ours, leaves = leaves_of(inputs, layers)
        values = dense_stack(ours_in, ours)
        gradients = torch.autograd.grad(values, leaves, pull)
    finally:
        torch.set_num_threads(threads)
    exact_in, exact, exact_leaves = leaves_of(inputs, layers, torch.float64)
    expected = by_torch(exact_in, exact)
    # A hidden value that rounding may have on either side of zero has the gradient of one side or the other.
    near_zero = any(
        (by_torch(exact_in, [*exact[:place], layer._replace(rectified=False)]).abs() < 1e-5).any()
        for place, layer in enumerate(exact)
        if layer.rectified
    )
    torch.testing.assert_close(values.double(), expected, rtol=1e-4, atol=1e-5)
    if not near_zero:
        for ours_grad, exact_grad in zip(
            gradients, torch.autograd.grad(expected, exact_leaves, pull.double()), strict=True
        ):
            torch.testing.assert_close(ours_grad.double(), exact_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 3), (5, 8, 3), (2, 4, 5, 3), (3,)])
def test_any_leading_shape(shape):
    inputs, weight = torch.randn(shape), torch.randn(6, 3)
    torch.testing.assert_close(dense(inputs, weight), F.linear(inputs, weight))


def test_memory_that_is_not_contiguous():
    wide = torch.randn(60, 20)
    weight = torch.randn(12, 9)
    columns, transposed, weight_too = wide[:, 4:13], torch.randn(9, 60).T, torch.randn(9, 12).T
    one_row = torch.randn(1, 9).expand(60, 9)
    for inputs in (columns, transposed, one_row):
        for matrix in (weight, weight_too):
            torch.testing.assert_close(dense(inputs, matrix), F.linear(inputs, matrix), rtol=1e-5, atol=1e-5)
    leaf = wide.clone().requires_grad_()
    dense(leaf[:, 4:13], weight)[:, 1:5].sum().backward()  # the gradient is not contiguous either
    expected = torch.zeros(60, 20)
    expected[:, 4:13] = weight[1:5].sum(dim=0)
    torch.testing.assert_close(leaf.grad, expected)


def second_order(stack, inputs, layers):
    inputs, layers, leaves = leaves_of(inputs, layers)
    outputs = stack(inputs, layers).sin().sum()
    first = torch.autograd.grad(outputs, leaves, create_graph=True)
    return [outputs, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)]


@pytest.mark.parametrize(("batch", "widths"), [(1, [1, 16]), (7, [20, 33]), (300, [64, 16]), (50, [5, 8, 4])])
def test_it_can_be_derived_twice(batch, widths):
    rectified = [True] * (len(widths) - 2) + [False]
    layers = layers_of(widths, bias=[True] * len(rectified), rectified=rectified, generator=None)
    inputs = torch.randn(batch, widths[0])
    for ours, theirs in zip(
        second_order(dense_stack, inputs, layers), second_order(by_torch, inputs, layers), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_same_graph_can_be_run_through_twice():
    inputs, layers, leaves = leaves_of(torch.randn(50, 6), [Dense(torch.randn(8, 6), None, True)])
    outputs = dense_stack(inputs, [*layers, Dense(torch.ones(2, 8), None, True)])
    once = torch.autograd.grad(outputs.sum(), leaves, retain_graph=True)
    again = torch.autograd.grad(outputs.sum(), leaves)
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))


def test_nan_and_infinity_are_not_hidden():
    inputs = torch.zeros(40, 3)
    inputs[7, 1], inputs[9, 2] = torch.nan, torch.inf
    outputs = dense_stack(inputs, [Dense(torch.ones(4, 3), None, True), Dense(torch.ones(2, 4), None, False)])
    assert outputs[7].isnan().all()
    assert outputs[9].isinf().all()
    assert (outputs[[0, 8, 10, 39]] == 0).all()


def test_only_what_is_wanted_is_computed():
    weight = torch.randn(5, 3, requires_grad=True)
    inputs = torch.randn(40, 3)
    dense(inputs, weight).sum().backward()
    assert inputs.grad is None
    torch.testing.assert_close(weight.grad, inputs.sum(dim=0).expand(5, 3))
    frozen = torch.randn(40, 3, requires_grad=True)
    dense(frozen, weight.detach()).sum().backward()
    torch.testing.assert_close(frozen.grad, weight.detach().sum(dim=0).expand(40, 3))


def test_a_weight_that_changed_before_its_gradient_is_noticed():
    weight = torch.randn(5, 3, requires_grad=True)
    outputs = dense(torch.randn(40, 3, requires_grad=True), weight)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_an_mlp_is_one_stack_unless_somebody_listens():
    mlp, heard = MLP(4, [8, 3], final_activation=nn.ReLU()), []
    inputs = torch.randn(50, 4)
    expected = mlp(inputs)
    handle = mlp.linears[0].register_forward_hook(lambda module, args, output: heard.append(output))
    torch.testing.assert_close(mlp(inputs), expected)
    assert len(heard) == 1
    handle.remove()
    mlp(inputs)
    assert len(heard) == 1


def test_hooks_of_a_dropout_that_does_nothing_are_called():
    mlp, heard = MLP(4, [8, 3], dropout=0.5).eval(), []
    mlp.dropout.register_forward_hook(lambda module, args, output: heard.append(output))
    mlp(torch.randn(50, 4))
    assert len(heard) == 1


def test_a_layer_that_was_replaced_is_called():
    mlp = MLP(4, [8, 3])
    mlp.linears[1] = nn.Linear(8, 7)
    assert mlp(torch.randn(50, 4)).shape == (50, 7)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.GELU(), nn.PReLU()])
def test_other_activations_and_dropout_are_called(activation):
    mlp = MLP(4, [8, 3], activation=activation)
    inputs = torch.randn(50, 4)
    first, last = mlp.linears
    expected = F.linear(activation(F.linear(inputs, first.weight, first.bias)), last.weight, last.bias)
    torch.testing.assert_close(mlp(inputs), expected)
    torch.manual_seed(3)
    dropped = MLP(4, [1000, 1], dropout=0.5).train()
    assert not torch.equal(dropped(inputs), dropped(inputs))


def test_a_hundred_steps_take_the_same_way():
    def trained():
        torch.manual_seed(5)
        model, inputs, labels = MLP(9, [40, 20, 1]), torch.randn(200, 9), torch.randn(200)
        optimizer = rr.optim.Adagrad(lr=0.05).build(model.named_parameters())
        for _ in range(100):
            optimizer.zero_grad()
            F.mse_loss(model(inputs)[:, 0], labels).backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    ours = trained()
    with native.without_kernels():
        torch.testing.assert_close(ours, trained(), rtol=1e-3, atol=1e-4)


def test_transforms_of_functions_go_through_torch():
    mlp, inputs = MLP(4, [8, 1]), torch.randn(50, 4)
    parameters = dict(mlp.named_parameters())

    def loss(parameters, row):
        return torch.func.functional_call(mlp, parameters, (row[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, inputs)
    mlp(inputs).square().sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(each[name].sum(dim=0), parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("widths", [(3, 9), (9, 3)])
def test_widths_that_do_not_fit_are_refused_and_not_read_beyond(widths):
    given, wanted = widths
    with pytest.raises(rr.errors.ShapeError, match="in layer"):
        dense(torch.randn(50, given), torch.randn(4, wanted))
    with pytest.raises(rr.errors.ShapeError, match="in layer"):
        dense_stack(
            torch.randn(50, 5), [Dense(torch.randn(given, 5), None, True), Dense(torch.randn(2, wanted), None, False)]
        )
