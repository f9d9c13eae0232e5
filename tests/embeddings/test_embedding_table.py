import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.penalties import collecting_penalties
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embedding_table import EmbeddingTable


def filled(num_ids, dim, **arguments):
    """A table whose rows are all different and, but for padding, not zero."""
    table = EmbeddingTable(num_ids, dim, **arguments)
    with torch.no_grad():
        table.weight[1:] = torch.randn(num_ids - 1, dim, generator=torch.Generator().manual_seed(num_ids * 31 + dim))
    return table


def pooled_by_hand(weight, lists, weights, combiner):
    out = np.zeros((len(lists), weight.shape[1]))
    for row, (ids, factors) in enumerate(zip(lists, weights, strict=True)):
        factors = [0.0 if i == 0 else f for i, f in zip(ids, factors, strict=True)]
        total = sum(
            (f * weight[i].astype(np.float64) for i, f in zip(ids, factors, strict=True)), np.zeros(out.shape[1])
        )
        norm = {"sum": 1.0, "mean": sum(factors), "sqrtn": sum(f * f for f in factors) ** 0.5}[combiner]
        out[row] = total / norm if norm else 0.0
    return out


def weighted(lists, weights=None):
    jagged = Jagged.from_lists(lists)
    if weights is not None:
        jagged = Jagged(jagged.values, jagged.offsets, torch.tensor([w for row in weights for w in row]))
    return jagged


def test_ids_give_their_rows():
    table = filled(6, 3)
    np.testing.assert_array_equal(table(torch.tensor([5, 1, 5])).detach(), table.weight.detach()[[5, 1, 5]])
    np.testing.assert_array_equal(table(torch.tensor([[4], [0]])).detach(), table.weight.detach()[[4, 0]][:, None])
    assert table(torch.empty(0, dtype=torch.int64)).shape == (0, 3)
    assert table(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, 3)


def test_initial_rows():
    torch.manual_seed(1)
    table = EmbeddingTable(5_000, 4, scale=0.2)
    rows = table.weight.detach().numpy()
    assert (rows[:2] == 0).all()
    assert np.abs(rows).max() <= 0.2
    assert rows[2:].std() == pytest.approx(0.2 / 3**0.5, rel=0.03)
    assert abs(rows.mean()) < 0.005
    assert EmbeddingTable(100, 4).weight.abs().max() <= 0.05
    torch.manual_seed(1)
    assert torch.equal(EmbeddingTable(5_000, 4, scale=0.2).weight, table.weight)


@golden("krs_embed_reduce")
def test_golden(case):
    """Row r of the source is our row r + 1: its id 0 is an ordinary id."""
    weight = torch.tensor(case["inputs"]["embeddings"])
    table = EmbeddingTable(len(weight) + 1, weight.shape[1], combiner=case["arguments"]["constructor"]["combiner"])
    with torch.no_grad():
        table.weight[1:] = weight
    ids = torch.tensor(case["inputs"]["inputs"]) + 1
    if ids.dim() == 2:
        weights = case["inputs"].get("weights")
        ids = weighted(ids.tolist(), weights)
    output = table(ids)
    output.sum().backward()
    np.testing.assert_allclose(output.detach(), case["expected"]["output"], rtol=1e-5, atol=1e-6)
    gradient = table.weight.grad
    assert gradient.is_sparse
    np.testing.assert_allclose(
        gradient.to_dense()[1:], case["expected"]["grad_embeddings_of_sum"], rtol=1e-4, atol=1e-5
    )


LISTS = st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=5)


@settings(max_examples=60)
@given(LISTS, st.sampled_from(["mean", "sum", "sqrtn"]), st.booleans(), st.randoms(use_true_random=False))
def test_pooling_and_its_gradient(lists, combiner, has_weights, random):
    table = filled(7, 3, combiner=combiner)
    weights = [[random.choice([0.0, 0.5, 1.0, 2.5, -1.0]) for _ in row] for row in lists]
    if not has_weights:
        weights = [[1.0] * len(row) for row in lists]
    output = table(weighted(lists, weights if has_weights else None))
    assert output.shape == (len(lists), 3)
    weight = table.weight.detach().numpy()
    np.testing.assert_allclose(output.detach(), pooled_by_hand(weight, lists, weights, combiner), rtol=1e-5, atol=1e-5)

    upstream = np.random.default_rng(0).normal(size=(len(lists), 3)).astype(np.float32)
    output.backward(torch.from_numpy(upstream))
    expected = np.zeros_like(weight)
    for row, (ids, factors) in enumerate(zip(lists, weights, strict=True)):
        for place, id_ in enumerate(ids):
            alone = [0.0 if i == 0 else f for i, f in zip(ids, factors, strict=True)]
            norm = {"sum": 1.0, "mean": sum(alone), "sqrtn": sum(f * f for f in alone) ** 0.5}[combiner]
            expected[id_] += upstream[row] * (alone[place] / norm if norm else 0.0)
    np.testing.assert_allclose(table.weight.grad.to_dense(), expected, rtol=1e-4, atol=1e-5)
    assert (table.weight.grad.to_dense()[0] == 0).all()


def test_a_list_does_not_depend_on_its_padding():
    table = filled(9, 4)
    padded = table(Jagged.from_lists([[3, 5, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(padded.detach(), table(Jagged.from_lists([[3, 5], []])).detach())


def test_a_slice_of_a_jagged_pools_its_own_values():
    table = filled(9, 4)
    lists = Jagged.from_lists([[1, 2], [3], [], [4, 4, 8]])
    np.testing.assert_array_equal(table(lists[1:]).detach(), table(lists).detach()[1:])


def test_gradient_of_the_weights_of_a_list():
    table = filled(9, 4, combiner="mean").double()
    lists = Jagged.from_lists([[1, 2, 0], [], [3, 3]])
    weights = torch.tensor([0.3, 0.9, 1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)

    def pooled(w):
        return table(Jagged(lists.values, lists.offsets, w))

    assert torch.autograd.gradcheck(pooled, (weights,))


def test_gradient_is_row_sparse_and_padding_gets_none():
    table = filled(1_000, 2)
    table(torch.tensor([[7, 0], [7, 3]])).sum().backward()
    gradient = table.weight.grad
    assert gradient.is_sparse
    assert gradient._values().numel() == 8
    dense = gradient.to_dense()
    assert dense[7].tolist() == [2, 2]
    assert dense[3].tolist() == [1, 1]
    assert dense.abs().sum() == 6


def test_two_lookups_of_one_step_add_up():
    table = filled(10, 2)
    (table(torch.tensor([4])).sum() + table(Jagged.from_lists([[4, 5]])).sum()).backward()
    assert table.weight.grad.is_sparse
    assert table.weight.grad.to_dense()[[4, 5]].tolist() == [[1.5, 1.5], [0.5, 0.5]]


@pytest.mark.parametrize("bad", [-1, 6, 1_000_000])
def test_ids_out_of_range_name_the_table_and_the_row(bad):
    table = EmbeddingTable(ColumnSchema("movie_id", "ids", num_ids=6), 3)
    wide = EmbeddingTable(6, 33, name="movie_id")
    for ids, row in [
        (torch.tensor([1, 2, bad]), 2),
        (torch.tensor([[1, 2], [bad, 1]]), 1),
        (Jagged.from_lists([[1], [], [2, bad]]), 2),
    ]:
        for candidate in (table, wide):
            with pytest.raises(DataError, match=rf"table 'movie_id', row {row}: expected ids in \[0, 6\), got {bad};"):
                candidate(ids)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([1.0]),
        torch.tensor([1], dtype=torch.int32),
        torch.tensor(3),
        torch.ones(1, 1, 1, dtype=torch.int64),
        Jagged(torch.ones(2, 2, dtype=torch.int64), torch.tensor([0, 2])),
        Jagged.from_lists([[1.0]], dtype=torch.float32),
    ],
)
def test_wrong_ids_are_refused(ids):
    with pytest.raises(ShapeError, match="table 'movie_id': expected int64 ids"):
        EmbeddingTable(6, 3, name="movie_id")(ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 1, "dim": 4}, "rows=1"),
        ({"rows": 5, "dim": 0}, "dim=0"),
        ({"rows": 5, "dim": 1, "combiner": "median"}, "'median'"),
        ({"rows": 5, "dim": 1, "scale": -1.0}, "scale=-1.0"),
        ({"rows": 5, "dim": 1, "l2": float("nan")}, "l2=nan"),
        ({"rows": ColumnSchema("age", "number"), "dim": 1}, "'age'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingTable(**arguments)


def test_schema_gives_size_and_name():
    table = EmbeddingTable(ColumnSchema("genres", "ids", is_jagged=True, num_ids=20), 4)
    assert (table.num_ids, table.dim, table.name) == (20, 4, "genres")
    assert "'genres', 20, 4" in repr(table)


def test_grow_keeps_rows_and_the_parameter():
    table = filled(5, 3)
    parameter, before = table.weight, table.weight.detach().clone()
    table(torch.tensor([2])).sum().backward()
    table.grow(8)
    assert table.weight is parameter
    assert table.weight.grad is None
    assert table.num_ids == 8
    assert torch.equal(table.weight[:5], before)
    assert (table.weight[5:].abs() <= 0.05).all()
    assert (table.weight[5:] != 0).any()
    table(torch.tensor([7])).sum().backward()
    assert table.weight.grad.shape == (8, 3)
    with pytest.raises(ConfigError, match="at least 8 rows, got 7"):
        table.grow(7)


def test_config_round_trip_after_growing():
    table = EmbeddingTable(ColumnSchema("genres", "ids", num_ids=20), 4, combiner="sqrtn", l2=0.5)
    table.grow(25)
    again = from_config(json.loads(json.dumps(to_config(table))))
    again.load_state_dict(table.state_dict())
    assert torch.equal(again.weight, table.weight)
    assert (again.name, again.combiner, again.l2) == ("genres", "sqrtn", 0.5)
    assert list(table.state_dict()) == ["weight"]


def test_every_lookup_of_a_step_has_its_penalty():
    table = filled(6, 2, l2=0.5)
    norms = table.weight.detach().square().sum(dim=1)
    assert table.penalty(torch.tensor([2, 2, 3])).item() == pytest.approx(
        float(0.5 * (2 * norms[2] + norms[3]) / 3), rel=1e-6
    )
    with collecting_penalties() as penalties:
        table(torch.tensor([4]))
        table(Jagged.from_lists([[5], [0, 2]]))
        table(torch.empty(0, dtype=torch.int64))
    penalty = penalties.total()
    assert penalty.item() == pytest.approx(float(0.5 * (norms[4] + (norms[5] + norms[2]) / 2)), rel=1e-6)
    penalty.backward()
    gradient = table.weight.grad
    assert gradient.is_sparse
    np.testing.assert_allclose(gradient.to_dense()[4], table.weight[4].detach(), rtol=1e-6)  # 2 · 0.5 · e
    np.testing.assert_allclose(gradient.to_dense()[5], table.weight[5].detach() / 2, rtol=1e-6)
    assert (gradient.to_dense()[[0, 1, 3]] == 0).all()


def test_lookups_outside_of_a_step_and_failed_ones_have_none():
    table = filled(6, 2, l2=1.0)
    table(torch.tensor([2, 3]))
    with collecting_penalties() as penalties:
        filled(6, 2)(torch.tensor([2]))
        with pytest.raises(DataError):
            table(torch.tensor([6]))
    table(torch.tensor([4]))
    assert penalties.total() == 0


def test_copies_are_independent():
    table = filled(6, 2)
    other = copy.deepcopy(table)
    other.grow(9)
    assert (table.num_ids, table.config["rows"], other.config["rows"]) == (6, 6, 9)
