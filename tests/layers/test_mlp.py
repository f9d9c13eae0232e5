import json

import numpy as np
import pytest
import torch
from tests.golden import golden
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.mlp import MLP

ACTIVATIONS = {None: None, "relu": nn.ReLU(), "sigmoid": nn.Sigmoid()}


@pytest.mark.parametrize("lazy", [False, True])
@golden("tfrs_mlp")
def test_golden(case, lazy):
    given, x = case["arguments"]["constructor"], torch.tensor(case["inputs"]["x"], requires_grad=True)
    mlp = MLP(
        None if lazy else x.shape[1],
        given["units"],
        activation=ACTIVATIONS[given["activation"]],
        final_activation=ACTIVATIONS[given["final_activation"]],
        bias=given["use_bias"],
    )
    mlp(x)
    with torch.no_grad():
        for parameter, value in zip(mlp.parameters(), case["inputs"]["weights"], strict=True):
            parameter.copy_(torch.tensor(np.transpose(value)))
    output = mlp(x)
    output.sum().backward()
    np.testing.assert_allclose(output.detach(), case["expected"]["output"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad, case["expected"]["grad_x_of_sum"], rtol=1e-4, atol=1e-5)


def test_initial_weights():
    torch.manual_seed(3)
    mlp = MLP(300, [200, 100])
    for layer, (before, after) in zip(mlp.linears, [(300, 200), (200, 100)], strict=True):
        bound = (6 / (before + after)) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert (layer.bias == 0).all()


def test_lazy_equals_eager():
    torch.manual_seed(3)
    eager = MLP(5, [4, 2])
    torch.manual_seed(3)
    lazy = MLP(None, [4])
    lazy(torch.ones(2, 5))
    assert torch.equal(lazy.linears[0].weight, eager.linears[0].weight)
    assert list(MLP(None, [4, 2]).state_dict()) == list(eager.state_dict())


@pytest.mark.parametrize("trained", [False, True])
def test_lazy_round_trip(trained):
    source = MLP(None, [4, 2], dropout=0.5, final_activation=nn.Tanh()).eval()
    source(torch.rand(2, 5))
    again = from_config(json.loads(json.dumps(to_config(source)))).eval()
    if trained:
        again(torch.rand(2, 5))
    again.load_state_dict(source.state_dict())
    x = torch.rand(3, 5)
    assert torch.equal(again(x), source(x))
    assert again.out_features == 2
    assert isinstance(again.activations[-1], nn.Tanh)


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (2, 3, 5), (5,)])
def test_any_leading_shape(shape):
    assert MLP(5, [4, 2])(torch.rand(shape)).shape == (*shape[:-1], 2)
    assert MLP(None, [4, 2])(torch.rand(shape)).shape == (*shape[:-1], 2)


def test_dropout_and_activation_spare_the_last_layer():
    torch.manual_seed(0)
    mlp = MLP(4, [1_000, 1], dropout=0.9).train()
    assert not torch.equal(mlp(torch.ones(1, 4)), mlp(torch.ones(1, 4)))
    single = MLP(4, [1_000], dropout=0.9).train()
    output = single(torch.ones(1, 4))
    assert (output != 0).all()
    assert (output < 0).any()


def test_parametric_activations_are_not_shared():
    activation = nn.PReLU()
    mlp = MLP(2, [3, 3, 1], activation=activation)
    slopes = [module.weight for module in mlp.activations if isinstance(module, nn.PReLU)]
    assert len(slopes) == 2
    assert slopes[0] is not slopes[1]
    assert activation.weight not in set(mlp.parameters())


def test_no_activation_is_linear():
    mlp = MLP(2, [3, 1], activation=None)
    x = torch.rand(4, 2)
    torch.testing.assert_close(mlp(-x), -mlp(x))


def test_regularization_is_the_sum_of_squared_weights():
    mlp = MLP(2, [3, 1], l2=0.1)
    expected = 0.1 * sum(float((layer.weight.detach().numpy() ** 2).sum()) for layer in mlp.linears)
    with torch.no_grad():
        mlp.linears[0].bias.fill_(7)
    assert mlp.regularization().item() == pytest.approx(expected, rel=1e-5)
    assert MLP(2, [3, 1]).regularization().item() == 0
    assert MLP(None, [3, 1]).regularization().item() == 0


@pytest.mark.parametrize("x", [torch.rand(2, 4), torch.ones(2, 5, dtype=torch.int64), torch.tensor(1.0)])
def test_wrong_input_is_refused(x):
    with pytest.raises(ShapeError, match=r"MLP: expected floats of shape \(\.\.\., 5\), got"):
        MLP(5, [4])(x)
    lazy = MLP(None, [4])
    lazy(torch.rand(1, 5))
    with pytest.raises(ShapeError, match=r"shape \(\.\.\., 5\)"):
        lazy(x)


def test_wrong_input_to_an_unsized_stack_is_refused():
    with pytest.raises(ShapeError, match="int64"):
        MLP(None, [4])(torch.ones(2, 5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0, "units": [2]}, "in_features=0"),
        ({"in_features": 2, "units": []}, "one layer or more"),
        ({"in_features": 2, "units": [2, -1]}, "-1"),
        ({"in_features": 2, "units": [2], "dropout": 1.0}, "dropout=1.0"),
        ({"in_features": 2, "units": [2], "l2": -0.1}, "l2=-0.1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MLP(**arguments)
