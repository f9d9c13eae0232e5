from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, ShapeError
from retrank.sampling import CrossBatch


def batch(ids, dim=2):
    ids = torch.tensor(ids, dtype=torch.int64)
    return ids, torch.stack([ids.float()] * dim, dim=1)


@settings(max_examples=50)
@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=9), st.booleans()), max_size=6),
)
def test_is_a_queue(capacity, batches):
    sampler, queue = CrossBatch(capacity), deque(maxlen=capacity)
    for ids, training in batches:
        negatives = sampler(*batch(ids), training=training)
        assert negatives.ids.tolist() == list(queue)
        assert negatives.embeddings.tolist() == [[one, one] for one in queue]
        if training:
            queue.extend(ids)
        assert len(sampler) == len(queue)


def test_a_short_last_batch_keeps_the_rest():
    sampler = CrossBatch(4)
    for ids in ([2, 3, 4], [5, 6, 7], [8]):
        sampler(*batch(ids), training=True)
    assert sampler(*batch([9])).ids.tolist() == [5, 6, 7, 8]


def test_embeddings_stay_as_they_were_and_take_no_gradient():
    sampler, weight = CrossBatch(4), torch.ones(2, 2, requires_grad=True)
    sampler(torch.tensor([2, 3]), weight * 3, training=True)
    with torch.no_grad():
        weight.mul_(10)
    negatives = sampler(torch.tensor([4, 5]), weight * 3, training=True)
    assert (negatives.embeddings == 3).all()
    assert not negatives.embeddings.requires_grad


def test_the_backward_pass_may_follow_further_batches():
    sampler, query = CrossBatch(2), torch.ones(1, 2, requires_grad=True)
    sampler(*batch([2, 3]), training=True)
    negatives = sampler(*batch([4, 5]), training=True)
    scores = query @ negatives.embeddings.T
    sampler(*batch([6, 7]), training=True)
    scores.sum().backward()
    assert query.grad.tolist() == [[5.0, 5.0]]


def test_the_expected_count_grows_with_the_queue():
    sampler = CrossBatch(3, counts=[3, 1])
    expected = []
    for ids in ([2, 3], [2, 2], [2, 2]):
        negatives = sampler(*batch(ids), training=True)
        expected.append(negatives.log_q_of(torch.tensor([2, 3])).exp().tolist())
    np.testing.assert_allclose(expected, [[0, 0], [1.5, 0.5], [2.25, 0.75]], rtol=1e-6)


def test_the_content_is_saved_with_a_model():
    sampler = CrossBatch(5)
    sampler(*batch([2, 3, 0]), training=True)
    again = nn.Sequential(CrossBatch(5))
    again.load_state_dict(nn.Sequential(sampler).state_dict())
    assert again[0](*batch([9]), training=True).ids.tolist() == [2, 3, 0]
    assert again[0](*batch([9]), training=True).ids.tolist() == [2, 3, 0, 9]
    empty = CrossBatch(5)
    again.load_state_dict(nn.Sequential(empty).state_dict())
    assert len(again[0]) == 0
    assert again[0](*batch([9]), training=True).ids.tolist() == []
    with pytest.raises(RuntimeError, match="size mismatch"):
        CrossBatch(4).load_state_dict(sampler.state_dict())


@pytest.mark.parametrize("dim", [2, None])
def test_the_content_survives_a_file(tmp_path, dim):
    sampler = CrossBatch(5, dim=dim)
    sampler(*batch([2, 3]), training=True)
    rr.training.save_weights(tmp_path / "best", sampler)
    again = CrossBatch(5, dim=dim)
    rr.training.load_weights(tmp_path / "best", again)
    negatives = again(*batch([9]))
    assert negatives.ids.tolist() == [2, 3]
    assert negatives.embeddings.tolist() == [[2, 2], [3, 3]]


def test_a_file_of_another_capacity_or_dim_is_refused(tmp_path):
    for sampler, other, name in [
        (CrossBatch(5), CrossBatch(4), "ids"),
        (CrossBatch(5, dim=2), CrossBatch(5, dim=3), "embeddings"),
    ]:
        sampler(*batch([2, 3]), training=True)
        rr.training.save_weights(tmp_path / name, sampler)
        with pytest.raises(ConfigError, match=rf"shapes\.{name}"):
            rr.training.load_weights(tmp_path / name, other)


class Queue(rr.Model):
    def __init__(self):
        super().__init__()
        self.movies = rr.EmbeddingTable(12, dim=4)
        self.sampler = CrossBatch(20)

    def compute_loss(self, batch, training=False):
        vectors = self.movies(batch["movie_id"])
        negatives = self.sampler(batch["movie_id"], vectors, training=training)
        return (vectors @ negatives.embeddings.T).square().sum() + vectors.square().sum()


def test_a_run_resumes_without_a_given_width(tmp_path):
    def fit(model, epochs, checkpoint=None):
        loader = rr.data.Loader(rr.Batch({"movie_id": torch.arange(2, 12)}), 3, shuffle=True)
        optimizer = rr.optim.Adagrad(lr=0.1)
        model.fit(loader, optimizer=optimizer, epochs=epochs, checkpoint=checkpoint, device="cpu", progress=False)
        return model

    def new():
        torch.manual_seed(0)
        return Queue()

    whole, begun = fit(new(), 4), fit(new(), 2, tmp_path / "run")
    for halves in (begun, new()):  # the same object, whose queue has a width by now, and a fresh one
        fit(halves, 4, tmp_path / "run")
        for name, value in whole.state_dict().items():
            assert torch.equal(value, halves.state_dict()[name]), name


def test_double_precision_is_kept():
    sampler, precise = CrossBatch(2), torch.tensor([[1 + 1e-12]], dtype=torch.float64)
    sampler(torch.tensor([2]), precise, training=True)
    again = CrossBatch(2)
    again.load_state_dict(sampler.state_dict())
    for one in (sampler, again):
        assert torch.equal(one(torch.tensor([3]), precise).embeddings, precise)


def test_bad_calls():
    sampler = CrossBatch(3)
    with pytest.raises(ConfigError, match="embeddings of the positives"):
        sampler(torch.tensor([2]))
    sampler(*batch([2]), training=True)
    with pytest.raises(ShapeError, match="expected embeddings of dim 2, got 3"):
        sampler(*batch([2], dim=3), training=True)
    with pytest.raises(ShapeError, match="expected embeddings of dim 4, got 2"):
        CrossBatch(3, dim=4)(*batch([2]))
