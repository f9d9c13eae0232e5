import json

import numpy as np
import pytest
import torch
from tests.golden import cases
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.concatenate import Concatenate
from retrank.layers.cross import Cross
from retrank.layers.dcn import DCN

ACTIVATIONS = {None: None, "relu": nn.ReLU(), "tanh": nn.Tanh()}
GOLDEN = [case for case in cases("tfrs_cross") if case["source"].endswith(".Cross")] + [
    case for case in cases("krs_feature_interaction") if case["source"].endswith(".FeatureCross")
]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["source"][:4] + "-" + case["name"])
def test_golden(case, lazy):
    given, tensors = case["arguments"]["constructor"], {k: torch.tensor(v) for k, v in case["inputs"].items()}
    l2 = (given.get("kernel_regularizer") or {}).get("l2", 0.0)
    cross = Cross(
        None if lazy else tensors["x0"].shape[-1],
        projection_dim=given["projection_dim"],
        diag_scale=given["diag_scale"],
        bias=given["use_bias"],
        preactivation=ACTIVATIONS[given.get("preactivation", given.get("pre_activation"))],
        l2=l2,
    )
    inputs = {name: tensors[name].requires_grad_() for name in ("x0", "x") if name in tensors}
    cross(**inputs)
    ours = {"kernel_u": "down", "kernel_down": "down", "kernel_v": "kernel", "kernel": "kernel", "bias": "bias"}
    with torch.no_grad():
        for name in tensors.keys() & ours.keys():
            getattr(cross, ours[name]).copy_(tensors[name].T if tensors[name].dim() == 2 else tensors[name])
    output = cross(**inputs)
    output.sum().backward()
    expected = case["expected"]
    np.testing.assert_allclose(output.detach(), expected["output"], rtol=1e-5, atol=1e-6)
    for name, tensor in inputs.items():
        np.testing.assert_allclose(tensor.grad, expected[f"grad_{name}_of_sum"], rtol=1e-4, atol=1e-5)
    if "regularization_loss" in expected:  # the source adds a penalty of the bias, which we do not have
        of_bias = given["bias_regularizer"]["l2"] * float((np.array(case["inputs"]["bias"]) ** 2).sum())
        assert cross.regularization().item() + of_bias == pytest.approx(expected["regularization_loss"], rel=1e-4)


def test_initial_weights():
    torch.manual_seed(0)
    cross = Cross(200, projection_dim=50)
    for kernel in (cross.kernel, cross.down):
        bound = (6 / 250) ** 0.5
        assert kernel.abs().max() <= bound
        assert kernel.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert (cross.bias == 0).all()
    assert [tuple(p.shape) for p in Cross(3, bias=False).parameters()] == [(3, 3)]


@pytest.mark.parametrize("used", [False, True])
def test_lazy_round_trip(used):
    source = Cross(projection_dim=2, preactivation=nn.Tanh(), diag_scale=0.5)
    source(torch.rand(2, 5))
    again = from_config(json.loads(json.dumps(to_config(source))))
    if used:
        again(torch.rand(2, 5))
    again.load_state_dict(source.state_dict())
    x0, x = torch.rand(3, 5), torch.rand(3, 5)
    assert torch.equal(again(x0, x), source(x0, x))


def test_lazy_equals_eager():
    torch.manual_seed(1)
    eager = Cross(4)
    torch.manual_seed(1)
    lazy = nn.Sequential(Concatenate(), Cross())
    lazy([torch.ones(2, 3), torch.ones(2, 1)])
    assert torch.equal(lazy[1].kernel, eager.kernel)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 3, 4)])
def test_any_leading_shape(shape):
    assert Cross()(torch.rand(shape)).shape == shape
    assert Cross(4)(torch.rand(shape), torch.rand(shape)).shape == shape


def test_regularization_without_l2_is_zero():
    assert Cross(3).regularization().item() == 0
    assert Cross().regularization().item() == 0
    cross = Cross(3, projection_dim=2, l2=0.5)
    expected = 0.5 * sum((p.detach().numpy() ** 2).sum() for p in (cross.kernel, cross.down))
    assert cross.regularization().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("x0", "x"), [((2, 5), (2, 5)), ((2, 4), (1, 4)), ((2, 4), (2, 5)), ((2, 1), (2, 1)), ((), ())]
)
def test_wrong_shapes_are_refused(x0, x):
    with pytest.raises(ShapeError, match=r"Cross: expected x0 and x of one shape \(\.\.\., 4\), got x0"):
        Cross(4)(torch.rand(x0), torch.rand(x))


@pytest.mark.parametrize(
    "arguments", [{"in_features": 0}, {"projection_dim": 0}, {"diag_scale": -1.0}, {"l2": float("nan")}]
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match=f"{next(iter(arguments))}={next(iter(arguments.values()))}"):
        Cross(**arguments)


LISTENERS = {
    "hook of a layer": lambda dcn, hear: dcn.layers[1].register_forward_hook(hear),
    "hook before a layer": lambda dcn, hear: dcn.layers[0].register_forward_pre_hook(hear),
    "hook of an activation": lambda dcn, hear: dcn.layers[1].preactivation.register_forward_hook(hear),
    "hook of a gradient": lambda dcn, hear: dcn.layers[1].register_full_backward_hook(hear),
    "hook of all modules": lambda dcn, hear: torch.nn.modules.module.register_module_forward_hook(hear),
}


@pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS)
def test_a_cross_network_that_somebody_listens_to_calls_its_layers(listen):
    dcn, inputs, heard = DCN(6, num_layers=3), torch.randn(4, 6, requires_grad=True), []
    expected = dcn(inputs)
    handle = listen(dcn, lambda *details: heard.append(details) and None)
    found = dcn(inputs)
    found.sum().backward()
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert heard


def test_a_cross_layer_that_was_replaced_is_called():
    dcn, inputs = DCN(6, num_layers=2), torch.randn(4, 6)
    dcn.layers[1] = Cross(6, projection_dim=1, preactivation=torch.nn.Tanh())
    torch.testing.assert_close(dcn(inputs), dcn.layers[1](inputs, dcn.layers[0](inputs)))
    dcn.layers[1].forward = lambda x0, x: x0 * 0
    assert not dcn(inputs).any()
