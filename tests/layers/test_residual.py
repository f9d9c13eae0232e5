import json

import numpy as np
import pytest
import torch
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, ShapeError
from retrank.layers.residual import Residual


def by_hand(x, layer):
    x = x.astype(np.float64)
    normal = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    inner, inner_bias, outer, outer_bias = (p.detach().numpy() for p in layer.parameters())
    return x + np.tanh(normal @ inner.T + inner_bias) @ outer.T + outer_bias


@pytest.mark.parametrize("in_features", [None, 4])
@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (0, 4), (2, 3, 4)])
def test_against_numpy(in_features, shape):
    layer = Residual(in_features, hidden=2, activation=nn.Tanh())
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer(torch.from_numpy(x))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach(), by_hand(x, layer), rtol=1e-4, atol=1e-5)


def test_lazy_equals_eager_and_round_trip():
    x = torch.rand(2, 4)
    torch.manual_seed(0)
    eager = Residual(4, 3, dropout=0.5).eval()
    torch.manual_seed(0)
    lazy = Residual(None, 3, dropout=0.5).eval()
    assert torch.equal(lazy(x), eager(x))
    again = from_config(json.loads(json.dumps(to_config(lazy)))).eval()
    again.load_state_dict(lazy.state_dict())
    assert torch.equal(again(x), eager(x))


def test_dropout_is_inside():
    layer = Residual(4, 1_000, dropout=0.5)
    x = torch.rand(2, 4)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    with torch.no_grad():
        layer.outer.zero_()
    assert torch.equal(layer(x), x)


def test_wrong_use_is_refused():
    with pytest.raises(ShapeError, match=r"Residual: expected shape \(\.\.\., 4\), got \(2, 3\)"):
        Residual(4)(torch.rand(2, 3))
    for arguments in ({"hidden": 0}, {"in_features": 0}, {"dropout": 1.0}):
        with pytest.raises(ConfigError, match=f"{next(iter(arguments))}="):
            Residual(**arguments)
