"""What `predict` returns belongs to the rows of the table, in their order."""

import polars as pl
import pytest
import torch
from tests.training.worlds import Line, line_batch

import retrank as rr

TABLE = pl.DataFrame({"x": [0.5, -1.0, 2.0, 4.0, 3.0], "y": [1.0] * 5})
SPACE = rr.FeatureSpace({"x": rr.features.Passthrough(), "y": rr.features.Passthrough()}).fit(TABLE)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("option", ["shuffle", "drop_last"])
def test_a_loader_that_changes_the_rows_is_refused(streaming, option):
    loader = SPACE.loader(TABLE, 2, streaming=streaming, **{option: True})
    with pytest.raises(
        rr.errors.ConfigError, match=f"every row, in the order of the table, got a loader with {option}"
    ):
        Line().predict(loader)
    assert loader.state_dict() == {"epoch": 0, "batch": 0}  # nothing was read
    assert Line().evaluate(loader)["loss"] == 1.0


@pytest.mark.parametrize("streaming", [False, True])
def test_any_other_loader_keeps_the_order(streaming):
    model = Line()
    model.slope.data.fill_(2.0)
    for batch_size, drop_last in ((2, False), (5, True), (1, True)):
        loader = SPACE.loader(TABLE, batch_size, streaming=streaming, drop_last=drop_last)
        assert model.predict(loader).tolist() == [1.0, -2.0, 4.0, 8.0, 6.0]


def test_a_loader_of_ones_own_is_taken():
    class Own:
        num_rows = 3

        def __iter__(self):
            return iter([line_batch(3)])

        def __len__(self):
            return 1

        def state_dict(self):
            return {"epoch": 0, "batch": 0}

        def load_state_dict(self, state):
            pass

    assert torch.equal(Line().predict(Own()), torch.zeros(3))
