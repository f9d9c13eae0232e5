"""What the tests of refused steps and states have in common: optimizers that took some steps, and all they hold."""

import torch
from torch import nn

from retrank.optim.adagrad import Adagrad
from retrank.optim.clippy_adagrad import ClippyAdagrad
from retrank.optim.ftrl import FTRL
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.rowwise_adagrad import RowwiseAdagrad
from retrank.optim.torch_specs import SGD, Adam, AdamW

ROWS, DIM = 8, 3
SPECS = [Adagrad(lr=0.1), RowwiseAdagrad(lr=0.1), LazyAdam(lr=0.1), ClippyAdagrad(lr=0.1), FTRL(lr=0.1)]
TORCHS = [Adam(lr=0.1), AdamW(lr=0.1), SGD(lr=0.1, momentum=0.5)]
STATES = {
    "fewer columns": lambda kept: kept[:, : kept.shape[1] - 1].contiguous(),
    "more rows": lambda kept: torch.cat([kept, kept]),
    "half precision": lambda kept: kept.half(),
    "double precision": lambda kept: kept.double(),
    "not contiguous": lambda kept: torch.cat([kept, kept], dim=1).t().contiguous().t()[:, : kept.shape[1]],
    "one number shown many times": lambda kept: torch.ones(1, 1).expand(kept.shape),
    "flat": lambda kept: kept.flatten(),
    "sparse": lambda kept: kept.to_sparse(),
    "compressed": lambda kept: kept.to_sparse_csr(),
    "on another device": lambda kept: kept.to("meta"),
    "no tensor": lambda kept: kept.tolist(),
    "nothing": lambda kept: None,
    "complex": lambda kept: kept.to(torch.complex64),
    "integers": lambda kept: kept.int(),
}


def named(spec):
    return type(spec).__name__


def sparse(ids, num_rows=ROWS, dim=DIM):
    values = torch.linspace(-1, 1, len(ids) * dim).view(-1, dim)
    return torch.sparse_coo_tensor(torch.tensor([ids]).long(), values, (num_rows, dim), check_invariants=False)


def learner(spec, num_steps=2, is_sparse=True):
    """Three parameters that took some steps, and the gradients of the next one."""
    parameters = {name: nn.Parameter(torch.randn(ROWS, DIM)) for name in ("first", "middle", "last")}
    optimizer = spec.build(list(parameters.items()))
    for parameter in parameters.values():
        parameter.grad = sparse([1, 5, 5]) if is_sparse else sparse([1, 5, 5]).to_dense()
    for _ in range(num_steps):
        optimizer.step()
    return optimizer, parameters


def everything(optimizer, parameters):
    """All that a step changes, or loading does."""
    return copied([[parameter.data for parameter in parameters.values()], optimizer.state_dict()])


def copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list) else value


def same(one, other):
    if isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return one.is_meta or torch.equal(one.to_dense(), other.to_dense())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)  # NaN is NaN
