import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr

INPUTS = [torch.randn(4, 3), torch.randn(4, 3)]


def branch(width):
    return nn.Sequential(rr.layers.Concatenate(), rr.layers.MLP(6, [width]))


def test_outputs_stand_side_by_side():
    one, other = branch(2), branch(5)
    got = rr.layers.Parallel([one, other])(INPUTS)
    assert torch.equal(got, torch.cat([one(INPUTS), other(INPUTS)], dim=1))


def test_or_are_added_up():
    one, other = branch(2), branch(2)
    got = rr.layers.Parallel([one, other], combine="sum")(INPUTS)
    torch.testing.assert_close(got, one(INPUTS) + other(INPUTS))


def test_outputs_of_different_width_cannot_be_added():
    with pytest.raises(rr.errors.ShapeError, match="Parallel, input 1"):
        rr.layers.Parallel([branch(2), branch(1)], combine="sum")(INPUTS)  # would broadcast


@pytest.mark.parametrize(("branches", "combine"), [([], "sum"), ([nn.Identity()], "mean")])
def test_bad_arguments(branches, combine):
    with pytest.raises(rr.errors.ConfigError, match="Parallel"):
        rr.layers.Parallel(branches, combine=combine)


def test_config_round_trip():
    layer = rr.layers.Parallel([branch(2), rr.layers.DotInteraction()])
    again = rr.core.from_config(rr.core.to_config(layer))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(INPUTS), layer(INPUTS))


@settings(max_examples=25)
@given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10))
def test_a_product_is_that_of_all_features(rows, count, dim, seed):
    features = np.random.default_rng(seed).integers(-2, 3, size=(count, rows, dim)).astype(np.float32)
    got = rr.layers.HadamardProduct()([torch.from_numpy(feature) for feature in features])
    np.testing.assert_array_equal(got.numpy(), features.prod(axis=0))


def test_the_product_of_zeros_has_a_gradient():
    one, other = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 0.0]], requires_grad=True)
    rr.layers.HadamardProduct()([one, other]).sum().backward()
    assert one.grad.tolist() == [[3.0, 0.0]]
    assert other.grad.tolist() == [[0.0, 0.0]]


def test_a_slice_cuts_every_feature():
    wide, narrow = torch.arange(5.0)[None], torch.arange(3.0)[None]
    assert [part.tolist() for part in rr.layers.Slice(1, 3)([wide, narrow])] == [[[1.0, 2.0]], [[1.0, 2.0]]]
    assert [part.shape[1] for part in rr.layers.Slice(2)([wide, narrow])] == [3, 1]
    with pytest.raises(rr.errors.ShapeError, match="width 4"):
        rr.layers.Slice(0, 4)([wide, narrow])
    with pytest.raises(rr.errors.ConfigError, match="start=2, stop=2"):
        rr.layers.Slice(2, 2)
