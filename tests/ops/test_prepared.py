"""What is prepared for serving gives at every call the bits of the plain operation."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.jagged import Jagged
from retrank.core.native import without_kernels
from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups
from retrank.ops.dense import Dense, PreparedStack, dense_stack
from retrank.ops.prepared_lookups import PreparedLookups, Rows

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def a_stack(widths):
    return [
        Dense(torch.randn(b, a), torch.randn(b) if b % 2 else None, b % 3 > 0) for a, b in itertools.pairwise(widths)
    ]


@given(widths=st.lists(st.sampled_from([1, 2, 16, 17, 33]), min_size=2, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_a_prepared_stack_is_dense_stack(widths, seed):
    torch.manual_seed(seed)
    layers = a_stack(widths)
    stack = PreparedStack(layers)
    with torch.no_grad():
        for change in range(2):
            for batch in (1, 0, 5, 40):
                inputs = torch.randn(batch, widths[0])
                assert torch.equal(stack(inputs), dense_stack(inputs, layers))
            wide = torch.randn(7, 2 * widths[0])
            for rows in (wide[:, : widths[0]], wide[:, ::2], wide[:, 1::2], wide[0, : widths[0]], wide.view(7, 2, -1)):
                assert torch.equal(stack(rows), dense_stack(rows, layers))
            layers[0].weight.mul_(2 + change)  # numbers are read at each call


def test_a_prepared_stack_takes_any_layout_of_weights_and_has_gradients_of_its_inputs():
    layers = [Dense(torch.nn.Parameter(torch.randn(5, 8))[:, ::2], torch.randn(10)[::2], True)]
    stack, inputs = PreparedStack(layers), torch.randn(3, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(dense_stack(inputs, layers).sum(), inputs)
    (got,) = torch.autograd.grad(stack(inputs).sum(), inputs)
    torch.testing.assert_close(got, expected)


def test_what_does_not_fit_a_prepared_stack_is_refused():
    layers = [Dense(torch.randn(3, 4), torch.randn(3), True)]
    for bad in ([], [Dense(torch.randn(3, 4), torch.randn(2), True)], [*layers, Dense(torch.randn(3, 4), None, True)]):
        with pytest.raises(rr.errors.ShapeError):
            PreparedStack(bad)
    stack = PreparedStack(layers)
    with torch.no_grad():
        for inputs in (torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 0), torch.randn(2, 4, dtype=torch.float64)):
            with pytest.raises(rr.errors.RetrankError):
                stack(inputs)
        assert stack(torch.randn(2, 4)).shape == (2, 3)


def lists_of(lengths, num_ids, *, weighted):
    values = torch.randint(num_ids, (sum(lengths),))
    return Jagged.from_lengths(
        values, torch.tensor(lengths, dtype=torch.int64), torch.rand(len(values)) if weighted else None
    )


@given(
    dims=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    lengths=st.lists(st.integers(0, 4), max_size=6),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_prepared_lookups_are_concatenate_lookups(dims, lengths, seed):
    torch.manual_seed(seed)
    tables = [Rows(torch.randn(7, dim), ("sum", "mean", "sqrtn")[place % 3]) for place, dim in enumerate(dims)]
    prepared = PreparedLookups(tables)
    for kind in range(3):
        ids = [
            torch.randint(7, (len(lengths),)) if (kind + place) % 3 == 0
            else lists_of(lengths, 7, weighted=(kind + place) % 3 == 1)
            for place in range(len(tables))
        ]  # fmt: skip
        lookups = [Lookup(table.weight, own, table.pooling) for table, own in zip(tables, ids, strict=True)]
        with torch.no_grad():
            assert torch.equal(prepared(ids), concatenate_lookups(lookups))
        tables[0].weight.add_(1.0)  # numbers are read at each call


def test_what_does_not_fit_prepared_lookups_is_refused():
    with pytest.raises(rr.errors.ShapeError):
        PreparedLookups([])
    with pytest.raises(rr.errors.ShapeError):
        PreparedLookups([Rows(torch.randn(3), "sum")])
    prepared = PreparedLookups([Rows(torch.randn(4, 2), "sum"), Rows(torch.randn(3, 2), "mean")])
    one, astray = torch.tensor([1, 2]), Jagged.from_lists([[1], [2]])
    astray.offsets[1] = 10**6
    with torch.no_grad():
        for bad in (
            [one, one[:1]],
            [one, one.int()],
            [one, one.float()],
            [one, one[None]],
            [one, astray],
            [one, torch.tensor(1)],
        ):
            with pytest.raises(rr.errors.ShapeError):
                prepared(bad)
        for bad in ([one, one + 1], [one, -one], [one, Jagged.from_lists([[1], [3]])]):
            with pytest.raises(rr.errors.DataError):
                prepared(bad)
        with pytest.raises(ValueError, match="shorter"):
            prepared([one])
        assert prepared([one, torch.stack([one, one], dim=1)[:, 0]]).shape == (2, 4)  # ids that are not contiguous


def test_threads_that_share_what_is_prepared_get_what_one_gets():
    layers = a_stack([6, 16, 4])
    stack, lookups = PreparedStack(layers), PreparedLookups([Rows(torch.randn(9, 6), "mean")])
    asked = [torch.randint(9, (n % 5,)) for n in range(40)]
    with torch.no_grad():
        expected = [stack(lookups([ids])) for ids in asked]

    def ask(place):
        with torch.no_grad():
            return all(torch.equal(stack(lookups([asked[n]])), expected[n]) for n in range(place % 40, 40))

    with ThreadPoolExecutor(8) as pool:  # each in this context, which says whether there are kernels
        assert all(done.result() for done in [pool.submit(copy_context().run, ask, n) for n in range(200)])


def test_what_was_prepared_with_kernels_answers_without_them():
    layers = a_stack([6, 16, 4])
    stack, lookups = PreparedStack(layers), PreparedLookups([Rows(torch.randn(9, 6), "mean")])
    with torch.no_grad():
        found = stack(lookups([torch.arange(9)]))
        with without_kernels():
            torch.testing.assert_close(stack(lookups([torch.arange(9)])), found)


@pytest.mark.parametrize(
    "module",
    [
        rr.layers.MLP(5, [8, 3]),
        rr.layers.MLP(5, [8, 3], dropout=0.5),
        rr.layers.MLP(5, [8, 3], activation=torch.nn.GELU()),
        rr.layers.MLP(5, [3], final_activation=torch.nn.ReLU(), bias=False),
        rr.layers.Cross(5),
        rr.layers.Cross(5, bias=False),
        rr.layers.Cross(5, projection_dim=2),
        rr.layers.Cross(5, diag_scale=0.5),
        rr.layers.Cross(5, preactivation=torch.nn.Tanh()),
    ],
    ids=repr,
)
def test_a_prepared_module_is_forward(module):
    module.eval()
    prepared = module.prepared()
    with torch.no_grad():
        for inputs in (torch.randn(4, 5), torch.randn(0, 5), torch.randn(2, 3, 5)):
            assert torch.equal(prepared(inputs), module(inputs))
        with pytest.raises(rr.errors.ShapeError):
            prepared(torch.randn(4, 6))


def test_what_somebody_listens_to_is_called():
    heard = []
    module = rr.layers.MLP(5, [8, 3]).eval()
    module.linears[0].register_forward_hook(lambda *_: heard.append(1))
    module.prepared()(torch.randn(2, 5))
    assert heard
