import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import cases

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.tasks import (
    HardNegativeMining,
    RemoveAccidentalHits,
    SamplingProbabilityCorrection,
    apply_score_mask,
    apply_temperature,
    correct_log_q,
    mine_hard_negatives,
    remove_accidental_hits,
)

CASES = [
    (f"{stem[:-12]} {case['name']}", case) for stem in ("tfrs_loss_layers", "krs_loss_layers") for case in cases(stem)
]


def named(prefix):
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=name) for name, case in CASES if case["name"].startswith(prefix)]
    )


@named("correction")
def test_correct_log_q_agrees_with_tfrs_and_keras_rs(case):
    probability = torch.tensor(case["inputs"]["candidate_sampling_probability"])
    log_q = probability.clamp(case["arguments"]["constructor"].get("epsilon", 1e-6), 1).log()
    scores = torch.tensor(case["inputs"]["logits"])
    module = SamplingProbabilityCorrection(**case["arguments"]["constructor"])
    for found in (correct_log_q(scores, log_q), module(scores, probability)):
        np.testing.assert_allclose(found, case["expected"]["logits"], rtol=1e-5, atol=1e-6)


@named("hits")
def test_remove_accidental_hits_agrees_with_tfrs_and_keras_rs(case):
    scores, positives = torch.tensor(case["inputs"]["logits"]), torch.tensor(case["inputs"]["labels"]).argmax(1)
    _, ids = np.unique(case["inputs"]["candidate_ids"], return_inverse=True)
    ids = torch.from_numpy(ids.reshape(np.shape(case["inputs"]["candidate_ids"])))
    found = remove_accidental_hits(scores, ids, positives)
    assert torch.equal(found, RemoveAccidentalHits()(scores, ids, positives))
    expected = torch.tensor(case["expected"]["logits"])
    removed = expected < -1e30
    assert removed.tolist() == case["expected"].get("removed", removed.tolist())
    assert (found[removed] == -torch.inf).all()
    assert torch.equal(found[~removed], scores[~removed])
    np.testing.assert_allclose(found.softmax(1), expected.softmax(1), rtol=1e-5)


@named("mining")
def test_mine_hard_negatives_agrees_with_tfrs_and_keras_rs(case):
    scores, positives = torch.tensor(case["inputs"]["logits"]), torch.tensor(case["inputs"]["labels"]).argmax(-1)
    number = case["arguments"]["constructor"]["num_hard_negatives"]
    if number == 0:
        with pytest.raises(ConfigError, match="at least 1 hard negative"):
            mine_hard_negatives(scores, positives, number)
        with pytest.raises(ConfigError, match="at least 1 hard negative"):
            HardNegativeMining(number)
        return
    for found, places in (
        mine_hard_negatives(scores, positives, number),
        HardNegativeMining(number)(scores, positives),
    ):
        assert torch.equal(found, torch.tensor(case["expected"]["logits"]))
        labels = torch.nn.functional.one_hot(places, found.shape[-1])
        assert torch.equal(labels, torch.tensor(case["expected"]["labels"]).long())


def test_any_number_of_leading_dimensions():
    torch.manual_seed(0)
    scores, positives = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    ids, log_q, mask = torch.tensor([1, 2, 1, 2, 1]), -torch.rand(5), torch.rand(2, 3, 5) < 0.5
    ids_of_rows = torch.randint(3, (2, 3, 5))
    for i in range(2):
        assert torch.equal(correct_log_q(scores, log_q)[i], correct_log_q(scores[i], log_q))
        assert torch.equal(apply_score_mask(scores, mask)[i], apply_score_mask(scores[i], mask[i]))
        found = remove_accidental_hits(scores, ids, positives)
        assert torch.equal(found[i], remove_accidental_hits(scores[i], ids, positives[i]))
        found = remove_accidental_hits(scores, ids_of_rows, positives)
        assert torch.equal(found[i], remove_accidental_hits(scores[i], ids_of_rows[i], positives[i]))
        found, places = mine_hard_negatives(scores, positives, 2)
        assert torch.equal(found[i], mine_hard_negatives(scores[i], positives[i], 2)[0])
        assert places.shape == (2, 3)


def test_one_row_without_a_batch():
    scores, positive = torch.tensor([1.0, 5.0, 3.0, 4.0]), torch.tensor(2)
    found, place = mine_hard_negatives(scores, positive, 2)
    assert (found.tolist(), place.tolist()) == ([3.0, 5.0, 4.0], 0)
    removed = remove_accidental_hits(scores, torch.tensor([7, 8, 8, 9]), positive)
    assert removed.tolist() == [1.0, -math.inf, 3.0, 4.0]
    assert HardNegativeMining(2)(scores, positive)[0].tolist() == found.tolist()
    with pytest.raises(DataError, match="positives: expected a column"):
        mine_hard_negatives(scores, torch.tensor(4), 1)
    with pytest.raises(ShapeError, match="scores"):
        mine_hard_negatives(torch.tensor(1.0), positive, 1)


def test_score_mask():
    scores, mask = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True), torch.tensor([[True, False, True]])
    masked = apply_score_mask(scores, mask)
    assert masked.tolist() == [[1.0, -math.inf, 3.0]]
    masked.softmax(1)[0, 0].backward()
    assert scores.grad[0, 1] == 0
    for bad in (mask.float(), mask[0], mask.T):
        with pytest.raises(ShapeError, match="score_mask"):
            apply_score_mask(scores, bad)


def test_a_positive_outside_of_the_columns_is_named():
    for positive in (-1, 4):
        positives = torch.tensor([0, positive, 1])
        with pytest.raises(DataError, match=f"positives, row 1.*{positive}|{positive}.*positives, row 1"):
            mine_hard_negatives(torch.zeros(3, 4), positives, 1)
        with pytest.raises(DataError, match="row 1"):
            remove_accidental_hits(torch.zeros(3, 4), torch.arange(4), positives)


def test_modules_are_rebuilt_from_json():
    for module in (HardNegativeMining(3), RemoveAccidentalHits(), SamplingProbabilityCorrection(epsilon=0.5)):
        again = rr.core.from_config(rr.core.to_config(module))
        assert type(again) is type(module)
        assert again.config == module.config
    for epsilon in (0.0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="epsilon"):
            SamplingProbabilityCorrection(epsilon=epsilon)


@settings(max_examples=100)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 12), st.integers(0, 10**6))
def test_definitions(num_rows, num_columns, number, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, size=(num_rows, num_columns)).astype(np.float32)  # many equal scores
    ids, positives = rng.integers(0, 3, num_columns), rng.integers(0, num_columns, num_rows)
    relieved = remove_accidental_hits(*map(torch.from_numpy, (scores, ids, positives)))
    mined, _ = mine_hard_negatives(relieved, torch.from_numpy(positives), number)
    for row in range(num_rows):
        own = positives[row]
        expected = [
            -np.inf if column != own and ids[column] == ids[own] else scores[row, column]
            for column in range(num_columns)
        ]
        assert relieved[row].tolist() == expected
        negatives = sorted((expected[column] for column in range(num_columns) if column != own), reverse=True)
        assert mined[row].tolist() == [scores[row, own], *negatives[:number]]


def test_what_is_removed_has_neither_weight_nor_gradient():
    scores = torch.randn(3, 4, requires_grad=True)
    relieved = remove_accidental_hits(scores, torch.tensor([5, 5, 6, 5]), torch.tensor([0, 1, 2]))
    mined, positives = mine_hard_negatives(relieved, torch.tensor([0, 1, 2]), 2)
    torch.nn.functional.cross_entropy(mined, positives).backward()
    assert relieved.softmax(1)[0, [1, 3]].tolist() == [0, 0]
    assert scores.grad[0, [1, 3]].tolist() == [0, 0]
    assert scores.grad.isfinite().all()
    assert (scores.grad != 0).sum() == 2 + 2 + 3


def test_temperature():
    assert apply_temperature(torch.tensor([[1.0, -2.0]]), 0.25).tolist() == [[4.0, -8.0]]
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature"):
            apply_temperature(torch.zeros(1, 1), temperature)


def test_bad_shapes():
    scores, positives = torch.zeros(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ShapeError, match=r"log_q of shape \(4,\)"):
        correct_log_q(scores, torch.zeros(3, 1))
    with pytest.raises(ShapeError, match="positives"):
        mine_hard_negatives(scores, positives[:, None], 1)
    with pytest.raises(ShapeError, match="positives"):
        remove_accidental_hits(scores, torch.arange(4), positives.float())
    with pytest.raises(ShapeError, match="candidate_ids"):
        remove_accidental_hits(scores, torch.arange(3), positives)
    with pytest.raises(ShapeError, match="candidate_ids"):
        remove_accidental_hits(scores, torch.zeros(4), positives)
    with pytest.raises(ShapeError, match="scores"):
        mine_hard_negatives(torch.zeros(4), positives, 1)
