"""Crosses of rank 1: the kernel against the layers one by one."""

import pytest
import torch

import retrank as rr
from retrank.core import native

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


def values_and_gradients(network, inputs):
    inputs = inputs.clone().requires_grad_()
    network.zero_grad()
    outputs = network(inputs)
    (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum().backward()
    return [outputs.detach(), inputs.grad, *(parameter.grad.clone() for parameter in network.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch", "dim", "num_layers"), [(1, 1, 1), (5, 3, 2), (3, 16, 3), (40, 33, 4), (0, 7, 2)])
def test_the_kernel_does_what_the_layers_do(batch, dim, num_layers, bias):
    torch.manual_seed(dim)
    network = rr.layers.DCN(dim, num_layers=num_layers, bias=bias)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = torch.randn(batch, dim)
    found = values_and_gradients(network, inputs)
    with native.without_kernels():
        expected = values_and_gradients(network, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_rows_that_are_not_contiguous_and_a_hundred_steps():
    losses = []
    for kernels in (True, False):
        torch.manual_seed(0)
        network, wide = rr.layers.DCN(6, num_layers=3), torch.randn(64, 12)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        target = wide[:, :6].prod(dim=1, keepdim=True)
        for _ in range(100):
            if kernels:
                outputs = network(wide[:, :6])
            else:
                with native.without_kernels():
                    outputs = network(wide[:, :6])
            loss = (outputs.sum(dim=1, keepdim=True) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    torch.testing.assert_close(losses[:100], losses[100:], rtol=1e-3, atol=1e-4)
    assert losses[99] < losses[0]


def test_more_dimensions_and_a_wrong_width_take_the_other_way():
    network = rr.layers.DCN(4, num_layers=2)
    inputs = torch.randn(2, 3, 4)
    torch.testing.assert_close(network(inputs), network(inputs.view(6, 4)).view(2, 3, 4), rtol=1e-5, atol=1e-6)
    with pytest.raises(rr.core.errors.ShapeError):
        network(torch.randn(2, 5))
