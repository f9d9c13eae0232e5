import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.losses import (
    ApproxNDCGLoss,
    LambdaLoss,
    ListMLELoss,
    ListwiseSoftmaxLoss,
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseMeanSquaredError,
    PairwiseSoftZeroOneLoss,
)

PAIRWISE = [PairwiseHingeLoss, PairwiseLogisticLoss, PairwiseSoftZeroOneLoss, PairwiseMeanSquaredError]
LISTWISE = [
    ListMLELoss,
    ListwiseSoftmaxLoss,
    ApproxNDCGLoss,
    lambda **arguments: LambdaLoss("lambdarank", **arguments),
    lambda **arguments: LambdaLoss("ndcg_loss2", **arguments),
    lambda **arguments: LambdaLoss("ndcg_loss2++", k=2, **arguments),
]
ALL = PAIRWISE + LISTWISE
NAMES = [kind.__name__ for kind in [*PAIRWISE, *LISTWISE[:3]]] + ["lambdarank", "ndcg_loss2", "ndcg_loss2++@2"]


def discount(rank):
    return 1 / math.log2(1 + rank)


def slow_pairs(items, loss):
    """One entry an item: the sum of `loss(difference)` over the items with a smaller label."""
    return [sum(loss(si - sj) for sj, yj in items if yi > yj) for si, yi in items]


def slow_squares(items):
    return [
        sum(((yi - yj) - (si - sj)) ** 2 for j, (sj, yj) in enumerate(items) if j != i)
        for i, (si, yi) in enumerate(items)
    ]


def slow_list_mle(items):
    ordered = [s for s, _ in sorted(items, key=lambda item: -item[1])]
    return sum(math.log(sum(math.exp(s) for s in ordered[i:])) - ordered[i] for i in range(len(ordered)))


def slow_softmax(items):
    total = sum(y for _, y in items)
    if total == 0:
        return 0.0
    log_sum = math.log(sum(math.exp(s) for s, _ in items))
    return sum(y / total * (log_sum - s) for s, y in items)


def best_dcg(items):
    labels = sorted((y for _, y in items), reverse=True)
    return sum((2**y - 1) * discount(rank) for rank, y in enumerate(labels, start=1))


def slow_approx_ndcg(items):
    if not best_dcg(items):
        return 0.0
    dcg = 0.0
    for i, (si, yi) in enumerate(items):
        rank = 1 + sum(1 / (1 + math.exp(si - sj)) for j, (sj, _) in enumerate(items) if j != i)
        dcg += (2**yi - 1) * discount(rank)
    return 1 - dcg / best_dcg(items)


def slow_lambda(items, weighting, k=None):
    if not best_dcg(items):
        return 0.0
    order = sorted(range(len(items)), key=lambda i: -items[i][0])
    rank = {item: place for place, item in enumerate(order, start=1)}
    total = 0.0
    for i, (si, yi) in enumerate(items):
        for j, (sj, yj) in enumerate(items):
            if yi <= yj or (k is not None and min(rank[i], rank[j]) > k):
                continue
            gain = (2**yi - 2**yj) / best_dcg(items)
            swap = abs(discount(rank[i]) - discount(rank[j]))
            apart = abs(rank[i] - rank[j])
            bound = abs(discount(apart) - discount(apart + 1))
            factor = {"lambdarank": swap, "ndcg_loss2": bound, "ndcg_loss2++": swap + 10 * bound}[weighting]
            total += factor * gain * math.log1p(math.exp(sj - si))
    return total


SLOW = dict(
    zip(
        NAMES,
        [
            lambda items: slow_pairs(items, lambda d: max(0, 1 - d)),
            lambda items: slow_pairs(items, lambda d: math.log1p(math.exp(-d))),
            lambda items: slow_pairs(items, lambda d: 1 / (1 + math.exp(d))),
            slow_squares,
            slow_list_mle,
            slow_softmax,
            slow_approx_ndcg,
            lambda items: slow_lambda(items, "lambdarank"),
            lambda items: slow_lambda(items, "ndcg_loss2"),
            lambda items: slow_lambda(items, "ndcg_loss2++", k=2),
        ],
        strict=True,
    )
)


def arguments_of(kind, temperature):
    return {} if kind is PairwiseMeanSquaredError else {"temperature": temperature}


@settings(max_examples=25)
@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 10**6))
@pytest.mark.parametrize("name", NAMES)
def test_definitions(name, num_lists, length, seed):
    kind = dict(zip(NAMES, ALL, strict=True))[name]
    rng = np.random.default_rng(seed)
    scores = rng.integers(-6, 7, (num_lists, length)) / 4  # with ties
    labels = rng.integers(-1, 4, (num_lists, length))
    mask = rng.random((num_lists, length)) < 0.8
    temperature = 1.0 if kind is PairwiseMeanSquaredError else 2.0
    loss = kind(**arguments_of(kind, temperature), reduction="none")
    got = loss(torch.from_numpy(scores).float(), torch.from_numpy(labels), mask=torch.from_numpy(mask))
    expected = np.zeros((num_lists, length) if kind in PAIRWISE else num_lists)
    for row in range(num_lists):
        kept = mask[row] & (labels[row] >= 0)
        items = [(s / temperature, y) for s, y in zip(scores[row][kept], labels[row][kept], strict=True)]
        if kind in PAIRWISE:
            expected[row, kept] = SLOW[name](items)
        else:
            expected[row] = SLOW[name](items)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


KERAS_RS = {
    "hinge": PairwiseHingeLoss,
    "logistic": PairwiseLogisticLoss,
    "soft_zero_one": PairwiseSoftZeroOneLoss,
    "mean_squared_error": PairwiseMeanSquaredError,
    "list_mle": ListMLELoss,
}


@golden("krs_losses")
def test_golden(case):
    kind = next(kind for name, kind in KERAS_RS.items() if case["name"].startswith(name))
    inputs = case["inputs"]
    arguments = arguments_of(kind, case["arguments"]["constructor"]["temperature"])
    scores = torch.tensor(inputs["y_pred"], requires_grad=True)
    lists, labels = (
        tensor if tensor.dim() == 2 else tensor[None] for tensor in (scores, torch.tensor(inputs["y_true"]))
    )
    mask = torch.tensor(inputs["mask"]) if "mask" in inputs else None
    weight = torch.tensor(inputs["sample_weight"]) if "sample_weight" in inputs else None
    unreduced = kind(**arguments, reduction="none")(lists, labels, mask=mask)
    torch.testing.assert_close(unreduced, torch.tensor(case["expected"]["unreduced_unweighted"]), rtol=1e-5, atol=1e-6)
    loss = kind(**arguments)(lists, labels, mask=mask, weight=weight)
    assert loss.item() == pytest.approx(case["expected"]["loss"], rel=1e-5)
    loss.backward()
    torch.testing.assert_close(scores.grad, torch.tensor(case["expected"]["grad_y_pred"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_what_is_masked_changes_nothing_and_gets_no_gradient(kind):
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0]])
    labels = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    expected = kind(reduction="none")(scores, labels)
    padded = torch.cat([scores, torch.tensor([[torch.nan, torch.inf]] * 2)], dim=1).requires_grad_()
    more = torch.cat([labels, torch.tensor([[9.0, -1.0]] * 2)], dim=1)
    mask = torch.tensor([[True, True, True, False, True]] * 2)
    got = kind(reduction="none")(padded, more, mask=mask)
    torch.testing.assert_close(got[:, :3] if got.dim() == 2 else got, expected)
    got.sum().backward()
    assert padded.grad[:, :3].isfinite().all()
    assert (padded.grad[:, 3:] == 0).all()


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_lists_without_anything_to_order_have_no_loss_and_no_gradient(kind):
    scores = torch.tensor([[3.0, 1.0], [3.0, 1.0], [4.0, 2.0]], requires_grad=True)
    labels = torch.tensor([[-1.0, -1.0], [0.0, -1.0], [2.0, -1.0]])
    loss = kind()(scores, labels)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(scores.grad, torch.zeros(3, 2), rtol=0, atol=1e-6)
    for shape in [(0, 3), (2, 0)]:
        assert kind()(torch.zeros(shape), torch.zeros(shape)) == 0


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_reductions_and_weights(kind):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 5, generator=generator)
    labels = torch.randint(0, 4, (4, 5), generator=generator)
    weight = torch.tensor([0.0, 1.0, 2.0, 0.5])
    entries = kind(reduction="none")(scores, labels)
    factor = weight[:, None] if entries.dim() == 2 else weight
    torch.testing.assert_close(kind(reduction="none")(scores, labels, weight=weight), entries * factor)
    torch.testing.assert_close(kind(reduction="sum")(scores, labels, weight=weight), (entries * factor).sum())
    torch.testing.assert_close(kind()(scores, labels, weight=weight), (entries * factor).mean())
    torch.testing.assert_close(kind()(scores.double(), labels).float(), entries.mean())


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_gradients_are_those_of_the_loss(kind):
    scores = torch.tensor([[0.3, -0.9, 1.4, 0.8]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 3.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: kind()(s, labels), (scores,))


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_shapes_that_would_broadcast_are_refused(kind):
    scores, labels = torch.zeros(3, 4), torch.zeros(3, 4)
    for labels_, arguments in [
        (labels[:1], {}),
        (labels, {"mask": torch.ones(4, dtype=torch.bool)}),
        (labels, {"mask": torch.ones(3, 4)}),
        (labels, {"weight": torch.ones(4)}),
    ]:
        with pytest.raises(ShapeError, match="Loss|PairwiseMeanSquaredError"):
            kind()(scores, labels_, **arguments)
    with pytest.raises(ShapeError, match=r"scores\[None\]"):
        kind()(scores[0], labels[0])
    with pytest.raises(ShapeError, match="float scores"):
        kind()(labels.long(), labels)


def test_list_mle_is_exact_where_an_epsilon_would_distort():
    scores = torch.tensor([[0.0, 40.0, 0.0]])  # the last two places hold scores 40 below the best
    loss = ListMLELoss()(scores, torch.tensor([[1.0, 2.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    scores = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = ListMLELoss()(scores, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(200)
    loss.backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-1.0, 1.0]]))


def test_pairwise_mean_squared_error_promises_no_temperature():
    with pytest.raises(TypeError, match="temperature"):
        PairwiseMeanSquaredError(temperature=0.5)


def test_approx_ndcg_nears_one_minus_ndcg():
    scores, labels = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 0.0, 1.0]])
    dcg = 1 / math.log2(2) + 3 / math.log2(4)
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert ApproxNDCGLoss(temperature=0.01)(scores, labels).item() == pytest.approx(1 - dcg / best, rel=1e-5)


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_descent_orders_the_list(kind):
    labels = torch.tensor([[0.0, 1.0, 2.0, 3.0, -1.0]])
    scores = torch.tensor([[0.3, 0.2, 0.1, 0.0, 5.0]], requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.2)
    for _ in range(80):
        optimizer.zero_grad()
        kind()(scores, labels).backward()
        optimizer.step()
    assert scores[0, 4] == 5
    assert scores[0, :4].topk(2).indices.tolist() == [3, 2]  # below that, a loss cut at 2 need not care


def test_losses_are_rebuilt_from_json():
    for loss in [
        PairwiseHingeLoss(temperature=0.5, reduction="sum"),
        PairwiseMeanSquaredError(),
        ListMLELoss(temperature=2.0),
        ListwiseSoftmaxLoss(),
        ApproxNDCGLoss(temperature=0.3),
        LambdaLoss("lambdarank", k=10),
    ]:
        again = rr.core.from_config(rr.core.to_config(loss))
        assert (type(again), again.config) == (type(loss), loss.config)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="temperature"):
        PairwiseHingeLoss(temperature=0.0)
    with pytest.raises(ConfigError, match="reduction"):
        ListMLELoss(reduction="average")
    with pytest.raises(ConfigError, match="weighting"):
        LambdaLoss("lambda")
    with pytest.raises(ConfigError, match="k of at least 1"):
        LambdaLoss(k=0)


@pytest.mark.parametrize("kind", PAIRWISE)
def test_pairwise_losses_fit_the_ranking_task(kind):
    scores, labels = torch.randn(3, 4), torch.tensor([[1.0, 0.0, 2.0, -1.0]] * 3)
    task = rr.tasks.Ranking(loss=kind(), metrics=[rr.metrics.NDCG(k=3)])
    torch.testing.assert_close(task(labels=labels, predictions=scores), kind()(scores, labels))
    assert 0 < task.results()["ndcg@3"] <= 1


@pytest.mark.parametrize(
    "loss",
    [
        rr.losses.PairwiseHingeLoss(),
        rr.losses.PairwiseLogisticLoss(),
        rr.losses.PairwiseSoftZeroOneLoss(),
        rr.losses.PairwiseMeanSquaredError(),
        rr.losses.ListMLELoss(),
        rr.losses.ListwiseSoftmaxLoss(),
        rr.losses.ApproxNDCGLoss(),
        rr.losses.LambdaLoss(),
    ],
)
def test_a_label_that_is_not_a_number_is_no_padding(loss):
    with pytest.raises(DataError, match=r"labels, row 0, 1: expected finite labels.*, got nan"):
        loss(torch.zeros(2, 3), torch.tensor([[1.0, torch.nan, 0.0], [1.0, 0.0, 0.0]]))
