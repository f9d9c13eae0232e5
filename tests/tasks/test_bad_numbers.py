"""What a task cannot learn from is refused where it enters, whether or not a metric would notice."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.tasks import Ranking, Retrieval, RetrievalScorer, SamplingProbabilityCorrection, correct_log_q

NOT_FINITE = [math.nan, math.inf, -math.inf]
BINARY = [nn.BCEWithLogitsLoss(), nn.BCELoss(), rr.losses.WeightedBCELoss(), rr.losses.FocalLoss()]
REGRESSION = [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss(), nn.PoissonNLLLoss()]
LISTS = [
    rr.losses.ListMLELoss(),
    rr.losses.ListwiseSoftmaxLoss(),
    rr.losses.LambdaLoss(),
    rr.losses.PairwiseHingeLoss(),
]


def named(losses):
    return pytest.mark.parametrize("loss", losses, ids=[type(loss).__name__ for loss in losses])


@named(BINARY)
@pytest.mark.parametrize("bad", [-1.0, 2.0, 5.0, 1e39, *NOT_FINITE])
def test_labels_of_binary_losses(loss, bad):
    task, predictions = Ranking(loss), torch.full((3,), 0.5)
    with pytest.raises(DataError, match=rf"{type(loss).__name__}, labels, row 2: expected labels from 0 to 1, got"):
        task(torch.tensor([0, 1, bad], dtype=torch.float64), predictions)
    mask = torch.tensor([True, True, False])
    assert task(torch.tensor([0, 1, bad]), predictions, mask=mask).isfinite()


@named(REGRESSION)
@pytest.mark.parametrize("bad", [1e39, *NOT_FINITE])
def test_labels_of_regression_losses(loss, bad):
    with pytest.raises(DataError, match="labels, row 1: expected finite labels"):
        Ranking(loss)(torch.tensor([1.0, bad], dtype=torch.float64), torch.zeros(2))


def test_counts_are_not_negative():
    with pytest.raises(DataError, match="labels, row 1: expected finite labels of at least 0, got -1"):
        Ranking(nn.PoissonNLLLoss())(torch.tensor([1, -1]), torch.zeros(2))


@named(LISTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_labels_of_lists(loss, bad):
    with pytest.raises(DataError, match="labels, row 1, 0: expected finite labels"):
        Ranking(loss)(torch.tensor([[1.0, 0.0], [bad, 0.0]]), torch.zeros(2, 2))


@pytest.mark.parametrize("bad", [-0.1, 1.1, 7.0, math.nan])
def test_a_loss_of_probabilities_refuses_logits_in_our_words(bad):
    with pytest.raises(DataError, match="BCELoss, predictions, row 0: expected probabilities, got .*BCEWithLogitsLoss"):
        Ranking(nn.BCELoss())(torch.ones(2), torch.tensor([bad, 0.5]))


@named([*BINARY, *REGRESSION])
def test_a_refused_batch_is_counted_nowhere(loss):
    task = Ranking(loss, metrics=[rr.metrics.LabelMean()], loss_metrics=[rr.metrics.LossMean()])
    with pytest.raises(DataError, match="labels"):
        task(torch.tensor([0.5, math.nan]), torch.full((2,), 0.5))
    assert task.results() == {}


class Missing(nn.Module):
    """A loss of one's own, to which a NaN label says something."""

    def forward(self, predictions, labels):
        return (predictions - labels.nan_to_num(0.0)).square()


def test_a_custom_loss_may_take_any_label():
    assert Ranking(Missing())(torch.tensor([math.nan, 1.0]), torch.ones(2)) == 0.5


@named([*BINARY, *REGRESSION, *LISTS])
@pytest.mark.parametrize("bad", [-1.0, *NOT_FINITE])
def test_weights_of_ranking(loss, bad):
    shape = (2, 3) if isinstance(loss, rr.losses.ListLoss) else (2,)
    with pytest.raises(DataError, match="weight, row 1: expected finite weights of at least 0, got"):
        Ranking(loss)(torch.ones(shape), torch.full(shape, 0.5), weight=torch.tensor([1.0, bad]))


TASKS = {
    "fused": Retrieval(),
    "plain": Retrieval(num_hard_negatives=2),
    "loss": Retrieval(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
    "symmetric": Retrieval(symmetric=True),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("bad", [-1.0, *NOT_FINITE])
def test_weights_of_retrieval(task, bad):
    with pytest.raises(DataError, match="Retrieval, weight, row 1: expected finite weights"):
        task(torch.eye(3), torch.eye(3), weight=torch.tensor([1.0, bad, 1.0]))


@pytest.mark.parametrize("num_hard_negatives", [None, 2])
@pytest.mark.parametrize("bad", [0.3, 2.0, *NOT_FINITE])
def test_log_q_of_retrieval(num_hard_negatives, bad):
    task = Retrieval(log_q=True, num_hard_negatives=num_hard_negatives)
    log_q = torch.tensor([-1.0, bad, -2.0])
    for some in (log_q, log_q.expand(3, 3)):
        with pytest.raises(DataError, match=r"Retrieval, log_q, row .*1: expected logarithms of probabilities.* got"):
            task(torch.eye(3), torch.eye(3), log_q=some)
    with pytest.raises(DataError, match="correct_log_q, log_q, row 1"):
        correct_log_q(torch.zeros(2, 3), log_q)


def test_probabilities_in_place_of_their_logarithms_are_noticed():
    with pytest.raises(DataError, match="pass the logarithm of each probability"):
        Retrieval(log_q=True)(torch.eye(3), torch.eye(3), log_q=torch.tensor([0.01, 0.002, 0.0001]))


@pytest.mark.parametrize("bad", [-0.1, 1.1, *NOT_FINITE])
def test_probabilities(bad):
    correct = SamplingProbabilityCorrection()
    with pytest.raises(DataError, match="probability, row 1: expected probabilities, got"):
        correct(torch.zeros(2, 2), torch.tensor([0.5, bad]))
    torch.testing.assert_close(correct(torch.zeros(1, 2), torch.tensor([0.0, 1.0])).exp(), torch.tensor([[1e6, 1.0]]))


class Forgetful(rr.sampling.Sampler):
    """A sampler that says of what it draws that it never does."""

    def __init__(self, log_count):
        super().__init__()
        self.log_count = log_count

    def draw(self, positives):
        return rr.sampling.Negatives(
            positives.ids, positives.embeddings, lambda ids: torch.full((len(ids),), self.log_count)
        )


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_what_a_sampler_says_is_finite(bad):
    ids, inputs = torch.tensor([2, 3]), {"query": torch.eye(2), "candidate": torch.eye(2)}
    scorer = RetrievalScorer([Forgetful(bad)], log_q=True)
    with pytest.raises(DataError, match="log_q of the sampler, row 0: expected finite logarithms of expected counts"):
        scorer(inputs, candidate_ids=ids, training=True)
    many = RetrievalScorer([Forgetful(1.5)], log_q=True)
    assert many(inputs, candidate_ids=ids, training=True).scores[0, 0] == 1 - 1.5


@pytest.mark.parametrize("bad", [0.0, -1.0, *NOT_FINITE, "0.1", True])
def test_temperatures(bad):
    for build in (
        Retrieval,
        RetrievalScorer,
        lambda temperature: rr.tasks.apply_temperature(torch.eye(2), temperature),
    ):
        with pytest.raises(ConfigError, match=r"expected a finite number above 0, got temperature="):
            build(temperature=bad)


@pytest.mark.parametrize("counts", [["a"], [[1], [1, 2]], "ab"])
def test_counts_that_are_no_numbers(counts):
    with pytest.raises(ConfigError, match="InBatch: expected counts"):
        rr.sampling.InBatch(counts=counts)


def smoothed_loss(scores, ids, mask, epsilon, weight):
    """The loss of each row by hand: the target is shared among the columns that are left."""
    total = 0.0
    for row in range(len(scores)):
        kept = [
            column
            for column in range(scores.shape[1])
            if column == row or (mask[row, column] and (ids is None or ids[column] != ids[row]))
        ]
        if not mask[row, row]:
            continue  # a masked positive takes no part
        logs = {column: scores[row, column] - np.log(np.exp(scores[row, kept]).sum()) for column in kept}
        total += weight[row] * -((1 - epsilon) * logs[row] + epsilon * np.mean(list(logs.values())))
    return total / max(len(scores), 1)


@settings(max_examples=60)
@given(
    st.integers(1, 5), st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans(), st.integers(0, 10**6)
)
def test_label_smoothing_beside_removed_columns(num_rows, more, epsilon, hits, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = rng.normal(size=(num_rows, 4)), rng.normal(size=(num_rows + more, 4))
    ids = rng.integers(0, 3, num_rows + more)
    mask = rng.random((num_rows, num_rows + more)) < 0.7
    weight = rng.integers(0, 3, num_rows).astype(float)
    given = [torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in (queries, candidates)]
    task = Retrieval(loss=nn.CrossEntropyLoss(label_smoothing=epsilon), remove_accidental_hits=hits)
    loss = task(
        *given,
        candidate_ids=torch.tensor(ids),
        score_mask=torch.tensor(mask),
        weight=torch.tensor(weight, dtype=torch.float32),
    )
    expected = smoothed_loss(queries @ candidates.T, ids if hits else None, mask, epsilon, weight)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    loss.backward()
    assert all(part.grad.isfinite().all() for part in given)


def test_label_smoothing_is_torchs_where_nothing_is_removed():
    torch.manual_seed(0)
    scores, positives = torch.randn(6, 5, dtype=torch.float64), torch.randint(0, 5, (6,))
    for epsilon in (0.0, 0.3, 1.0):
        found = rr.losses.softmax_cross_entropy(scores, positives, label_smoothing=epsilon)
        torch.testing.assert_close(found, nn.CrossEntropyLoss(label_smoothing=epsilon)(scores, positives))
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="label_smoothing"):
            rr.losses.softmax_cross_entropy(scores, positives, label_smoothing=bad)


@pytest.mark.parametrize("symmetric", [False, True])
def test_cross_entropy_of_torch_is_the_default_loss(symmetric):
    torch.manual_seed(0)
    queries, candidates, ids = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([5, 6, 5, 7])
    options = {"remove_accidental_hits": True, "symmetric": symmetric}
    plain = Retrieval(**options)(queries, candidates, candidate_ids=ids)
    assert Retrieval(loss=nn.CrossEntropyLoss(), **options)(queries, candidates, candidate_ids=ids) == plain
    smooth = Retrieval(loss=nn.CrossEntropyLoss(label_smoothing=0.1), **options)(queries, candidates, candidate_ids=ids)
    assert smooth.isfinite()


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(weight=torch.ones(3)), nn.CrossEntropyLoss(ignore_index=0)])
def test_classes_of_a_cross_entropy_are_no_columns(loss):
    with pytest.raises(ConfigError, match="without `weight` and `ignore_index`"):
        Retrieval(loss=loss)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_row_whose_negatives_are_all_removed_has_no_loss(task):
    mask = torch.eye(3, dtype=torch.bool)
    assert task(torch.eye(3), torch.eye(3), score_mask=mask) == pytest.approx(0, abs=1e-6)
    nobody = task(torch.eye(3), torch.eye(3), score_mask=torch.zeros(3, 3, dtype=torch.bool))
    assert nobody == 0
    assert task(torch.zeros(0, 3), torch.zeros(0, 3)) == 0


@pytest.mark.parametrize("bad", [-1, 3])
def test_positives_outside_of_the_columns(bad):
    positives = torch.tensor([0, bad])
    for options in ({}, {"num_hard_negatives": 1}, {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}):
        with pytest.raises(DataError, match=rf"positives, row 1: expected a column in \[0, 3\), got {bad}"):
            Retrieval(**options)(torch.eye(3)[:2], torch.eye(3), positives=positives)
    with pytest.raises(DataError, match=rf"metric 'batch', positives, row 1: expected a column in \[0, 3\), got {bad}"):
        rr.metrics.BatchTopK().update(torch.zeros(2, 3), positives)


def test_lengths_that_do_not_fit():
    for arguments in ({"weight": torch.ones(2)}, {"log_q": torch.zeros(2)}, {"candidate_ids": torch.zeros(2).long()}):
        with pytest.raises(ShapeError):
            Retrieval(log_q="log_q" in arguments, remove_accidental_hits="candidate_ids" in arguments)(
                torch.eye(3), torch.eye(3), **arguments
            )


def test_gains_that_leave_float64_are_no_ndcg():
    metric = rr.metrics.NDCG()
    metric.update(torch.zeros(1, 2), torch.tensor([[1995.0, 1.0]]))
    with pytest.raises(DataError, match="finite labels and gains"):
        metric.compute()


@pytest.mark.parametrize("build", [rr.sampling.InBatch, partial(rr.sampling.CrossBatch, 8)])
def test_counts_of_a_sampler_reach_a_model_as_probabilities(build):
    """Expected counts above 1 have logarithms above 0; a softmax sees no constant, so the task gets shares."""
    users, songs = (rr.core.ColumnSchema(name, "ids", num_ids=5) for name in ("user", "song"))
    model = rr.models.MatrixFactorization(users, songs, Retrieval(log_q=True), negatives=build(counts=[3, 1, 1]))
    batch = rr.Batch({"user": torch.tensor([2, 3, 4, 2]), "song": torch.tensor([2, 2, 2, 3])})
    assert model.compute_loss(batch, training=True).isfinite()
