"""A last batch of one row and a batch norm in training."""

import pytest
import torch
from tests.training.worlds import loader
from torch import nn

import retrank as rr


class Normed(rr.Model):
    def __init__(self, norm):
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(2, 3), norm, nn.Flatten(), nn.LazyLinear(1))

    def forward(self, batch):
        return self.stack(batch["x"]).squeeze(1)

    def compute_loss(self, batch, training=False):
        return (self(batch) - batch["y"]).square().mean()


def rows(num_rows):
    x = torch.linspace(-1, 1, num_rows)
    return rr.Batch({"x": torch.stack([x, x.square()], dim=1), "y": x})


FIT = {"optimizer": rr.optim.SGD(lr=0.01), "epochs": 1, "device": "cpu", "progress": False}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.LazyBatchNorm1d()])
def test_the_error_names_the_batch_norm_and_says_drop_last(norm):
    with pytest.raises(rr.errors.ConfigError, match=r"Normed, batch norm 'stack\.1'.*one row; pass drop_last=True"):
        Normed(norm).fit(loader(rows(9), batch_size=4), **FIT)


def test_drop_last_and_evaluation_work():
    model = Normed(nn.BatchNorm1d(3))
    model.fit(rr.data.Loader(rows(9), batch_size=4, drop_last=True), **FIT)
    assert model.predict(loader(rows(9), batch_size=4)).isfinite().all()
    assert model.evaluate(loader(rows(1), batch_size=4))["loss"] >= 0


def test_one_value_a_channel_of_many_rows():
    class First(Normed):
        def compute_loss(self, batch, training=False):
            return super().compute_loss(batch[:1], training)

    with pytest.raises(rr.errors.ConfigError, match="one value per channel in a batch of 4 rows; use larger batches"):
        First(nn.BatchNorm1d(3)).fit(loader(rows(8), batch_size=4), **FIT)


def test_other_errors_of_a_model_pass():
    class Failing(Normed):
        def compute_loss(self, batch, training=False):
            raise ValueError("something else")

    with pytest.raises(ValueError, match=r"^something else$"):
        Failing(nn.BatchNorm1d(3)).fit(rr.data.Loader(rows(9), batch_size=4), **FIT)
