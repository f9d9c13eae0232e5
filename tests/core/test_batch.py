import pytest
import torch

from retrank.core.batch import Batch
from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged


@pytest.fixture
def batch():
    return Batch({"id": torch.tensor([5, 6, 7]), "tags": Jagged.from_lists([[1], [], [2, 3]])})


def test_rows_can_be_taken_sliced_and_joined(batch):
    taken = batch.take(torch.tensor([2, 0]))
    assert taken["id"].tolist() == [7, 5]
    assert taken["tags"].to_lists() == [[2, 3], [1]]
    assert batch[1:]["tags"].to_lists() == [[], [2, 3]]
    joined = Batch.concat([batch[1:], taken])
    assert joined["id"].tolist() == [6, 7, 7, 5]
    assert joined["tags"].to_lists() == [[], [2, 3], [2, 3], [1]]


def test_columns_can_be_selected_and_merged(batch):
    assert batch.select(["tags"]).names == ("tags",)
    merged = batch.merge({"id": torch.zeros(3), "new": torch.ones(3)})
    assert merged.names == ("id", "tags", "new")
    assert merged["id"].tolist() == [0, 0, 0]
    assert batch["id"].tolist() == [5, 6, 7]
    assert "new" in merged
    assert "new" not in batch


def test_a_wrong_name_lists_the_columns(batch):
    with pytest.raises(DataError, match=r"'movie'.*\['id', 'tags'\]"):
        batch["movie"]


@pytest.mark.parametrize(
    "columns",
    [{}, {"a": torch.zeros(2), "b": torch.zeros(3)}, {"a": torch.tensor(1.0)}],
    ids=["none", "unequal", "scalar"],
)
def test_unusable_columns_are_refused(columns):
    with pytest.raises(ShapeError):
        Batch(columns)


def test_parts_with_other_columns_are_refused(batch):
    with pytest.raises(ShapeError, match=r"Batch\.concat"):
        Batch.concat([batch, batch.select(["id"])])
    with pytest.raises(ShapeError, match="jagged"):
        Batch.concat([batch.select(["id"]), Batch({"id": Jagged.from_lists([[1]])})])


def test_moving_keeps_the_values(batch):
    moved = batch.to("cpu")
    assert moved["tags"].to_lists() == batch["tags"].to_lists()
    assert moved.device == torch.device("cpu")
