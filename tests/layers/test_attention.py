import numpy as np
import pytest
import torch

import retrank as rr


def oracle(layer, features):
    """The interacting layers of AutoInt, row by row, head by head and field by field."""
    heads, dim = layer.num_heads, layer.head_dim
    for projection in layer.projections:
        weight = projection.weight.detach().numpy().astype(np.float64)
        maps = weight.reshape(-1, heads, dim, weight.shape[1])  # query, key, value and perhaps residual
        output = np.zeros((*features.shape[:2], heads * dim))
        for row, fields in enumerate(features):
            for place, field in enumerate(fields):
                parts = []
                for head in range(heads):
                    query, key, value = (fields @ maps[part, head].T for part in range(3))
                    scores = np.array([query[place] @ other for other in key]) / np.sqrt(dim)
                    shares = np.exp(scores) / np.exp(scores).sum()
                    mixed = sum(share * other for share, other in zip(shares, value, strict=True))
                    parts.append(mixed + (maps[3, head] @ field if len(maps) == 4 else 0))
                output[row, place] = np.maximum(np.concatenate(parts), 0)
        features = output
    return features.reshape(len(features), -1)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_it_is_what_the_paper_says(residual, num_layers):
    layer = rr.layers.FieldAttention(num_layers=num_layers, num_heads=3, head_dim=4, residual=residual)
    features = torch.randn(5, 6, 7)
    got = layer(list(features.unbind(1)))
    assert got.shape == (5, 6 * 12)
    np.testing.assert_allclose(got.detach().numpy(), oracle(layer, features.double().numpy()), rtol=1e-4, atol=1e-5)


def test_a_row_does_not_see_other_rows():
    layer, features = rr.layers.FieldAttention(), torch.randn(4, 3, 8)
    torch.testing.assert_close(layer(features[2:3]), layer(features)[2:3])
    assert layer(features[:0]).shape == (0, 3 * 32)


def test_dropout_is_for_training_only():
    layer, features = rr.layers.FieldAttention(dropout=0.5), torch.randn(4, 3, 8)
    assert not torch.equal(layer(features), layer(features))
    layer.eval()
    assert torch.equal(layer(features), layer(features))


@pytest.mark.parametrize("arguments", [{"num_layers": 0}, {"num_heads": 0}, {"head_dim": 0}, {"dropout": 1.0}])
def test_bad_arguments(arguments):
    with pytest.raises(rr.errors.ConfigError, match="FieldAttention"):
        rr.layers.FieldAttention(**arguments)


def test_features_of_different_length_are_refused():
    with pytest.raises(rr.errors.ShapeError, match="FieldAttention, input 1"):
        rr.layers.FieldAttention()([torch.rand(2, 3), torch.rand(2, 4)])


def test_config_round_trip():
    layer = rr.layers.FieldAttention(num_layers=1, num_heads=4, head_dim=2, residual=False, dropout=0.1)
    assert rr.core.from_config(rr.core.to_config(layer)).config == layer.config
