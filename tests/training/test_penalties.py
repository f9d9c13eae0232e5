"""What a step's `regularization_loss` is about: the weights, and what passed through the layers in this step alone."""

import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import retrank as rr


class Tables(rr.Model):
    """Looks up one table `times` times, and another layer's weights have a penalty."""

    def __init__(self, times=1, use_reentrant=None):
        super().__init__()
        torch.manual_seed(0)
        self.table = rr.EmbeddingTable(9, 3, scale=1.0, l2=0.5)
        self.mlp = rr.layers.MLP(3, [4, 1], l2=0.1)
        self.times, self.use_reentrant = times, use_reentrant

    def forward(self, batch):
        start = torch.zeros(len(batch), 1, requires_grad=True)
        return sum(self._run(start, batch["id"]) for _ in range(self.times)).squeeze(1)

    def compute_loss(self, batch, training=False):
        return self(batch).square().mean()

    def _run(self, start, ids):
        if self.use_reentrant is None:
            return self._block(start, ids)
        return checkpoint(self._block, start, ids, use_reentrant=self.use_reentrant)

    def _block(self, start, ids):
        return start + self.mlp(self.table(ids))


def batch_of(*ids):
    return rr.Batch({"id": torch.tensor(ids)})


def of_lookups(model, ids, times=1):
    return times * 0.5 * model.table.weight[list(ids)].square().sum().item() / len(ids)


@pytest.mark.parametrize("times", [1, 3])
def test_it_is_the_weights_and_every_lookup_of_the_step(times):
    model, ids = Tables(times), (2, 2, 5)
    model.predict(rr.data.Loader(batch_of(6, 7), 2))  # no step
    model(batch_of(3, 4))
    expected = model.mlp.regularization().item() + of_lookups(model, ids, times)
    losses = model.compute_losses(batch_of(*ids), training=True)
    assert losses["regularization_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["total_loss"].item() == pytest.approx(losses["loss"].item() + expected, rel=1e-5)
    assert model.test_step(batch_of(*ids))["regularization_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert model.regularization_loss().item() == pytest.approx(model.mlp.regularization().item())


def test_an_evaluation_averages_it_over_rows_and_changes_no_later_step():
    model = Tables()
    results = model.evaluate(rr.data.Loader(batch_of(2, 3, 4, 5, 6), 2))
    expected = model.mlp.regularization().item() + of_lookups(model, (2, 3, 4, 5, 6))
    assert results["regularization_loss"] == pytest.approx(expected, rel=1e-5)
    losses = model.train_step(batch_of(7), rr.optim.SGD(lr=0.0).build(model.named_parameters()))
    alone = model.mlp.regularization().item() + of_lookups(model, (7,))
    assert losses["regularization_loss"].item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_loss_and_no_gradient(use_reentrant):
    plain, checkpointed = Tables(2), Tables(2, use_reentrant)
    steps = [
        model.train_step(batch_of(2, 2, 5), rr.optim.SGD(lr=0.0).build(model.named_parameters()))
        for model in (plain, checkpointed)
    ]
    torch.testing.assert_close(steps[0], steps[1])
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


def test_threads_that_share_a_model_do_not_share_penalties():
    model, barrier, found = Tables(), threading.Barrier(3), {}

    def steps(id_):
        values = set()
        for _ in range(30):
            barrier.wait()
            values.add(model.test_step(batch_of(id_))["regularization_loss"].item())
        found[id_] = values

    threads = [threading.Thread(target=steps, args=(id_,)) for id_ in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for id_, values in found.items():
        expected = model.mlp.regularization().item() + of_lookups(model, (id_,))
        assert list(values) == [pytest.approx(expected, rel=1e-5)]
