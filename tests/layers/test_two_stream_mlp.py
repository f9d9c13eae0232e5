import numpy as np
import pytest
import torch

import retrank as rr


def dense(mlp, values):
    for place, layer in enumerate(mlp.linears):
        values = values @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        values = np.maximum(values, 0) if place < len(mlp.linears) - 1 else values
    return values


def oracle(layer, inputs):
    inputs = [vector.double().numpy() for vector in inputs]
    features, streams = np.concatenate(inputs, axis=1), []
    for mlp, gate, context in (
        (layer.first, layer.first_gate, layer.first_context),
        (layer.second, layer.second_gate, layer.second_context),
    ):
        scale = 1.0
        if context is not None:
            scale = 2 / (1 + np.exp(-dense(gate, np.concatenate([inputs[place] for place in context], axis=1))))
        streams.append(dense(mlp, scale * features))
    weight, bias = layer.terms.weight.detach().double().numpy()[0], layer.terms.bias.item()
    output = np.concatenate(streams, axis=1) @ weight + bias
    products = layer.products.detach().double().numpy()
    for row in range(len(features)):
        cut = [np.split(stream[row], layer.num_heads) for stream in streams]
        output[row] += sum(one @ product @ other for one, product, other in zip(cut[0], products, cut[1], strict=True))
    return output[:, None]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_heads": 2},
        {"first_context": [0]},
        {"first_context": [0, 2], "second_context": [1], "gate_units": 5, "num_heads": 4},
    ],
)
def test_it_is_what_the_paper_says(arguments):
    layer = rr.layers.TwoStreamMLP([3, 2, 4], [6, 8], [4], **arguments)
    inputs = [torch.randn(5, width) for width in (3, 2, 4)]
    np.testing.assert_allclose(layer(inputs).detach().numpy(), oracle(layer, inputs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer([vector[1:2] for vector in inputs]), layer(inputs)[1:2])


def test_a_gate_looks_only_at_its_context():
    layer = rr.layers.TwoStreamMLP([2, 2], [4], [4], first_context=[0])
    inputs = [torch.randn(3, 2), torch.zeros(3, 2, requires_grad=True)]
    torch.autograd.grad(layer.first_gate(inputs[0]).sum(), inputs[1], allow_unused=True)
    assert layer.first_gate.linears[0].in_features == 2
    assert layer.second_gate is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "num_heads=3"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"first_context": []}, "context"),
        ({"second_context": [2]}, r"\[2\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(rr.errors.ConfigError, match=message):
        rr.layers.TwoStreamMLP([3, 2], [6, 8], [4], **arguments)


def test_other_widths_are_refused():
    with pytest.raises(rr.errors.ShapeError, match=r"\(3, 2\)"):
        rr.layers.TwoStreamMLP([3, 2], [8], [4])([torch.rand(2, 2), torch.rand(2, 3)])


def test_config_round_trip():
    layer = rr.layers.TwoStreamMLP([3, 2], (6, 8), [4], num_heads=2, first_context=(1,), dropout=0.1)
    again = rr.core.from_config(rr.core.to_config(layer))
    assert again.config == layer.config
    assert {name: tuple(p.shape) for name, p in again.named_parameters()} == {
        name: tuple(p.shape) for name, p in layer.named_parameters()
    }
