"""Gates and experts against a NumPy restatement of the papers."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.experts import CGC, PLE, MMoE
from retrank.layers.gate import Gate

TASKS = ["click", "like.it"]
RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def fill(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(RNG.normal(size=parameter.shape).astype(np.float32)))
    return module


def dense(x, linear, relu=True):
    out = x @ linear.weight.detach().numpy().T.astype(np.float64)
    if linear.bias is not None:
        out = out + linear.bias.detach().numpy()
    return np.maximum(out, 0) if relu else out


def mlp(x, layer):
    for linear in layer.linears:
        x = dense(x, linear)
    return x


def mixed(x, gate, experts):
    """Rows one by one: softmax of the gate's logits times the experts' outputs."""
    hidden = x if isinstance(gate.hidden, nn.Identity) else mlp(x, gate.hidden)
    logits = dense(hidden, gate.logits, relu=False)
    out = np.zeros_like(experts[0])
    for row, values in enumerate(logits):
        shares = np.exp(values - values.max())
        shares /= shares.sum()
        for share, expert in zip(shares, experts, strict=True):
            out[row] += share * expert[row]
    return out


def cgc(inputs, layer):
    """`inputs`: one for each task and the shared one last; returns the same."""
    outputs = [[mlp(x, e) for e in experts] for x, experts in zip(inputs, layer.experts, strict=True)]
    pools = [own + outputs[-1] for own in outputs[:-1]] + [[output for own in outputs for output in own]]
    return [mixed(x, gate, pool) for x, gate, pool in zip(inputs, layer.gates, pools, strict=False)]


def compare(layer, expected):
    got = layer(torch.from_numpy(X))
    assert list(got) == TASKS
    for task, values in zip(TASKS, expected, strict=True):
        assert got[task].shape == (len(X), layer.out_features)
        np.testing.assert_allclose(got[task].detach(), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("in_features", [None, 4])
@pytest.mark.parametrize("gate_units", [(), (6,)])
def test_mmoe(in_features, gate_units):
    layer = MMoE(in_features, [5, 3], tasks=TASKS, num_experts=3, gate_units=gate_units)
    layer(torch.from_numpy(X))
    fill(layer)
    experts = [mlp(X, expert) for expert in layer.experts]
    compare(layer, [mixed(X, gate, experts) for gate in layer.gates])


@pytest.mark.parametrize("in_features", [None, 4])
@pytest.mark.parametrize("gate_units", [(), (6,)])
def test_cgc(in_features, gate_units):
    layer = CGC(in_features, [3], tasks=TASKS, num_task_experts=2, num_shared_experts=1, gate_units=gate_units)
    layer(torch.from_numpy(X))
    fill(layer)
    compare(layer, cgc([X, X, X], layer))
    assert [gate.num_experts for gate in layer.gates] == [3, 3]


@pytest.mark.parametrize("in_features", [None, 4])
def test_ple(in_features):
    layer = PLE(in_features, [[5], [4, 3], [2]], tasks=TASKS, num_task_experts=2, num_shared_experts=1)
    layer(torch.from_numpy(X))
    fill(layer)
    values = [X, X, X]
    for level in layer.levels:
        values = cgc(values, level)
    compare(layer, values)
    assert [[gate.num_experts for gate in level.gates] for level in layer.levels] == [[3, 3, 5], [3, 3, 5], [3, 3]]


def test_ple_of_one_level_is_cgc():
    torch.manual_seed(0)
    one = PLE(4, [[3]], tasks=TASKS)
    torch.manual_seed(0)
    other = CGC(4, [3], tasks=TASKS)
    for task, values in other(torch.from_numpy(X)).items():
        assert torch.equal(one(torch.from_numpy(X))[task], values)


def test_tasks_do_not_touch_each_others_experts():
    layer = CGC(4, [3], tasks=TASKS)
    layer(torch.from_numpy(X))["click"].sum().backward()
    touched = [any(p.grad is not None for p in experts.parameters()) for experts in layer.experts]
    assert touched == [True, False, True]


def test_gate_shares_add_up_to_one():
    gate = Gate(4, 3, units=[8])
    weights = gate.weights(torch.from_numpy(X * 100))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(X)))
    assert gate(torch.rand(0, 4), torch.rand(0, 3, 2)).shape == (0, 2)
    assert gate(torch.rand(1, 4), torch.rand(1, 3, 2)).shape == (1, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MMoE(None, [3], tasks=TASKS, gate_units=[2], dropout=0.5),
        lambda: CGC(None, [3], tasks=TASKS, num_task_experts=2),
        lambda: PLE(None, [[3], [2]], tasks=TASKS),
    ],
)
def test_round_trip_batch_of_one_and_none(make):
    layer = make().eval()
    layer(torch.from_numpy(X))
    again = from_config(json.loads(json.dumps(to_config(layer)))).eval()
    again.load_state_dict(layer.state_dict())
    whole = layer(torch.from_numpy(X))
    for rows in (slice(0, 5), slice(2, 3), slice(0, 0)):
        for task, values in again(torch.from_numpy(X[rows])).items():
            torch.testing.assert_close(values, whole[task][rows])


def test_wrong_inputs_are_refused():
    gate = Gate(4, 3)
    with pytest.raises(ShapeError, match=r"Gate: expected experts of shape \(2, 3, dim\), got \(2, 2, 5\)"):
        gate(torch.rand(2, 4), torch.rand(2, 2, 5))
    layer = CGC(4, [3], tasks=TASKS)
    with pytest.raises(ShapeError, match="CGC: expected inputs named"):
        layer({"click": torch.rand(1, 4), "shared": torch.rand(1, 4)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMoE(4, [3], tasks=[]), "different task names"),
        (lambda: MMoE(4, [3], tasks="ab"), "different task names, .* got 'ab'"),
        (lambda: CGC(4, [3], tasks=["a", "a"]), "different task names"),
        (lambda: CGC(4, [3], tasks=["shared"]), "different task names"),
        (lambda: CGC(4, [3], tasks=["a"], num_shared_experts=0), "one expert or more"),
        (lambda: MMoE(4, [], tasks=["a"]), "one layer or more"),
        (lambda: PLE(4, [], tasks=["a"]), "one level or more"),
        (lambda: PLE(4, [[3], []], tasks=["a"]), "one level or more"),
        (lambda: Gate(4, 0), "num_experts=0"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
