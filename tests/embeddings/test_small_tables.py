"""Tables with fewer rows than ids: hashed, quotient-remainder, mixed-dimension."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.batch import Batch
from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.core.penalties import collecting_penalties
from retrank.core.schema import ColumnSchema
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.embeddings.hashed import HashedTable
from retrank.embeddings.hashing import bucket_ids
from retrank.embeddings.mixed_dimension import MixedDimensionTable
from retrank.embeddings.quotient_remainder import QuotientRemainderTable
from retrank.optim.adagrad import Adagrad

NUM_IDS, DIM = 23, 4
WORD = 2**64
TABLES = {
    "hashed_1": lambda **more: HashedTable(NUM_IDS, DIM, num_buckets=5, num_hashes=1, **more),
    "hashed_3": lambda **more: HashedTable(NUM_IDS, DIM, num_buckets=60, num_hashes=3, **more),
    "multiply": lambda **more: QuotientRemainderTable(NUM_IDS, DIM, divisor=4, **more),
    "add": lambda **more: QuotientRemainderTable(NUM_IDS, DIM, divisor=4, operation="add", **more),
    "concatenate": lambda **more: QuotientRemainderTable(NUM_IDS, DIM, divisor=4, operation="concatenate", **more),
    "mixed": lambda **more: MixedDimensionTable(NUM_IDS, DIM, boundaries=[6, 15], dims=[4, 3, 1], **more),
    "mixed_1": lambda **more: MixedDimensionTable(NUM_IDS, DIM, boundaries=[], dims=[2], **more),
}
ALL = pytest.mark.parametrize("make", TABLES.values(), ids=TABLES.keys())


def mix(value):
    """SplitMix64 on Python's integers."""
    value = (value + 0x9E3779B97F4A7C15) % WORD
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WORD
    return value ^ (value >> 31)


def bucket(id_, num_buckets, first, second):
    if id_ < 2:
        return id_
    salted = mix((mix(first) + second) % WORD)
    return mix((salted + id_) % WORD) % 2**63 % num_buckets + 2


def filled(make, **more):
    """A table all of whose rows but those of padding are random."""
    table = make(**more)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in table.parameters():
            parameter.normal_(generator=generator)
        for module in table.modules():
            if isinstance(module, EmbeddingTable):
                module.weight[0] = 0
    return table


def weight(table):
    return table.weight.detach().numpy().astype(np.float64)


def vector_of(table, id_):
    """What the papers say, one id at a time."""
    if id_ == 0:
        return np.zeros(DIM)
    if isinstance(table, HashedTable):
        rows = [bucket(id_, table.num_buckets, 0, salt) for salt in range(table.num_hashes)]
        return sum(weight(table.table)[row] for row in rows)
    if isinstance(table, QuotientRemainderTable):
        q, r = (1, 1) if id_ == 1 else (2 + (id_ - 2) // table.divisor, 2 + (id_ - 2) % table.divisor)
        one, other = weight(table.quotients)[q], weight(table.remainders)[r]
        return {"multiply": one * other, "add": one + other, "concatenate": np.append(one, other)}[table.operation]
    edges = [2, 6, 15] if len(table.blocks) == 3 else [2]
    place = max(sum(edge <= id_ for edge in edges) - 1, 0)
    row = weight(table.blocks[place])[1 if id_ == 1 else id_ - edges[place] + 2]
    projection = table.projections[place]
    return row if isinstance(projection, torch.nn.Identity) else weight(projection) @ row


@settings(max_examples=60)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(1, 10**12), st.integers(0, 2**40), st.integers(0, 9))
def test_bucket_ids(ids, num_buckets, first, second):
    got = bucket_ids(torch.tensor(ids, dtype=torch.int64), num_buckets, (first, second))
    assert got.tolist() == [bucket(id_, num_buckets, first, second) for id_ in ids]


def test_hashes_never_change():
    assert bucket_ids(torch.tensor([[0, 1, 2], [3, 10**15, -1]]), 10**6, (1, 2)).tolist() == [
        [0, 1, 529994],
        [502841, 752905, -1],
    ]


def test_hashes_are_even_and_unrelated():
    ids = torch.arange(2, 100_002)
    one, other = bucket_ids(ids, 50, (0, 0)), bucket_ids(ids, 50, (0, 1))
    for counts in (one.bincount()[2:], (one * 52 + other).bincount().reshape(-1)[2 * 52 :]):
        counts = counts[counts > 0].double()
        expected = 100_000 / (50 if len(counts) <= 50 else 2_500)
        chi_square = ((counts - expected) ** 2 / expected).sum().item()
        freedom = len(counts) - 1
        assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5
        assert len(counts) in (50, 2_500)


@ALL
def test_every_id_against_loops(make):
    table = filled(make)
    ids = torch.arange(NUM_IDS)
    expected = np.stack([vector_of(table, id_) for id_ in range(NUM_IDS)])
    np.testing.assert_allclose(table(ids).detach(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        table(ids[:22].reshape(2, 11)).detach(), expected[:22].reshape(2, 11, DIM), rtol=1e-4, atol=1e-5
    )
    assert table(ids[:0]).shape == (0, DIM)
    assert table(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, DIM)
    np.testing.assert_allclose(table(torch.tensor([7])).detach()[0], expected[7], rtol=1e-5, atol=1e-5)


@ALL
@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", "max"])
def test_lists_are_pooled_after_the_lookup(make, combiner):
    table = filled(make, combiner=combiner)
    lists = [[3, 9, 0, 9], [], [22], [0, 0], [1, 2]]
    for row, ids in zip(table(Jagged.from_lists(lists)).detach(), lists, strict=True):
        vectors = [vector_of(table, id_) for id_ in ids if id_ != 0]
        expected = np.zeros(DIM)
        if vectors:
            expected = np.max(vectors, axis=0) if combiner == "max" else np.sum(vectors, axis=0)
            expected = expected / {"mean": len(vectors), "sqrtn": len(vectors) ** 0.5}.get(combiner, 1)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_a_list():
    table = filled(TABLES["multiply"])
    ids = Jagged(torch.tensor([3, 9]), torch.tensor([0, 2]), torch.tensor([0.5, 1.5]))
    expected = (0.5 * vector_of(table, 3) + 1.5 * vector_of(table, 9)) / 2
    np.testing.assert_allclose(table(ids).detach()[0], expected, rtol=1e-5, atol=1e-5)


@ALL
def test_gradients_are_row_sparse_and_right(make):
    """Moving a weight by h changes the sum of the output by h times its gradient."""
    table = filled(make).double()
    ids = Jagged.from_lists([[5, 0, 17, 5], [], [1]])
    table(ids).square().sum().backward()
    for parameter in table.parameters():
        gradient = parameter.grad
        if "projections" not in {name.split(".")[0] for name, p in table.named_parameters() if p is parameter}:
            assert gradient.is_sparse
            gradient = gradient.to_dense()
            assert (gradient[0] == 0).all()
        for place in np.ndindex(*parameter.shape):
            if place[0] == 0 and parameter.grad.is_sparse:
                continue
            with torch.no_grad():
                values = []
                for step in (1e-4, -2e-4):
                    parameter[place] += step
                    values.append(table(ids).square().sum().item())
                parameter[place] += 1e-4
            assert gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-4, abs=1e-5)


@ALL
def test_first_vectors(make):
    """Padding and unknown are zeros; all others have the variance of an ordinary table."""
    torch.manual_seed(3)
    table = make(scale=0.3)
    assert (table(torch.tensor([0, 1])) == 0).all()
    vectors = torch.cat([make(scale=0.3)(torch.arange(2, NUM_IDS)) for _ in range(300)])
    assert vectors.mean().abs() < 0.01
    assert vectors.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.05)


@ALL
def test_unknown_is_learned(make):
    table = make()
    optimizer = torch.optim.SGD(table.parameters(), lr=0.2)
    for _ in range(40):
        optimizer.zero_grad()
        (table(torch.tensor([1, 1])) - 1).square().mean().backward()
        optimizer.step()
    assert (table(torch.tensor([1])) > 0.3).all()


@ALL
def test_the_penalty_is_on_the_vectors_of_the_ids(make):
    table = filled(make, l2=0.5)
    ids, lists = torch.tensor([3, 3, 9, 0]), Jagged.from_lists([[7, 3, 0], []])
    norm = {id_: float((vector_of(table, id_) ** 2).sum()) for id_ in (3, 7, 9)}
    of_ids, of_lists = 0.5 * (2 * norm[3] + norm[9]) / 4, 0.5 * (norm[7] + norm[3]) / 2
    assert table.penalty(ids).item() == pytest.approx(of_ids, rel=1e-5)
    with collecting_penalties() as penalties:
        table(ids)
        table(lists)
    assert penalties.total().item() == pytest.approx(of_ids + of_lists, rel=1e-5)
    penalties.total().backward()
    assert all(m.weight.grad.is_sparse for m in table.modules() if isinstance(m, EmbeddingTable))
    assert any(parameter.grad.to_dense().any() for parameter in table.parameters())
    with collecting_penalties() as penalties:
        make()(ids)
    assert penalties.total() == 0
    with pytest.raises(ConfigError, match="l2=-1"):
        make(l2=-1)


@ALL
def test_a_penalty_shrinks_the_vectors(make):
    torch.manual_seed(0)
    table, ids = make(l2=1.0, scale=0.5), torch.arange(2, NUM_IDS)
    before = table(ids).square().sum().item()
    optimizer = Adagrad(lr=0.05).build(table.named_parameters())
    for _ in range(30):
        optimizer.zero_grad()
        table.penalty(ids).backward()
        optimizer.step()
    assert table(ids).square().sum().item() < 0.5 * before


@ALL
def test_grow_keeps_the_vectors_and_takes_new_ids(make):
    table = filled(make, combiner="sum")
    before = table(torch.arange(NUM_IDS)).detach()
    table.grow(NUM_IDS + 9)
    assert table.num_ids == NUM_IDS + 9
    assert torch.equal(table(torch.arange(NUM_IDS)), before)
    new = torch.arange(NUM_IDS, NUM_IDS + 9)
    assert table(new).detach().abs().sum(dim=1).min() > 0
    table(new).sum().backward()
    again = from_config(json.loads(json.dumps(to_config(table))))
    again.load_state_dict(table.state_dict())
    assert torch.equal(again(new), table(new))
    with pytest.raises(DataError, match=rf"\[0, {NUM_IDS + 9}\)"):
        table(torch.tensor([NUM_IDS + 9]))
    with pytest.raises(ConfigError, match=f"at least {NUM_IDS + 9} rows, got {NUM_IDS}"):
        table.grow(NUM_IDS)


@ALL
def test_two_ids_share_a_vector_only_with_a_single_hash(make):
    table = filled(make)
    different = len({tuple(row) for row in table(torch.arange(NUM_IDS)).tolist()})
    if isinstance(table, HashedTable):
        assert different <= 7 if table.num_hashes == 1 else different > 15
    else:
        assert different == NUM_IDS


@ALL
def test_config_and_collection_round_trip(make):
    collection = EmbeddingCollection({"movie": filled(make, combiner="sqrtn"), "seen": "movie"})
    again = from_config(json.loads(json.dumps(to_config(collection))))
    again.load_state_dict(collection.state_dict())
    batch = Batch({"movie": torch.tensor([3, 0]), "seen": Jagged.from_lists([[3, 4], []])})
    for name, vectors in collection(batch).items():
        assert torch.equal(vectors, again(batch)[name])
    assert again["movie"] is again["seen"]
    assert again.dims == {"movie": DIM, "seen": DIM}


def test_schema_gives_size_and_name():
    schema = ColumnSchema("genres", "ids", num_ids=20)
    table = HashedTable(schema, 4, num_buckets=3)
    assert (table.num_ids, table.name) == (20, "genres")
    assert "'genres', 20, 4" in repr(table)
    again = from_config(json.loads(json.dumps(to_config(table))))
    assert (again.num_ids, again.name) == (20, "genres")


@ALL
@pytest.mark.parametrize("bad", [-1, NUM_IDS, NUM_IDS + 1, 10**9])
def test_ids_out_of_range_name_the_table_and_the_row(make, bad):
    table = make(name="movie_id")
    for ids in (torch.tensor([1, 2, bad]), Jagged.from_lists([[1], [], [2, bad]])):
        with pytest.raises(DataError, match=rf"table 'movie_id', row 2: expected ids in \[0, {NUM_IDS}\), got {bad};"):
            table(ids)


@ALL
def test_wrong_ids_are_refused(make):
    with pytest.raises(ShapeError, match="table 'movie_id': expected int64 ids"):
        make(name="movie_id")(torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HashedTable(1, 4, num_buckets=3), "HashedTable 'embedding': .* rows=1"),
        (lambda: HashedTable(9, 4, num_buckets=0), "num_buckets=0"),
        (lambda: HashedTable(9, 4, num_buckets=3, num_hashes=0), "num_hashes=0"),
        (lambda: HashedTable(9, 4, num_buckets=3, combiner="median"), "'median'"),
        (lambda: HashedTable(ColumnSchema("age", "number"), 4, num_buckets=3), "'age'"),
        (lambda: QuotientRemainderTable(9, 4, divisor=0), "divisor=0"),
        (lambda: QuotientRemainderTable(9, 4, divisor=2, operation="divide"), "'divide'"),
        (lambda: QuotientRemainderTable(9, 3, divisor=2, operation="concatenate"), "dim=3"),
        (lambda: MixedDimensionTable(9, 4, boundaries=[5], dims=[4]), "2 positive dims"),
        (lambda: MixedDimensionTable(9, 4, boundaries=[5], dims=[4, 0]), r"got \[4, 0\]"),
        (lambda: MixedDimensionTable(9, 4, boundaries=[5, 5], dims=[4, 2, 1]), "ascending boundaries"),
        (lambda: MixedDimensionTable(9, 4, boundaries=[2], dims=[4, 2]), "ascending boundaries"),
        (lambda: MixedDimensionTable(9, 4, boundaries=[9], dims=[4, 2]), "ascending boundaries"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
