"""DCN, FM and CIN against golden numbers and loops."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import cases
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.cin import CIN
from retrank.layers.dcn import DCN
from retrank.layers.fm import FM

GOLDEN = [case for case in cases("tfrs_cross") if case["source"].endswith("MultiLayerDCN")]


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def fill(layer, seed=0):
    """Give every weight, biases too, a number of its own."""
    with torch.no_grad():
        for place, parameter in enumerate(layer.parameters()):
            parameter.copy_(torch.from_numpy(numbers(*parameter.shape, seed=seed + place)))
    return layer


def round_trip(layer, *inputs):
    again = from_config(json.loads(json.dumps(to_config(layer))))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(*inputs), layer(*inputs))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_dcn_golden(case, lazy):
    arguments, inputs = case["arguments"]["constructor"], case["inputs"]
    x0 = torch.tensor(inputs["x0"])
    layer = DCN(
        None if lazy else x0.shape[1],
        num_layers=arguments["num_layers"],
        projection_dim=arguments["projection_dim"],
        bias=arguments["use_bias"],
    )
    layer(x0)
    with torch.no_grad():
        for place, cross in enumerate(layer.layers):
            cross.down.copy_(torch.tensor(inputs["kernels_u"][place]).T)
            cross.kernel.copy_(torch.tensor(inputs["kernels_v"][place]).T)
            if arguments["use_bias"]:
                cross.bias.copy_(torch.tensor(inputs["biases"][place]))
    np.testing.assert_allclose(layer(x0).detach(), case["expected"]["output"], rtol=1e-5, atol=1e-6)


def test_dcn_has_the_defaults_of_its_source():
    layer = DCN()
    assert (len(layer.layers), layer.layers[0].projection_dim) == (3, 1)
    assert all(cross.bias is not None for cross in layer.layers)


def test_dcn_with_all_options():
    layer = fill(DCN(4, num_layers=2, projection_dim=None, diag_scale=0.3, preactivation=nn.Tanh(), l2=0.1))
    x0 = x = numbers(3, 4)
    penalty = 0.0
    for cross in layer.layers:
        kernel, bias = cross.kernel.detach().numpy(), cross.bias.detach().numpy()
        x = x0 * (np.tanh(x @ kernel.T + bias) + 0.3 * x) + x
        penalty += 0.1 * (kernel**2).sum()
    np.testing.assert_allclose(layer(torch.from_numpy(x0)).detach(), x, rtol=1e-5, atol=1e-5)
    assert sum(cross.regularization().item() for cross in layer.layers) == pytest.approx(penalty, rel=1e-5)
    round_trip(layer, torch.from_numpy(x0))


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 4))
def test_fm_is_the_sum_over_pairs(batch, count, dim):
    x = numbers(batch, count, dim)
    expected = np.zeros((batch, 1))
    for b in range(batch):
        for i in range(count):
            for j in range(i):
                expected[b, 0] += x[b, i].astype(np.float64) @ x[b, j]
    tensor = torch.from_numpy(x)
    for given_as in (tensor, list(tensor.unbind(1))):
        np.testing.assert_allclose(FM()(given_as), expected, rtol=1e-4, atol=1e-5)


def test_fm_gradient_and_config():
    assert torch.autograd.gradcheck(FM(), torch.from_numpy(numbers(2, 3, 2)).double().requires_grad_())
    assert isinstance(from_config(to_config(FM())), FM)


def cin_by_loops(x, kernels, act):
    """x: (B, F, D); each kernel: (width, rows of the layer below, F)."""
    below, sums = x.astype(np.float64), []
    for kernel in kernels:
        width = len(kernel)
        level = np.zeros((len(x), width, x.shape[2]))
        for h in range(width):
            for i in range(below.shape[1]):
                for j in range(x.shape[1]):
                    level[:, h] += kernel[h, i, j] * below[:, i] * x[:, j]
        below = act(level)
        sums.append(below.sum(axis=2))
    return np.concatenate(sums, axis=1)


@settings(max_examples=25)
@given(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_cin_against_loops(batch, count, dim, lazy, bent):
    x = numbers(batch, count, dim)
    layer = CIN(None if lazy else count, [3, 2], activation=nn.Tanh() if bent else None)
    layer(torch.from_numpy(x))
    fill(layer)
    kernels = [
        linear.weight.detach().numpy().reshape(linear.out_features, -1, count).astype(np.float64)
        for linear in layer.linears
    ]
    expected = cin_by_loops(x, kernels, np.tanh if bent else lambda level: level)
    for given_as in (torch.from_numpy(x), list(torch.from_numpy(x).unbind(1))):
        np.testing.assert_allclose(layer(given_as).detach(), expected, rtol=1e-4, atol=1e-4)
    assert layer.out_features == expected.shape[1] == 5


def test_cin_round_trip_and_size():
    x = torch.from_numpy(numbers(2, 3, 4))
    lazy = CIN(None, (4,), activation=nn.ReLU())
    lazy(x)
    round_trip(lazy, x)
    torch.manual_seed(0)
    eager = CIN(3, [4, 2])
    assert [tuple(linear.weight.shape) for linear in eager.linears] == [(4, 9), (2, 12)]
    for layer in (lazy, eager):
        with pytest.raises(ShapeError, match="CIN: expected 3 features, got 2"):
            layer(x[:, :2])


@pytest.mark.parametrize("layer", [FM(), CIN(2, [3])])
def test_wrong_inputs_are_refused(layer):
    name = type(layer).__name__
    with pytest.raises(ShapeError, match=f"{name}, input 1"):
        layer([torch.rand(2, 3), torch.rand(2, 4)])
    with pytest.raises(ShapeError, match=f"{name}: expected at least one input"):
        layer([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DCN(num_layers=0), "num_layers=0"),
        (lambda: DCN(projection_dim=0), "projection_dim=0"),
        (lambda: CIN(None, []), "one layer or more"),
        (lambda: CIN(0, [2]), "num_features=0"),
        (lambda: CIN(3, [2, 0]), r"\[2, 0\]"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
