"""Parameters in half precision: rounding that is right on average, state in float32, exact continuation."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrank.core import native
from retrank.core.errors import ConfigError
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.ops.rounding import draw_seed, round_randomly
from retrank.optim.adagrad import Adagrad
from retrank.optim.clippy_adagrad import ClippyAdagrad
from retrank.optim.composite import Composite
from retrank.optim.ftrl import FTRL
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.rowwise_adagrad import RowwiseAdagrad
from retrank.optim.torch_specs import SGD, Adam

DTYPES = [torch.bfloat16, torch.float16]
SPECS = [
    Adagrad(lr=0.1, weight_decay=0.01),
    RowwiseAdagrad(lr=0.1),
    LazyAdam(lr=0.05, weight_decay=0.1),
    ClippyAdagrad(lr=0.1, absolute_threshold=0.01),
    FTRL(lr=0.1, l2=0.1),
]
ROWS, DIM = 12, 4

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def rounded_anew(numbers, dtype):
    """Round as in another step, numbers of any shape."""
    table = numbers.reshape(-1, 1) if numbers.dim() < 2 else numbers
    return round_randomly(table, torch.arange(len(table)), dtype, seed=draw_seed()).view_as(numbers)


def neighbours(numbers, dtype):
    """Return the numbers of the dtype just below and above, by torch's own conversions."""
    nearest = numbers.to(dtype)
    down = torch.nextafter(nearest, torch.full_like(nearest, -torch.inf))
    up = torch.nextafter(nearest, torch.full_like(nearest, torch.inf))
    exact = nearest.double()
    lower = torch.where(exact <= numbers.double(), exact, down.double())
    return lower, torch.where(exact >= numbers.double(), exact, up.double())


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=80)
@given(st.lists(st.floats(-60_000, 60_000, width=32), min_size=1, max_size=9))
def test_the_result_is_a_neighbour(dtype, numbers):
    numbers = torch.tensor(numbers)
    lower, upper = neighbours(numbers, dtype)
    for _ in range(5):
        rounded = rounded_anew(numbers, dtype)
        assert rounded.dtype == dtype
        # below the smallest step of all, float32 itself has no room for the comparison
        tiny = numbers.abs() < 1e-37
        assert ((rounded.double() == lower) | (rounded.double() == upper) | tiny).all()
        assert torch.equal(rounded_anew(rounded.float(), dtype), rounded)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [1.0 + 2**-12, -0.05012345, 3.1e-5, -7.77e-7, 2.0**-26, 1234.56])
def test_the_mean_is_the_number(dtype, number):
    torch.manual_seed(3)
    exact = torch.tensor([number], dtype=torch.float32)
    lower, upper = neighbours(exact, dtype)
    count = 40_000
    mean = rounded_anew(exact.expand(count), dtype).double().mean().item()
    share = ((exact.double() - lower) / (upper - lower)).nan_to_num(0).item()  # 0 / 0 if there is nothing to round
    error = ((upper - lower) * (share * (1 - share) / count) ** 0.5).item()
    assert abs(mean - exact.item()) < 5 * error + 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_columns_and_seeds_are_rounded_independently(dtype):
    number = 1 + torch.finfo(dtype).eps / 2  # as often up as down
    up = [
        round_randomly(torch.full((500, 64), number), torch.arange(500) * 7, dtype, seed=seed).double() > 1
        for seed in (0, 1, -(2**63), 2**63 - 1)
    ]
    for rounded in up:
        signs = 2.0 * rounded - 1
        assert abs(signs.mean()) < 5 / 32_000**0.5
        assert signs.mean(dim=1).abs().max() < 5 / 64**0.5
        assert signs.mean(dim=0).abs().max() < 5 / 500**0.5
        for one, other in ((signs[1:], signs[:-1]), (signs[:, 1:], signs[:, :-1]), (signs, 2.0 * up[0] - 1)):
            assert rounded is up[0] or abs((one * other).mean()) < 5 / 30_000**0.5
    again = round_randomly(torch.full((1, 64), number), torch.tensor([7 * 33]), dtype, seed=1).double() > 1
    assert torch.equal(again[0], up[1][33])  # whatever other rows are rounded with it


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_out_of_the_ordinary(dtype):
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan])
    odd = torch.cat([odd, torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])  # NaNs of all bits
    for _ in range(20):
        rounded = rounded_anew(odd, dtype)
        assert rounded[:4].tolist() == [0, 0, torch.inf, -torch.inf]
        assert rounded[4:].isnan().all()
    assert rounded_anew(torch.empty(0, 3), dtype).shape == (0, 3)
    assert rounded_anew(torch.ones(3, 2).t(), dtype).tolist() == torch.ones(2, 3).tolist()


def half(dtype, seed=1):
    numbers = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(seed))
    parameter = nn.Parameter(numbers.to(dtype))
    parameter.grad_dtype = torch.float32
    return parameter


def gradients(steps, seed=0):
    rng = np.random.default_rng(seed)
    for step in range(steps):
        ids = torch.from_numpy(rng.integers(2, ROWS, size=0 if step == 3 else 7))
        values = torch.from_numpy(rng.normal(size=(len(ids), DIM)).astype(np.float32))
        yield torch.sparse_coo_tensor(ids[None], values, (ROWS, DIM), check_invariants=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_step_is_that_of_float32_rounded(dtype, spec, is_sparse):
    """State as in float32, and weights within a step of the dtype."""
    parameter = half(dtype)
    reference = nn.Parameter(parameter.detach().float())
    optimizer, other = spec.build([("table", parameter)]), spec.build([("table", reference)])
    step = torch.finfo(dtype).eps
    for gradient in gradients(6):
        with torch.no_grad():
            reference.copy_(parameter)
        gradient = gradient if is_sparse else gradient.to_dense()
        parameter.grad, reference.grad = gradient, gradient.clone()
        optimizer.step()
        other.step()
        assert parameter.dtype == dtype
        difference = (parameter.float() - reference).abs()
        assert (difference <= reference.abs() * step * 1.01 + 1e-7).all()
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == torch.float32
                torch.testing.assert_close(value, other.state[reference][name], rtol=2e-5, atol=1e-6)
            else:
                assert value == other.state[reference][name]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_rows_without_gradient_stand_still(spec):
    parameter = half(torch.bfloat16)
    before = parameter.detach().clone()
    optimizer = spec.build([("table", parameter)])
    parameter.grad = torch.sparse_coo_tensor(
        torch.tensor([[4, 7]]), torch.ones(2, DIM), (ROWS, DIM), check_invariants=True
    )
    optimizer.step()
    assert (parameter != before).any(dim=1).nonzero().flatten().tolist() == [4, 7]


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_steps_are_not_lost(dtype):
    """A hundred steps, each a fortieth of what the dtype can show: nearest rounding takes none, ours all on average."""
    count, steps, size = 20_000, 100, torch.finfo(dtype).eps / 2 / 40
    table = EmbeddingTable(count, 1, scale=0.0, dtype={torch.bfloat16: "bfloat16", torch.float16: "float16"}[dtype])
    table.weight.data[2:] = 0.75  # between 0.5 and 1 numbers are eps / 2 apart
    nearest = table.weight.detach().clone()
    optimizer = RowwiseAdagrad(lr=size * 1e4, initial_accumulator=1.0).build(table.named_parameters())
    ids = torch.arange(2, count)
    for _ in range(steps):
        optimizer.zero_grad()
        (-1e-4 * table(ids)).sum().backward()  # the accumulator hardly moves: every step is `size` up
        optimizer.step()
        nearest[2:] = (nearest[2:].float() + size).to(dtype)
    assert (nearest[2:] == 0.75).all()
    moved = table.weight[2:].detach().double().mean().item() - 0.75
    error = torch.finfo(dtype).eps / 2 * (steps / 40 / count) ** 0.5  # of the mean of so many independent roundings
    assert moved == pytest.approx(steps * size, abs=5 * error)
    assert steps * size > 200 * error


def test_the_seed_decides():
    def run(seed):
        torch.manual_seed(seed)
        parameter = half(torch.bfloat16)
        optimizer = Adagrad(lr=0.1).build([("table", parameter)])
        for gradient in gradients(5):
            parameter.grad = gradient
            optimizer.step()
        return parameter.detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_state_is_loaded_as_it_was(spec, composite):
    def build():
        parameter = half(torch.float16)
        whole = Composite([(spec, "table")]) if composite else spec
        return whole.build([("table", parameter)]), parameter

    optimizer, parameter = build()
    steps = list(gradients(8))
    for gradient in steps[:5]:
        parameter.grad = gradient
        optimizer.step()
    saved, weights = copy.deepcopy(optimizer.state_dict()), parameter.detach().clone()
    random = torch.get_rng_state()
    again, other = build()
    again.load_state_dict(saved)
    with torch.no_grad():
        other.copy_(weights)
    for name, value in optimizer.state[parameter].items():
        if isinstance(value, torch.Tensor):
            assert again.state[other][name].dtype == torch.float32
            assert torch.equal(again.state[other][name], value)
    for gradient in steps[5:]:
        parameter.grad = gradient
        optimizer.step()
    torch.set_rng_state(random)
    for gradient in steps[5:]:
        other.grad = gradient
        again.step()
    assert torch.equal(parameter, other)


@pytest.mark.parametrize("spec", [SGD(lr=0.1), SGD(lr=0.1, momentum=0.9), Adam()], ids=repr)
def test_torchs_own_optimizers_refuse_tables_in_half_precision(spec):
    table = EmbeddingTable(9, 2, dtype="bfloat16")
    optimizer = spec.build(table.named_parameters())
    table(torch.tensor([3])).sum().backward()
    with pytest.raises(ConfigError, match="parameter 'weight'.*use LazyAdam, Adagrad or RowwiseAdagrad"):
        optimizer.step()


@pytest.mark.parametrize("dim", [1, 5, 32])
@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: type(spec).__name__)
def test_the_kernel_rounds_as_plain_torch_does(spec, dim):
    """Equal bits but where float32 differs in its last bit, and there the neighbour."""
    if native.library() is None:
        pytest.skip("no C++ compiler")
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(400, dim, generator=generator).bfloat16()
    ids = torch.randint(1, 400, (300,), generator=generator)
    gradient = torch.randn(300, dim, generator=generator)

    def run(parameter):
        torch.manual_seed(6)
        optimizer = spec.build([("table", parameter)])
        parameter.grad = torch.sparse_coo_tensor(ids[None], gradient, parameter.shape, check_invariants=True)
        optimizer.step()
        return parameter.detach(), optimizer.state[parameter]

    def table():
        parameter = nn.Parameter(start.clone())
        parameter.grad_dtype = torch.float32
        return parameter

    one, state = run(table())
    with native.without_kernels():
        other, expected = run(table())
    assert (one == other).double().mean() > 0.995
    assert ((one.float() - other.float()).abs() <= other.float().abs() * 2**-7 + 1e-9).all()
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_the_kernel_keeps_numbers_out_of_the_ordinary():
    parameter = nn.Parameter(torch.zeros(4, 3, dtype=torch.bfloat16))
    parameter.grad_dtype = torch.float32
    optimizer = RowwiseAdagrad(lr=1.0).build([("table", parameter)])
    values = torch.tensor([[torch.nan, 0.0, 1.0], [0.0, 1.0, 0.0]])
    parameter.data[2, 0], parameter.data[2, 2] = torch.inf, -torch.inf
    parameter.grad = torch.sparse_coo_tensor(torch.tensor([[1, 2]]), values, (4, 3), check_invariants=True)
    optimizer.step()
    assert parameter[1].isnan().all()
    assert parameter[2, 0] == torch.inf
    assert parameter[2, 1] < 0
    assert parameter[2, 2] == -torch.inf
    assert (parameter[[0, 3]] == 0).all()
