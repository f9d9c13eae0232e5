"""What `Retrieval` can be asked for beyond the plain softmax, against slow definitions in NumPy."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankWarning, ShapeError
from retrank.metrics import BatchTopK, FullCorpusTopK, LossMean
from retrank.ops import softmax_by_torch
from retrank.sampling import StreamingFrequency
from retrank.tasks import Retrieval


def row_loss(scores, own, removed, num_hard):
    """-log softmax of one row: a list of scores, of which some are removed and few of the others kept."""
    negatives = sorted((s for c, s in enumerate(scores) if c != own and c not in removed), reverse=True)[:num_hard]
    return math.log(sum(math.exp(s - scores[own]) for s in [scores[own], *negatives]))


def slow_loss(queries, candidates, *, ids, log_q, weight, mask, temperature, num_hard, symmetric):
    heads = queries if queries.ndim == 3 else queries[:, None]
    scores = np.array([[max(head @ c for head in q) for c in candidates] for q in heads]) / temperature
    total, size = 0.0, len(queries)
    for i in range(size):
        if not mask[i, i]:
            continue
        removed = {c for c in range(len(candidates)) if c != i and (ids[c] == ids[i] or not mask[i, c])}
        loss = row_loss(list(scores[i] - log_q), i, removed, num_hard)
        if symmetric:
            removed = {q for q in range(size) if q != i and (ids[q] == ids[i] or not mask[q, i])}
            loss = (loss + row_loss(list(scores[:, i]), i, removed, num_hard)) / 2
        total += weight[i] * loss
    return total / size


@settings(max_examples=80)
@given(
    st.integers(1, 6),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.integers(0, 999),
)
def test_everything_together_is_the_definition(size, extra, multi_head, symmetric, num_hard, seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(size, 2, 3) if multi_head else (size, 3))
    candidates, ids = rng.normal(size=(size + extra, 3)), rng.integers(0, 4, size + extra)
    log_q, weight = np.log(rng.uniform(0.01, 1, size + extra)), rng.choice([0.0, 0.5, 2.0], size)
    mask = rng.random((size, size + extra)) < 0.7
    task = Retrieval(
        temperature=0.7, remove_accidental_hits=True, log_q=True, num_hard_negatives=num_hard, symmetric=symmetric
    )
    inputs = [torch.tensor(array, requires_grad=True) for array in (queries, candidates)]
    loss = task(
        *inputs,
        candidate_ids=torch.tensor(ids),
        log_q=torch.tensor(log_q),
        weight=torch.tensor(weight),
        score_mask=torch.tensor(mask),
    )
    expected = slow_loss(
        queries,
        candidates,
        ids=ids,
        log_q=log_q,
        weight=weight,
        mask=mask,
        temperature=0.7,
        num_hard=num_hard,
        symmetric=symmetric,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss.backward()
    assert all(tensor.grad.isfinite().all() for tensor in inputs)


def slow_sampled_losses(queries, candidates, *, ids, log_q, mask, temperature, num_hard, smoothing):
    """Of each query the loss of its own column among itself and the columns after the batch."""
    heads, size = queries if queries.ndim == 3 else queries[:, None], len(queries)
    for i in range(size):
        columns = [i, *(c for c in range(size, len(candidates)) if ids[c] != ids[i] and mask[i, c])]
        scores = [max(head @ candidates[c] for head in heads[i]) / temperature - log_q[c] for c in columns]
        scores = [scores[0], *sorted(scores[1:], reverse=True)[:num_hard]]
        total = math.log(sum(math.exp(score) for score in scores))
        spread = sum(total - score for score in scores) / len(scores)
        yield ((1 - smoothing) * (total - scores[0]) + smoothing * spread) * mask[i, i]


@settings(max_examples=80)
@given(
    st.integers(1, 6),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([0.0, 0.2]),
    st.booleans(),
    st.integers(0, 999),
)
def test_without_in_batch_negatives_each_positive_is_its_own_querys_alone(
    size, extra, multi_head, num_hard, smoothing, is_mask_shared, seed
):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(size, 2, 3) if multi_head else (size, 3))
    candidates, ids = rng.normal(size=(size + extra, 3)), rng.integers(0, 4, size + extra)
    log_q, weight = np.log(rng.uniform(0.01, 1, size + extra)), rng.choice([0.0, 0.5, 2.0], size)
    mask = rng.random(size + extra if is_mask_shared else (size, size + extra)) < 0.7
    options = {"ids": ids, "log_q": log_q, "temperature": 0.7, "num_hard": num_hard, "smoothing": smoothing}
    slow = slow_sampled_losses(queries, candidates, mask=np.broadcast_to(mask, (size, size + extra)), **options)
    expected = (weight * list(slow)).sum() / size
    for dtype, near in ((torch.float64, 1e-9), (torch.float32, 1e-4)):  # plain torch, and the kernel where it applies
        task = Retrieval(
            temperature=0.7,
            remove_accidental_hits=True,
            log_q=True,
            num_hard_negatives=num_hard,
            loss=nn.CrossEntropyLoss(label_smoothing=smoothing) if smoothing else None,
            batch_metrics=[BatchTopK(ks=(1,))],
        )
        inputs = [torch.tensor(array, dtype=dtype, requires_grad=True) for array in (queries, candidates)]
        loss = task(
            *inputs,
            candidate_ids=torch.tensor(ids),
            log_q=torch.tensor(log_q, dtype=dtype),
            weight=torch.tensor(weight, dtype=dtype),
            score_mask=torch.tensor(mask),
            in_batch_negatives=False,
        )
        assert loss.item() == pytest.approx(expected, rel=near, abs=near)
        loss.backward()
        assert all(tensor.grad.isfinite().all() for tensor in inputs)


@pytest.mark.parametrize("limit", [2**21, 40 * 7])
@pytest.mark.parametrize("settings", [{}, {"num_hard_negatives": 5}, {"temperature": 0.3, "log_q": True}])
def test_without_in_batch_negatives_is_a_mask_of_all_other_positives(settings, limit, monkeypatch):
    monkeypatch.setattr(softmax_by_torch, "_SCORES_AT_ONCE_CPU", limit)
    torch.manual_seed(0)
    size, known = 50, torch.rand(40) < 0.8
    queries, candidates = torch.randn(size, 16), torch.randn(size + 40, 16)
    inputs = {"candidate_ids": torch.randint(30, (size + 40,)), "weight": torch.rand(size)}
    inputs |= {"log_q": torch.rand(size + 40).log()} if "log_q" in settings else {}

    def gradients(**more):
        leaves = [tensor.clone().requires_grad_() for tensor in (queries, candidates)]
        loss = Retrieval(remove_accidental_hits=True, **settings)(*leaves, **inputs, **more)
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    pairs = torch.cat([torch.eye(size, dtype=torch.bool), known.expand(size, -1)], dim=1)
    expected = gradients(positives=torch.arange(size), score_mask=pairs)
    columns = torch.cat([torch.ones(size, dtype=torch.bool), known])
    for mask in (pairs, columns):
        for ours, theirs in zip(gradients(score_mask=mask, in_batch_negatives=False), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_mask_of_columns_holds_for_all_queries():
    torch.manual_seed(0)
    queries, candidates, mask = (
        torch.randn(4, 3),
        torch.randn(6, 3),
        torch.tensor([True, False, True, True, False, True]),
    )
    for symmetric in (False, True):
        task = Retrieval(symmetric=symmetric)
        assert task(queries, candidates, score_mask=mask) == task(queries, candidates, score_mask=mask.expand(4, -1))


def test_what_cannot_go_without_in_batch_negatives():
    with pytest.raises(ConfigError, match="in_batch_negatives=False"):
        Retrieval()(torch.eye(2), torch.eye(2), positives=torch.tensor([0, 1]), in_batch_negatives=False)
    with pytest.raises(ConfigError, match="symmetric=False"):
        Retrieval(symmetric=True)(torch.eye(2), torch.eye(2), in_batch_negatives=False)


def test_a_query_whose_positive_is_masked_takes_no_part():
    torch.manual_seed(0)
    queries, candidates = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    mask = torch.ones(3, 3, dtype=torch.bool)
    mask[1] = False  # all of its row: a softmax of nothing
    task = Retrieval(reduction="sum", batch_metrics=[BatchTopK(ks=(1,))])
    loss = task(queries, candidates, score_mask=mask)
    loss.backward()
    others = torch.tensor([0, 2])
    expected = Retrieval(reduction="sum")(queries[others], candidates, positives=others)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (queries.grad[1] == 0).all()
    assert candidates.grad.isfinite().all()
    ranks = (queries @ candidates.T).argmax(1) == torch.arange(3)
    assert task.results()["batch_hit_rate@1"].item() == ranks[others].double().mean()
    nothing = Retrieval(symmetric=True)(queries, candidates, score_mask=torch.zeros(3, 3, dtype=torch.bool))
    assert nothing == 0


def test_a_masked_pair_has_no_gradient():
    queries, candidates = torch.ones(2, 2, requires_grad=True), torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    candidates.requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, False]])
    Retrieval()(queries, candidates, score_mask=mask).backward()
    assert candidates.grad[2].tolist() == [0, 0]


class Hinge(nn.Module):
    """Σ over the columns that were not removed of relu(1 - positive + negative)."""

    def forward(self, scores, positives):
        own = scores.gather(1, positives[:, None])
        losses = (1 - own + scores).relu().scatter(1, positives[:, None], 0.0)
        return losses.masked_fill(scores == -torch.inf, 0).sum(1)


class AlreadyReduced(nn.Module):
    def forward(self, scores, positives):
        return scores.mean()


def test_the_loss_can_be_chosen():
    torch.manual_seed(0)
    queries, candidates, weight = torch.randn(4, 3), torch.randn(5, 3), torch.tensor([1.0, 0.0, 2.0, 1.0])
    ids = torch.tensor([1, 2, 1, 3, 4])
    scores = (queries @ candidates.T).tolist()
    expected = 0.0
    for i, w in enumerate(weight.tolist()):
        negatives = [c for c in range(5) if ids[c] != ids[i]]
        expected += w * sum(max(0, 1 - scores[i][i] + scores[i][c]) for c in negatives) / 4
    task = Retrieval(loss=Hinge(), remove_accidental_hits=True)
    loss = task(queries, candidates, candidate_ids=ids, weight=weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    smooth = nn.CrossEntropyLoss(label_smoothing=0.2)
    expected = smooth(queries @ candidates.T, torch.arange(4))
    assert torch.allclose(Retrieval(loss=smooth)(queries, candidates), expected)
    assert smooth.reduction == "mean"  # the caller's is not changed
    with pytest.raises(ShapeError, match="one loss per row"):
        Retrieval(loss=AlreadyReduced())(queries, candidates)
    with pytest.raises(ConfigError, match="reduction"):
        Retrieval(loss=nn.CrossEntropyLoss(reduction="sum"))


def test_sum_is_the_mean_times_the_queries():
    torch.manual_seed(0)
    queries, candidates, weight = torch.randn(4, 3), torch.randn(6, 3), torch.rand(4)
    for symmetric in (False, True):
        mean, total = (Retrieval(reduction=r, symmetric=symmetric) for r in ("mean", "sum"))
        assert torch.allclose(4 * mean(queries, candidates, weight=weight), total(queries, candidates, weight=weight))
    with pytest.raises(ConfigError, match="reduction"):
        Retrieval(reduction="none")


def test_one_head_is_no_head_and_the_best_head_counts():
    torch.manual_seed(0)
    queries, candidates = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(Retrieval()(queries[:, None], candidates), Retrieval()(queries, candidates))
    better, worse = queries.abs().requires_grad_(), (-queries.abs()).requires_grad_()
    Retrieval()(torch.stack([worse, better], dim=1), candidates.abs()).backward()
    assert (worse.grad == 0).all()
    assert (better.grad != 0).any()


def test_corpus_metrics_of_queries_with_heads():
    torch.manual_seed(0)
    queries, corpus, positives = torch.randn(30, 3, 4), torch.randn(50, 4), torch.randint(50, (30,))
    task = Retrieval(metrics=[FullCorpusTopK(ks=(5,), metrics=("hit_rate",))])
    task.update_metrics(queries, corpus, positives)
    scores = torch.einsum("bhd,nd->bhn", queries, corpus).amax(1)
    better = (scores > scores.gather(1, positives[:, None])).sum(1)
    assert task.results()["hit_rate@5"].item() == pytest.approx((better < 5).double().mean().item())


def test_symmetric_is_the_average_of_both_directions():
    torch.manual_seed(0)
    queries, candidates = torch.randn(5, 3), torch.randn(5, 3)
    both = (Retrieval()(queries, candidates) + Retrieval()(candidates, queries)) / 2
    assert torch.allclose(Retrieval(symmetric=True)(queries, candidates), both)
    ids, ids_of_rows = torch.tensor([3, 4, 3, 5, 4]), torch.tensor([3, 4, 3, 5, 4]).repeat(5, 1)
    task = Retrieval(symmetric=True, remove_accidental_hits=True)
    expected = task(queries, candidates, candidate_ids=ids)
    assert torch.equal(task(queries, candidates, candidate_ids=ids_of_rows), expected)
    with pytest.raises(ConfigError, match="symmetric"):
        Retrieval(symmetric=True)(queries, candidates, positives=torch.arange(5))


def test_streaming_frequencies_are_subtracted():
    torch.manual_seed(0)
    task = Retrieval(log_q=StreamingFrequency(1000))
    separate = StreamingFrequency(1000)
    for ids in (torch.tensor([3, 4, 3, 5]), torch.tensor([3, 3, 3, 9])):
        queries, candidates = torch.randn(3, 2), torch.randn(4, 2)
        expected = Retrieval(log_q=True)(queries, candidates, log_q=separate(ids))
        assert torch.equal(task(queries, candidates, candidate_ids=ids), expected)
    task.eval()
    state = {name: value.clone() for name, value in task.state_dict().items()}
    assert set(state) == {"log_q.last_row", "log_q.gap", "log_q.num_seen", "log_q.num_rows"}
    task(queries, candidates, candidate_ids=ids)
    assert all(torch.equal(value, task.state_dict()[name]) for name, value in state.items())
    with pytest.raises(ConfigError, match="candidate_ids"):
        task(queries, candidates)
    with pytest.warns(RetrankWarning, match="log_q is ignored"):
        task(queries, candidates, candidate_ids=ids, log_q=torch.zeros(4))


def test_batch_metrics_see_the_scores_of_the_loss():
    queries, candidates = torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0], [3.0], [4.0]])
    ids = torch.tensor([7, 8, 7])
    task = Retrieval(remove_accidental_hits=True, batch_metrics=[BatchTopK(ks=(1, 2))], loss_metrics=[LossMean()])
    first = task(queries, candidates, candidate_ids=ids)
    assert [value.item() for value in task.results().values()] == pytest.approx([0.0, 1.0, first.item()])
    second = task(queries[:1], candidates[1:], candidate_ids=ids[1:], weight=torch.tensor([2.0]))
    expected = [0.0, (1 + 1 + 2) / 4, (2 * first.item() + second.item()) / 3]
    assert list(task.results()) == ["batch_hit_rate@1", "batch_hit_rate@2", "task_loss"]
    assert [value.item() for value in task.results().values()] == pytest.approx(expected)
    again = Retrieval(batch_metrics=[BatchTopK(ks=(1, 2))], loss_metrics=[LossMean()])
    again.load_metrics_state_dict(task.metrics_state_dict())
    assert again.results() == task.results()
    task(queries, candidates, candidate_ids=ids, update_metrics=False)
    assert again.results() == task.results()
    task.reset()
    assert task.results() == {}


def test_metrics_of_one_name_are_refused_whatever_their_kind():
    with pytest.raises(ConfigError, match="distinct names"):
        Retrieval(metrics=[FullCorpusTopK(name="x")], loss_metrics=[LossMean(name="x")])


def test_bad_shapes():
    queries, candidates = torch.ones(2, 3), torch.ones(4, 3)
    for mask in (torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 4), torch.ones(4, 2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="score_mask"):
            Retrieval()(queries, candidates, score_mask=mask)
    with pytest.raises(ShapeError, match="heads"):
        Retrieval()(torch.ones(2, 2, 2, 3), candidates)
    with pytest.raises(ShapeError, match="same dim"):
        Retrieval()(torch.ones(2, 5, 4), candidates)
    with pytest.raises(DataError, match="row 1"):
        Retrieval()(queries, candidates, positives=torch.tensor([0, 4]))
    with pytest.raises(DataError, match="row 1"):
        Retrieval(num_hard_negatives=1)(queries, candidates, positives=torch.tensor([0, 4]))


def test_one_process_needs_no_others():
    task = Retrieval(cross_device_negatives=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task(torch.eye(2), torch.eye(2)) == Retrieval(cross_device_negatives=False)(torch.eye(2), torch.eye(2))


def test_is_rebuilt_from_json():
    task = Retrieval(
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        log_q=StreamingFrequency(8, num_hashes=2),
        symmetric=True,
        reduction="sum",
        cross_device_negatives=False,
        metrics=[FullCorpusTopK()],
        batch_metrics=[BatchTopK(ks=(3,))],
        loss_metrics=[LossMean()],
    )
    again = rr.core.from_config(rr.core.to_config(task))
    assert again.config == task.config
    assert again.loss.label_smoothing == 0.1
    assert again.log_q.num_slots == 8
