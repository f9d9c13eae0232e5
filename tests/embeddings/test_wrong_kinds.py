"""Ids of a kind that would have to be guessed are refused by every table and every collection; arrays are taken."""

import numpy as np
import pytest
import torch

import retrank as rr

E = rr.embeddings
TABLES = {
    "EmbeddingTable": lambda: rr.EmbeddingTable(9, 4, l2=0.1, name="film"),
    "half": lambda: rr.EmbeddingTable(9, 4, dtype="bfloat16", name="film"),
    "max": lambda: rr.EmbeddingTable(9, 4, combiner="max", name="film"),
    "HashedTable": lambda: E.HashedTable(9, 4, num_buckets=3, name="film"),
    "QuotientRemainderTable": lambda: E.QuotientRemainderTable(9, 4, divisor=3, name="film"),
    "MixedDimensionTable": lambda: E.MixedDimensionTable(9, 4, boundaries=[5], dims=[4, 2], name="film"),
    "Int8Table": lambda: rr.EmbeddingTable(9, 4, name="film").to_int8(),
}
COLLECTIONS = {
    "EmbeddingCollection": lambda: rr.EmbeddingCollection({"film": rr.EmbeddingTable(9, 4), "seen": "film"}),
    "UnifiedEmbedding": lambda: E.UnifiedEmbedding(
        {"film": 2, "seen": 1}, buckets_per_table=5, dim_per_table=2, l2=0.1
    ),
}
WRONG = {
    "list": [2, 3],
    "lists": [[2], [3]],
    "tuple": (2, 3),
    "number": 2,
    "text": "film",
    "nothing": None,
    "words": np.array(["a", "b"]),
    "objects": np.array([None, 2]),
    "batch": rr.Batch({"film": torch.tensor([2])}),
}


def test_no_table_is_left_out():
    kinds = [getattr(E, name) for name in E.__all__]
    tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, E.Table) and kind is not E.Table]
    assert {kind.__name__ for kind in tables} <= TABLES.keys()
    others = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, E.Embeddings)]
    assert {kind.__name__ for kind in others} - {"Embeddings"} == COLLECTIONS.keys()


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("ids", WRONG.values(), ids=WRONG.keys())
def test_tables_refuse_other_kinds(make, ids):
    table = make()
    for use in (table, table.lookup, table.penalty):
        with pytest.raises(rr.errors.ShapeError, match=r"table 'film': expected a tensor as ids, got .*as_tensor"):
            use(ids)


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("bad", [np.array([2.0, 3.0]), np.array([True, False]), np.array([2, 3], dtype=np.int32)])
def test_tables_refuse_numbers_that_are_no_ids(make, bad):
    for ids in (bad, torch.from_numpy(bad)):
        with pytest.raises(rr.errors.ShapeError, match="table 'film': expected int64 ids"):
            make()(ids)


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES.keys())
def test_arrays_are_ids(make):
    table = make()
    for ids in (np.array([2, 0, 8]), np.array([[2, 3], [4, 0]])):
        assert torch.equal(table(ids), table(torch.from_numpy(ids)))
    with pytest.raises(rr.errors.DataError, match="row 1: expected ids in"):
        table(np.array([2, -1]))


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS.keys())
def test_collections_take_batches_and_columns_by_name(make):
    embeddings = make()
    columns = {"film": torch.tensor([2, 3]), "seen": rr.Jagged.from_lists([[4], [2, 5]])}
    expected = embeddings(rr.Batch(columns))
    for given in (columns, {**columns, "film": np.array([2, 3])}):
        assert all(torch.equal(vectors, expected[name]) for name, vectors in embeddings(given).items())
    uses = [embeddings, getattr(embeddings, "concatenate", embeddings), getattr(embeddings, "penalty", embeddings)]
    for use in uses:
        for wrong in (torch.tensor([2]), [2], None, "film", [{"film": 2}]):
            with pytest.raises(rr.errors.ShapeError, match=f"{type(embeddings).__name__}: expected a batch"):
                use(wrong)
        with pytest.raises(rr.errors.ShapeError, match="a tensor as column 'film', got a list"):
            use({**columns, "film": [2, 3]})


@pytest.mark.parametrize("column", [[2, 3], (2, 3), "ab", np.array(["a", "b"]), None, 2])
def test_a_batch_is_made_of_tensors(column):
    with pytest.raises(rr.errors.ShapeError, match="Batch: expected a tensor as column 'film'"):
        rr.Batch({"film": column})
    assert torch.equal(rr.Batch({"film": np.array([2, 3])})["film"], torch.tensor([2, 3]))
