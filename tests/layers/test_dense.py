"""`dense` against torch's own linear map: values, gradients, and gradients of gradients."""

import pytest
import torch
import torch.nn.functional as F

from retrank.layers.dense import dense


def values(linear, inputs, weight, bias):
    leaves = [tensor.clone().requires_grad_() for tensor in (inputs, weight, bias)]
    outputs = linear(*leaves).sin().sum()
    first = torch.autograd.grad(outputs, leaves, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), leaves)
    return [outputs, *first, *second]


@pytest.mark.parametrize(("batch", "width", "units"), [(1, 1, 16), (7, 20, 33), (300, 64, 16), (5, 3, 4)])
def test_it_is_a_linear_map_that_can_be_derived_twice(batch, width, units):
    torch.manual_seed(units)
    tensors = torch.randn(batch, width), torch.randn(units, width) / width**0.5, torch.randn(units)
    for ours, theirs in zip(values(dense, *tensors), values(F.linear, *tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
