import json

import numpy as np
import pytest
import torch
from tests.golden import cases

from retrank.core.batch import Batch
from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.penalties import collecting_penalties
from retrank.embeddings.hashing import bucket_ids
from retrank.embeddings.unified import UnifiedEmbedding
from retrank.optim.adagrad import Adagrad

GOLDEN = cases("tfrs_unified_embedding")


def build(case):
    arguments = dict(case["arguments"]["constructor"])
    features = {feature["name"]: feature["num_chunks"] for feature in arguments.pop("features")}
    return UnifiedEmbedding(features, **arguments)


def batch_of(embeddings, rows, low=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch({name: torch.randint(low, 10**9, (rows,), generator=generator) for name in embeddings.features})


def chunks_of(vectors, embeddings, feature):
    return vectors[feature].detach().unflatten(-1, (-1, embeddings.dim_per_table))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_structure(case):
    embeddings, expected = build(case), case["expected"]
    rows = case["inputs"]["batch_size"]
    batch = batch_of(embeddings, rows)
    vectors = embeddings(batch)
    assert list(vectors) == expected["output_features"] == list(embeddings.features)
    assert [list(v.shape) for v in vectors.values()] == expected["output_shapes"]
    assert list(embeddings.dims.values()) == [shape[1] for shape in expected["output_shapes"]]
    assert [list(embeddings.tables_of(name)) for name in embeddings.features] == expected["chunk_table"]
    # Position p of the output is chunk p: numeric order, where the source sorts the names of chunks as text.
    for place, name in enumerate(embeddings.features):
        chunks = chunks_of(vectors, embeddings, name)
        for chunk, hashing in enumerate(expected["hash"][place]):
            rows_read = bucket_ids(batch[name], hashing["num_bins"], tuple(hashing["salt"]))
            table = embeddings.tables[expected["chunk_table"][place][chunk]].weight.detach()
            assert len(table) == 2 + hashing["num_bins"]
            np.testing.assert_array_equal(chunks[:, chunk], table[rows_read])


def test_chunk_ten_comes_after_chunk_two():
    embeddings = build(next(case for case in GOLDEN if case["name"] == "twelve_chunks"))
    with torch.no_grad():
        for place, table in enumerate(embeddings.tables):
            table.weight.fill_(place)
    vectors = embeddings(batch_of(embeddings, 1))
    assert chunks_of(vectors, embeddings, "movie")[0, :, 0].tolist() == [chunk % 5 for chunk in range(12)]


def test_chunks_and_features_hash_apart():
    embeddings = UnifiedEmbedding({"a": 2, "b": 1}, buckets_per_table=10_000, dim_per_table=2)
    ids = torch.arange(2, 502)
    vectors = embeddings(Batch({"a": ids, "b": ids}))
    first, second = chunks_of(vectors, embeddings, "a").unbind(1)
    other = vectors["b"].detach()
    for one, two in ((first, second), (first, other), (second, other)):
        assert (one == two).all(dim=1).sum() <= 2
    assert len({tuple(row) for row in vectors["a"].tolist()}) == 500


def test_rows_do_not_depend_on_the_batch():
    embeddings = UnifiedEmbedding({"a": 3}, buckets_per_table=50, dim_per_table=4, num_tables=2)
    ids = torch.tensor([5, 9, 5, 0, 1])
    vectors = embeddings(Batch({"a": ids}))["a"]
    for row, id_ in enumerate(ids):
        assert torch.equal(embeddings(Batch({"a": id_[None]}))["a"][0], vectors[row])
    assert (vectors[3:] == 0).all()
    assert torch.equal(embeddings(Batch({"a": ids[None]}))["a"][0], vectors)
    assert embeddings(Batch({"a": ids[:0]}))["a"].shape == (0, 12)


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", "max"])
def test_lists_are_pooled(combiner):
    embeddings = UnifiedEmbedding({"a": 3}, buckets_per_table=50, dim_per_table=4, num_tables=2, combiner=combiner)
    pooled = embeddings(Batch({"a": Jagged.from_lists([[5, 9, 0], [], [9]])}))["a"].detach()
    one, two = embeddings(Batch({"a": torch.tensor([5, 9])}))["a"].detach()
    both = torch.maximum(one, two) if combiner == "max" else (one + two) / {"mean": 2, "sqrtn": 2**0.5}.get(combiner, 1)
    torch.testing.assert_close(pooled, torch.stack([both, torch.zeros(12), two]))


def test_gradients_are_row_sparse_and_padding_stays():
    embeddings = UnifiedEmbedding({"a": 3, "b": 2}, buckets_per_table=40, dim_per_table=2, num_tables=2)
    optimizer = Adagrad(lr=0.1).build(embeddings.named_parameters())
    before = [table.weight.detach().clone() for table in embeddings.tables]
    vectors = embeddings(Batch({"a": torch.tensor([7, 0]), "b": Jagged.from_lists([[1, 8], [0]])}))
    sum(values.exp().sum() for values in vectors.values()).backward()
    assert all(table.weight.grad.is_sparse for table in embeddings.tables)
    optimizer.step()
    for table, old in zip(embeddings.tables, before, strict=True):
        moved = (table.weight != old).any(dim=1).nonzero().flatten().tolist()
        assert 0 not in moved
        assert 2 <= len(moved) <= 6


def test_the_penalty_is_on_the_vectors_of_the_ids():
    embeddings = UnifiedEmbedding({"a": 3, "b": 2}, buckets_per_table=40, dim_per_table=2, num_tables=2, l2=0.5)
    batch = Batch({"a": torch.tensor([7, 0]), "b": Jagged.from_lists([[1, 8], [8]])})
    vectors = embeddings(Batch({"a": torch.tensor([7, 7]), "b": torch.tensor([8, 8])}))
    norm = {name: values[0].square().sum().item() for name, values in vectors.items()}
    expected = 0.5 * (norm["a"] + 2 * norm["b"]) / 2  # padding and the unknown row are zeros
    assert embeddings.penalty(batch).item() == pytest.approx(expected, rel=1e-5)
    with collecting_penalties() as penalties:
        embeddings(batch)
        embeddings(batch.merge({"other": torch.tensor([1, 2])}))
    assert penalties.total().item() == pytest.approx(2 * expected, rel=1e-5)
    penalties.total().backward()
    assert all(table.weight.grad.is_sparse for table in embeddings.tables)


def test_linear_terms_are_a_weight_for_every_id():
    embeddings = UnifiedEmbedding({"b": 3, "a": 1}, buckets_per_table=90, dim_per_table=2, num_tables=2, combiner="sum")
    terms = embeddings.linear_terms()
    assert terms.dims == {"b": 1, "a": 1}
    assert (terms.combiner, len(terms.tables), len(terms.tables[0].weight)) == ("sum", 2, 92)
    assert all((values == 0).all() for values in terms(batch_of(terms, 5)).values())


def test_config_round_trip():
    embeddings = UnifiedEmbedding({"b": 3, "a": 1}, buckets_per_table=9, dim_per_table=2, num_tables=3, combiner="sum")
    again = from_config(json.loads(json.dumps(to_config(embeddings))))
    again.load_state_dict(embeddings.state_dict())
    batch = batch_of(embeddings, 4)
    vectors = again(batch)
    assert list(vectors) == ["b", "a"]
    for name, values in embeddings(batch).items():
        assert torch.equal(values, vectors[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": {}}, "features={}"),
        ({"features": {"a": 0}}, "'a': 0"),
        ({"buckets_per_table": 0}, "buckets_per_table=0"),
        ({"dim_per_table": 0}, "dim_per_table=0"),
        ({"num_tables": 0}, "num_tables=0"),
        ({"combiner": "median"}, "'median'"),
        ({"l2": -1.0}, "l2=-1.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        UnifiedEmbedding(**{"features": {"a": 1}, "buckets_per_table": 3, "dim_per_table": 2, **arguments})


def test_bad_batches_are_refused():
    embeddings = UnifiedEmbedding({"age": 1}, buckets_per_table=3, dim_per_table=2)
    with pytest.raises(DataError, match="'age'"):
        embeddings(Batch({"sex": torch.tensor([2])}))
    with pytest.raises(DataError, match="row 1: .* got -4"):
        embeddings(Batch({"age": torch.tensor([2, -4])}))
