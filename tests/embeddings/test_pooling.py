"""Pooling by every combiner, against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.hashed import HashedTable
from retrank.embeddings.pooling import pool_vectors

LISTS = st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=5)


def by_hand(vectors, lists, weights, combiner):
    out, start = np.zeros((len(lists), vectors.shape[1])), 0
    for row, ids in enumerate(lists):
        own = vectors[start : start + len(ids)].astype(np.float64)
        factors = np.array([0.0 if i == 0 else w for i, w in zip(ids, weights[start : start + len(ids)], strict=True)])
        start += len(ids)
        if combiner == "max":
            kept = [v for v, i in zip(own, ids, strict=True) if i != 0]
            out[row] = np.max(kept, axis=0) if kept else 0
            continue
        norm = {"sum": 1.0, "mean": factors.sum(), "sqrtn": (factors**2).sum() ** 0.5}[combiner]
        out[row] = factors @ own / norm if norm and len(ids) else 0
    return out


@settings(max_examples=80)
@given(LISTS, st.sampled_from(["mean", "sum", "sqrtn", "max"]), st.booleans())
def test_pool_vectors(lists, combiner, has_weights):
    ids = Jagged.from_lists(lists)
    rng = np.random.default_rng(len(ids.values))
    vectors = rng.normal(size=(len(ids.values), 3)).astype(np.float32)
    has_weights = has_weights and combiner != "max"
    weights = rng.choice([0.0, 0.5, 2.0, -1.0], size=len(vectors)) if has_weights else np.ones(len(vectors))
    given_ids = Jagged(ids.values, ids.offsets, torch.from_numpy(weights)) if has_weights else ids
    pooled = pool_vectors(torch.from_numpy(vectors), given_ids, combiner)
    np.testing.assert_allclose(pooled, by_hand(vectors, lists, weights, combiner), rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(LISTS)
def test_a_table_that_pools_by_max(lists):
    table = EmbeddingTable(7, 3, combiner="max")
    table.weight.data[1:].normal_(generator=torch.Generator().manual_seed(1))
    ids = Jagged.from_lists(lists)
    vectors = table.weight.detach()[ids.values].numpy()
    output = table(ids)
    np.testing.assert_allclose(output.detach(), by_hand(vectors, lists, np.ones(len(vectors)), "max"), rtol=1e-6)

    output.sum().backward()
    gradient = table.weight.grad
    assert gradient.is_sparse
    expected = np.zeros((7, 3))
    for row, own in enumerate(lists):
        for column in range(3):
            winners = [i for i in own if i and table.weight[i, column] == output[row, column]]
            for winner in winners:
                expected[winner, column] += 1 / len(winners)
    np.testing.assert_allclose(gradient.to_dense(), expected, rtol=1e-5, atol=1e-6)


def test_negative_vectors_are_not_hidden_by_padding():
    table = EmbeddingTable(5, 1, combiner="max")
    table.weight.data.fill_(-2)
    table.weight.data[0] = 0
    assert table(Jagged.from_lists([[3, 0], [0], []])).tolist() == [[-2], [0], [0]]


@pytest.mark.parametrize(
    "table", [EmbeddingTable(5, 1, combiner="max"), HashedTable(5, 1, num_buckets=3, combiner="max")]
)
def test_max_takes_no_weights(table):
    ids = Jagged.from_lists([[2, 3]])
    with pytest.raises(ConfigError, match="combiner 'max': expected lists without weights"):
        table(Jagged(ids.values, ids.offsets, torch.tensor([1.0, 2.0])))
