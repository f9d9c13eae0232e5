"""Vectors side by side against plain torch: rows by id, pooled lists and what is there already."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core import native
from retrank.ops.concatenate_lookups import Lookup, concatenate_lookups

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def pooled(weight, lists, weights, combiner):
    """The slow way, in float64: a list at a time."""
    rows = []
    for row, ids in enumerate(lists):
        factors = np.array(
            [0.0 if i == 0 else 1.0 if weights is None else weights[row][at] for at, i in enumerate(ids)]
        )
        norm = {"sum": 1.0, "mean": factors.sum(), "sqrtn": np.sqrt((factors**2).sum())}[combiner]
        vector = sum((factor * weight[i] for factor, i in zip(factors, ids, strict=True)), np.zeros(weight.shape[1]))
        rows.append(vector / norm if norm else np.zeros(weight.shape[1]))
    return np.array(rows).reshape(len(lists), weight.shape[1])


def collection(combiner, dim=3, **settings):
    many = rr.EmbeddingTable(7, dim + 1, combiner=combiner, name="many", **settings)
    tables = {"one": rr.EmbeddingTable(9, dim, name="one"), "many": many}
    return rr.EmbeddingCollection({**tables, "again": "one"})


IDS, LISTS = st.integers(0, 8), st.lists(st.integers(0, 6), max_size=5)


@given(rows=st.lists(st.tuples(IDS, LISTS, IDS), max_size=40), combiner=st.sampled_from(["sum", "mean", "sqrtn"]))
@settings(max_examples=40)
def test_a_collection_puts_its_vectors_side_by_side(rows, combiner):
    embeddings = collection(combiner)
    lists = [row[1] for row in rows]
    batch = rr.Batch(
        {
            "one": torch.tensor([row[0] for row in rows], dtype=torch.int64),
            "many": rr.Jagged.from_lists(lists),
            "again": torch.tensor([row[2] for row in rows], dtype=torch.int64),
        }
    )
    others = [torch.randn(len(rows), 2, requires_grad=True)]
    found = embeddings.concatenate(batch, others)
    one, many = (embeddings[name].weight.detach().double().numpy() for name in ("one", "many"))
    first, again = (one[batch[name].numpy()] for name in ("one", "again"))
    expected = [first, pooled(many, lists, None, combiner), again, others[0].detach().numpy()]
    np.testing.assert_allclose(found.detach(), np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)

    pull, weights = torch.randn(found.shape), [*embeddings.parameters(), *others]
    found.backward(pull)
    ours = [weight.grad.to_dense() if weight.grad.is_sparse else weight.grad for weight in weights]
    apart = torch.cat([*embeddings(batch).values(), *others], dim=1)
    for weight in weights:
        weight.grad = None
    apart.backward(pull)
    for weight, gradient in zip(weights, ours, strict=True):
        theirs = weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
        torch.testing.assert_close(gradient, theirs)
    assert not embeddings["one"].weight.grad.to_dense()[0].any()  # padding learns nothing
    assert not ours[0][0].any()


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_lists_with_weights(combiner):
    table = rr.EmbeddingTable(7, 5, combiner=combiner)
    lists, weights = [[2, 3], [], [4, 0, 2], [5], [6]], [[0.5, 2.0], [], [1.0, 9.0, -0.25], [0.0], [3.0]]
    flat = torch.tensor([weight for row in weights for weight in row])
    ids = rr.Jagged.from_lists(lists)
    found = table(rr.Jagged(ids.values, ids.offsets, flat))
    expected = pooled(table.weight.detach().double().numpy(), lists, weights, combiner)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5, atol=1e-6)


def test_weights_that_learn_have_gradients():
    table, ids = rr.EmbeddingTable(7, 5, combiner="sum"), rr.Jagged.from_lists([[2, 3], [4]])
    weights = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    table(rr.Jagged(ids.values, ids.offsets, weights)).sum().backward()
    torch.testing.assert_close(weights.grad, table.weight.detach()[[2, 3, 4]].sum(dim=1))


@pytest.mark.parametrize("wrong", [-1, 9, 2**40])
@pytest.mark.parametrize("feature", ["one", "many"])
def test_an_id_outside_of_its_table_is_named(wrong, feature):
    embeddings = collection("mean")
    columns = {
        "one": torch.tensor([2, 3, 4]),
        "many": rr.Jagged.from_lists([[2], [], [3, 4]]),
        "again": torch.ones(3).long(),
    }
    columns["one"][1] = wrong if feature == "one" else 3
    columns["many"].values[2] = wrong if feature == "many" else 3
    row = 1 if feature == "one" else 2
    with pytest.raises(rr.errors.DataError, match=f"got {wrong}") as raised:
        embeddings.concatenate(rr.Batch(columns))
    assert f"table '{feature}', row {row}" in str(raised.value)


@pytest.mark.parametrize("offsets", [[0, 5, 2], [0, 3, 2], [0, 1, 99], [-3, 1, 2], [1, 1, 2], [0, 1, 1], [0, 2**62, 2]])
def test_offsets_that_are_no_offsets_are_refused_and_not_followed(offsets):
    table, lists = rr.EmbeddingTable(7, 5), rr.Jagged(torch.tensor([2, 3]), torch.tensor([0, 1, 2]))
    with pytest.raises(rr.errors.ShapeError, match="Jagged: expected offsets that ascend"):
        rr.Jagged(torch.tensor([2, 3]), torch.tensor(offsets))
    lists.offsets[:] = torch.tensor(offsets)  # behind the back of the constructor
    with pytest.raises(rr.errors.ShapeError, match="Jagged: expected offsets that ascend"):
        table(lists)


def test_parts_that_do_not_lie_in_a_row():
    columns, wide = torch.randn(3, 40).T, torch.randn(40, 9)
    parts = [columns, wide[:, 2:5], wide[:, :1], torch.randn(1, 2).expand(40, 2)]
    assert torch.equal(concatenate_lookups(parts), torch.cat(parts, dim=1))


def test_parts_of_different_length_are_refused():
    with pytest.raises(rr.errors.ShapeError, match="part 1: expected 3 rows"):
        concatenate_lookups([torch.ones(3, 2), torch.ones(4, 2)])


def test_it_can_be_derived_twice():
    parts = [torch.randn(5, 2, requires_grad=True), torch.randn(5, 3, requires_grad=True)]
    first = torch.autograd.grad(concatenate_lookups(parts).pow(3).sum(), parts, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), parts)
    for part, gradient in zip(parts, second, strict=True):
        torch.testing.assert_close(gradient, 36 * part.detach() ** 3)


@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn"])
def test_tables_can_be_derived_twice(pooling):
    lists = rr.Jagged.from_lists([[2, 3, 2], [], [0, 8]])
    weights = torch.rand(len(lists.values))
    lists = rr.Jagged(lists.values, lists.offsets, weights)
    table, inputs = torch.randn(9, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True)

    def second(concatenate):
        rows = concatenate([Lookup(table, torch.tensor([2, 0, 3]), "sum"), Lookup(table, lists, pooling), inputs])
        first = torch.autograd.grad(rows.pow(3).sum(), [table, inputs], create_graph=True)
        total = sum(gradient.to_dense().square().sum() for gradient in first)
        return [gradient.to_dense() for gradient in torch.autograd.grad(total, [table, inputs])]

    def by_matrices(parts):
        (_, ids, _), _, inputs = parts
        one = torch.nn.functional.one_hot(ids, 9).float()
        factors = torch.nn.functional.one_hot(lists.values, 9) * weights[:, None]
        norms = {"sum": lambda w: 1, "mean": lambda w: w.sum(), "sqrtn": lambda w: w.square().sum().sqrt()}
        many = torch.stack([part.sum(0) / (norms[pooling](part) or 1) for part in factors_without_padding(factors)])
        one[:, 0] = 0
        return torch.cat([one @ table, many @ table, inputs], dim=1)

    def factors_without_padding(factors):
        factors[:, 0] = 0
        return [factors[:3], factors[3:3], factors[3:]]

    for ours, theirs in zip(second(concatenate_lookups), second(by_matrices), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"l2": 0.1}])
def test_tables_of_any_kind_stand_beside_others(settings):
    embeddings = rr.EmbeddingCollection(
        {
            "a": rr.EmbeddingTable(9, 4, **settings),
            "b": rr.EmbeddingTable(9, 4, combiner="max"),
            "c": rr.embeddings.HashedTable(9, 4, num_buckets=3),
        }
    )
    batch = rr.Batch(
        {"a": torch.arange(5), "b": rr.Jagged.from_lists([[2], [3, 4], [], [5], [6]]), "c": torch.arange(5)}
    )
    with rr.core.collecting_penalties() as expected:
        vectors = embeddings(batch)
    with rr.core.collecting_penalties() as penalties:
        torch.testing.assert_close(embeddings.concatenate(batch), torch.cat(list(vectors.values()), dim=1))
    torch.testing.assert_close(penalties.total(), expected.total())


def test_a_hundred_steps_of_a_tower_take_the_same_way():
    def trained():
        torch.manual_seed(3)
        embeddings, top = collection("mean"), rr.layers.MLP(12, [8, 1])
        model = torch.nn.ModuleList([embeddings, top])
        optimizer = rr.optim.LazyAdam(lr=0.01).build(model.named_parameters())
        for _ in range(100):
            lists = [torch.randint(7, (size,)).tolist() for size in torch.randint(4, (50,)).tolist()]
            ids = {name: torch.randint(9, (50,)) for name in ("one", "again")}
            rows = embeddings.concatenate(rr.Batch({**ids, "many": rr.Jagged.from_lists(lists)}), [torch.randn(50, 2)])
            optimizer.zero_grad()
            (top(rows)[:, 0] - ids["one"]).square().mean().backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    ours = trained()
    with native.without_kernels():
        torch.testing.assert_close(ours, trained(), rtol=1e-3, atol=1e-4)


def test_a_table_that_somebody_listens_to_is_called():
    embeddings, heard = collection("mean"), []
    ids = torch.arange(5)
    batch = rr.Batch({"one": ids, "again": ids, "many": rr.Jagged.from_lists([[2]] * 5)})
    expected = embeddings.concatenate(batch)
    handle = embeddings["many"].register_forward_hook(lambda module, args, output: heard.append(output))
    torch.testing.assert_close(embeddings.concatenate(batch), expected)
    handle.remove()
    embeddings.concatenate(batch)
    assert len(heard) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_without_numbers(threads):
    lists, table = rr.Jagged.from_lists([[0], [0, 0, 0]]), torch.zeros(1, 0, requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = concatenate_lookups([torch.ones(2, 1), Lookup(table, lists, "sum")])
        rows.sum().backward()
    finally:
        torch.set_num_threads(before)
    assert rows.tolist() == [[1.0], [1.0]]
    assert table.grad.shape == (1, 0)
