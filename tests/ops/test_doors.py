"""Every operation on whatever one may pass: it raises one of our errors, or does what NumPy does in float64."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import RetrankError
from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups
from retrank.ops.dense import Dense, dense_stack
from retrank.ops.dot_interaction import dot_interaction
from retrank.ops.rank_one_crosses import rank_one_crosses
from retrank.ops.softmax import dot_product_cross_entropy

pytestmark = [
    pytest.mark.usefixtures("with_and_without_kernels"),
    pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:The PyTorch API of nested:UserWarning"),
]


class Tagged(torch.Tensor):
    """A subclass that changes nothing."""


def strided(tensor):
    wide = tensor.new_empty([2 * size + 1 for size in tensor.shape])
    view = wide[tuple(slice(1, None, 2) for _ in tensor.shape)]
    return view.copy_(tensor)


def transposed(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.dim() else tensor


def expanded(tensor):
    return tensor[:1].expand(tensor.shape) if tensor.dim() and tensor.shape[0] else tensor


def with_spaced_rows(tensor):
    return torch.cat([tensor, tensor], dim=-1)[..., : tensor.shape[-1]] if tensor.dim() else tensor


def negated(tensor):
    return torch.complex(torch.zeros(tensor.shape), -tensor.float()).conj().imag


USUAL = [torch.clone, strided, transposed, expanded, with_spaced_rows, lambda t: t.clone().requires_grad_()]
UNUSUAL = [
    negated,
    torch.nn.Parameter,
    lambda t: t.as_subclass(Tagged),
    lambda t: t.double(),
    lambda t: t.half(),
    lambda t: t.bfloat16(),
    lambda t: t.to(torch.int64),
    lambda t: t.to(torch.complex64),
    lambda t: t.bool(),
    lambda t: t.to("meta"),
    lambda t: t.to_sparse(),
    lambda t: t.to_sparse_csr() if t.dim() == 2 else t.to_sparse(),
    lambda t: t.to_mkldnn() if t.numel() else t,
    lambda t: torch.nested.nested_tensor([t, t]) if t.dim() else t,
    lambda t: t[None],
    lambda t: t[..., :-1] if t.dim() else t,
    lambda t: torch.cat([t, t]) if t.dim() else t,
    lambda t: t.flatten(),
]


@st.composite
def floats(draw, *shape):
    """Floats of a shape: mostly of that shape, in any memory layout, now and then something else."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    tensor = torch.randn(shape, generator=generator)
    is_usual = draw(st.integers(0, 9)) > 0
    return draw(st.sampled_from(USUAL if is_usual else UNUSUAL))(tensor)


@st.composite
def integers(draw, length, limit):
    """Integers in [0, limit), mostly."""
    tensor = torch.tensor(draw(st.lists(st.integers(0, max(limit - 1, 0)), min_size=length, max_size=length)))
    tensor = tensor.to(torch.int64)
    change = draw(st.integers(0, 30))
    if change == 0 and length:
        tensor[draw(st.integers(0, length - 1))] = draw(st.sampled_from([-1, limit, 2**31, -(2**63), 2**63 - 1]))
    others = {
        1: lambda t: t.int(),
        2: lambda t: t.float(),
        3: lambda t: t[None],
        4: lambda t: t[:-1],
        5: lambda t: t.to("meta"),
        6: lambda t: t.bool(),
        7: expanded,
        8: strided,
    }
    return others.get(change, torch.clone)(tensor)


SIZES = st.sampled_from([0, 1, 2, 3, 5, 16, 17, 33, 40])


def numbers(tensor):
    return tensor.detach().as_subclass(torch.Tensor).double().numpy()


def outcome(function, oracle, tensors):
    """Check what a function does with tensors."""
    before = [numbers(t).copy() if is_readable(t) else None for t in tensors]
    try:
        found = function()
    except RetrankError:
        return
    except Exception as error:
        raise AssertionError(f"a raw {type(error).__name__}: {error}") from error
    if found.device.type == "meta":
        return
    expected = oracle()
    assert tuple(found.shape) == expected.shape
    is_half = any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors)
    tolerance = 0.2 if is_half else 1e-4
    np.testing.assert_allclose(numbers(found), expected, rtol=tolerance, atol=tolerance * (20 if is_half else 5))
    for tensor, copy in zip(tensors, before, strict=True):
        if copy is not None:
            np.testing.assert_array_equal(numbers(tensor), copy)  # nothing was written to what was given


def is_readable(tensor):
    return (
        tensor.layout is torch.strided
        and not tensor.is_nested
        and tensor.device.type == "cpu"
        and not tensor.is_complex()
    )


def dense_case(data):
    count = data.draw(st.integers(0, 3))
    widths = [data.draw(SIZES) for _ in range(count + 1)]
    leading = data.draw(st.sampled_from([(40,), (33, 2), (2, 3), (0,), (1,), ()]))
    inputs, layers = data.draw(floats(*leading, widths[0])), []
    for before, after in pairwise(widths):
        bias = data.draw(floats(after)) if data.draw(st.booleans()) else None
        layers.append(Dense(data.draw(floats(after, before)), bias, data.draw(st.booleans())))

    def oracle():
        rows = numbers(inputs)
        for weight, bias, rectified in layers:
            rows = rows @ numbers(weight).T + (0 if bias is None else numbers(bias))
            rows = np.maximum(rows, 0) if rectified else rows
        return rows

    tensors = [inputs, *(t for layer in layers for t in layer[:2] if t is not None)]
    return lambda: dense_stack(inputs, layers), oracle, tensors


def dot_case(data):
    batch, dim, count = data.draw(SIZES), data.draw(SIZES), data.draw(st.integers(0, 5))
    fields, with_itself = [data.draw(floats(batch, dim)) for _ in range(count)], data.draw(st.booleans())

    def oracle():
        pairs = [(i, j) for i in range(count) for j in range(i + with_itself)]
        columns = [(numbers(fields[i]) * numbers(fields[j])).sum(axis=1) for i, j in pairs]
        return np.stack(columns, axis=1) if columns else np.zeros((len(fields[0]), 0))

    return lambda: dot_interaction(fields, self_interaction=with_itself), oracle, fields


def crosses_case(data):
    batch, dim, layers = data.draw(SIZES), data.draw(SIZES), data.draw(st.integers(0, 3))
    inputs = data.draw(floats(batch, dim))
    parameters = [data.draw(floats(layers, dim)) for _ in range(3)]
    if data.draw(st.booleans()) and dim and is_readable(inputs):
        inputs = inputs / (5 * dim)

    def oracle():
        x0, (down, kernel, bias) = numbers(inputs), map(numbers, parameters)
        x = x0
        for layer in range(len(down)):
            x = x + x0 * ((x @ down[layer])[..., None] * kernel[layer] + bias[layer])
        return x

    def bounded():
        found = rank_one_crosses(inputs, *parameters)
        is_tame = found.device.type == "cpu" and found.numel() and found.dtype in (torch.float32, torch.float64)
        if is_tame and not bool((found.detach().abs() < 100).all()):
            raise RetrankError(
                "small numbers", "large ones, whose rounding errors are large", "the test", "draw others"
            )
        if found.dtype in (torch.float16, torch.bfloat16):
            raise RetrankError("float32", "halves, whose powers have large errors", "the test", "draw others")
        return found

    return bounded, oracle, [inputs, *parameters]


def lookups_case(data):
    batch, parts, tensors = data.draw(SIZES), [], []
    for _ in range(data.draw(st.integers(0, 4))):
        kind, width = data.draw(st.sampled_from(["ready", "one", "lists"])), data.draw(SIZES)
        if kind == "ready":
            parts.append(data.draw(floats(batch, width)))
            tensors.append(parts[-1])
            continue
        height = data.draw(st.sampled_from([1, 2, 9]))
        weight = data.draw(floats(height, width))
        pooling = data.draw(st.sampled_from(["sum", "mean", "sqrtn"]))
        if kind == "one":
            ids = data.draw(integers(batch, height))
            tensors += [weight, ids]
        else:
            lengths = data.draw(st.lists(st.integers(0, 4), min_size=batch, max_size=batch))
            values = data.draw(integers(sum(lengths), height))
            if values.dim() == 0 or len(values) != sum(lengths):
                values = torch.zeros(sum(lengths), dtype=torch.int64)
            weights = data.draw(floats(sum(lengths))) if data.draw(st.booleans()) else None
            if weights is not None and (weights.is_nested or weights.shape != values.shape[:1] or weights.dim() != 1):
                weights = None
            ids = rr.Jagged(values, torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64), weights)
            if data.draw(st.integers(0, 9)) == 0:  # behind the back of its constructor
                place = data.draw(st.integers(0, batch))
                ids.offsets[place] = data.draw(st.sampled_from([-1, 0, 1, len(values) + 1, 2**40, -(2**60)]))
            tensors += [weight, values, ids.offsets, *([] if weights is None else [weights])]
        parts.append(Lookup(weight, ids, pooling))

    def oracle():
        return np.concatenate([vectors(part) for part in parts], axis=1)

    def vectors(part):
        if isinstance(part, torch.Tensor):
            return numbers(part)
        table = numbers(part.weight)
        if isinstance(part.ids, torch.Tensor):
            return table[part.ids.numpy()]
        rows, lists = np.zeros((len(part.ids), table.shape[1])), part.ids
        weights = np.ones(len(lists.values)) if lists.weights is None else numbers(lists.weights)
        for row in range(len(lists)):
            places = range(int(lists.offsets[row]), int(lists.offsets[row + 1]))
            own = [(weights[at], int(lists.values[at])) for at in places if int(lists.values[at]) != 0]
            factors = np.array([factor for factor, _ in own], dtype=np.float64)
            norm = {"sum": 1.0, "mean": factors.sum(), "sqrtn": np.sqrt((factors**2).sum())}[part.pooling]
            for factor, number in own:
                rows[row] += factor * table[number] / norm if norm else 0
        return rows

    def bounded():
        found = concatenate_lookups(parts)
        if found.device.type == "cpu" and found.numel() and not bool((found.detach().abs() < 30).all()):
            raise RetrankError("a norm away from 0", "weights that cancel out", "the test", "draw others")
        return found

    return bounded, oracle, tensors


def softmax_case(data):
    batch, columns, dim = data.draw(SIZES), data.draw(SIZES), data.draw(SIZES)
    queries, candidates = data.draw(floats(batch, dim)), data.draw(floats(columns, dim))
    positives = data.draw(integers(batch, columns))
    weight = data.draw(floats(batch)) if data.draw(st.booleans()) else None
    bias = data.draw(floats(columns)) if data.draw(st.booleans()) else None
    ids = data.draw(integers(columns, 5)) if data.draw(st.booleans()) else None
    temperature = data.draw(st.sampled_from([1.0, 0.5, 3.0]))
    first_shared = data.draw(st.sampled_from([0, 0, 1, 3]))

    def oracle():
        scores = numbers(queries) @ numbers(candidates).T / temperature
        scores = scores if bias is None else scores + numbers(bias)
        losses = np.zeros(len(scores))
        for row, own in enumerate(positives.tolist()):
            others = np.arange(scores.shape[1]) != own
            keep = np.ones(scores.shape[1], bool) if ids is None else ~(others & (ids.numpy() == ids.numpy()[own]))
            keep &= ~others | (np.arange(scores.shape[1]) >= first_shared)
            exponent = scores[row][keep]
            losses[row] = math.log(np.exp(exponent - exponent.max()).sum()) + exponent.max() - scores[row][own]
        return losses if weight is None else losses * numbers(weight)

    def run():
        options = {"temperature": temperature, "weight": weight, "bias": bias, "ids": ids, "first_shared": first_shared}
        return dot_product_cross_entropy(queries, candidates, positives, **options)

    given_ = [queries, candidates, positives, weight, bias, ids]
    return run, oracle, [tensor for tensor in given_ if tensor is not None]


CASES = {
    "dense": dense_case,
    "dot interaction": dot_case,
    "crosses": crosses_case,
    "lookups": lookups_case,
    "softmax": softmax_case,
}
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
QUIET = {"database": None, "suppress_health_check": SLOW}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@given(data=st.data())
@settings(max_examples=60, **QUIET)
def test_an_operation_is_right_or_refuses(case, data):
    outcome(*case(data))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@given(data=st.data())
@settings(max_examples=4000, **QUIET)
def test_an_operation_is_right_or_refuses_whatever_comes(case, data):
    outcome(*case(data))
