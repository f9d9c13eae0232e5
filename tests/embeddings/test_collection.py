import json

import pytest
import torch

from retrank.core.batch import Batch
from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.penalties import collecting_penalties
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable


def batch():
    return Batch(
        {"user": torch.tensor([2, 3]), "movie": torch.tensor([4, 5]), "seen.by": Jagged.from_lists([[4, 5], []])}
    )


def test_every_feature_is_looked_up_in_order():
    user, movie = EmbeddingTable(5, 2), EmbeddingTable(6, 3)
    collection = EmbeddingCollection({"seen.by": movie, "user": user, "movie": movie})
    vectors = collection(batch())
    assert list(vectors) == ["seen.by", "user", "movie"] == list(collection.features)
    assert collection.dims == {"seen.by": 3, "user": 2, "movie": 3}
    assert torch.equal(vectors["user"], user.weight[2:4])
    assert torch.equal(vectors["movie"], movie.weight[4:6])
    torch.testing.assert_close(vectors["seen.by"], torch.stack([movie.weight[4:6].mean(dim=0), torch.zeros(3)]))


@pytest.mark.parametrize(
    "tables",
    [
        lambda table: {"movie": table, "user": EmbeddingTable(5, 2), "seen.by": table},
        lambda table: {"movie": table, "user": EmbeddingTable(5, 2), "seen.by": "movie"},
        lambda table: {"movie": "seen.by", "user": EmbeddingTable(5, 2), "seen.by": table},
    ],
)
def test_shared_tables_stay_shared(tables):
    collection = EmbeddingCollection(tables(EmbeddingTable(6, 3)))
    again = from_config(json.loads(json.dumps(to_config(collection))))
    for built in (collection, again):
        assert built["movie"] is built["seen.by"]
        assert built["movie"] is not built["user"]
        assert len(list(built.parameters())) == len(built.state_dict()) == 2
        assert list(built.features) == ["movie", "user", "seen.by"]
    again.load_state_dict(collection.state_dict())
    for name, vectors in collection(batch()).items():
        assert torch.equal(vectors, again(batch())[name])


def test_shared_gradients_add_up():
    collection = EmbeddingCollection({"movie": EmbeddingTable(6, 1), "seen.by": "movie"})
    sum(vectors.sum() for vectors in collection(batch()).values()).backward()
    assert collection["movie"].weight.grad.to_dense().flatten().tolist() == [0, 0, 0, 0, 1.5, 1.5]


@pytest.mark.parametrize("look_up", [EmbeddingCollection.forward, EmbeddingCollection.concatenate])
def test_the_penalty_of_a_shared_table_counts_both_features(look_up):
    collection = EmbeddingCollection({"movie": EmbeddingTable(6, 1, l2=2.0), "seen.by": "movie"})
    with collecting_penalties() as penalties:
        look_up(collection, batch())
    squares = collection["movie"].weight.square().sum(dim=1)[4:6].sum().item()
    assert penalties.total().item() == pytest.approx(2 * 2 * squares / 2)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "at least one table"),
        ({"a": "b"}, "feature 'a'"),
        ({"a": "a"}, "feature 'a'"),
        ({"a": EmbeddingTable(3, 1), "b": "a", "c": "b"}, "feature 'c'"),
        ({"a": torch.nn.Linear(1, 1)}, "Linear"),
    ],
)
def test_wrong_tables_are_refused(tables, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingCollection(tables)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="'age'"):
        EmbeddingCollection({"age": EmbeddingTable(3, 1)})(batch())
