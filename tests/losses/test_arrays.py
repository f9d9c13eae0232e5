"""NumPy arrays where tensors are meant mean the same in bare losses and corrections; what is guessed is refused."""

import numpy as np
import pytest
import torch

import retrank as rr

L, T = rr.losses, rr.tasks
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 4)).astype(np.float32)
POSITIVES, WEIGHT = np.array([0, 3, 1]), RNG.random(3)
VALID = RNG.random((3, 3)) < 0.7
GRADES = RNG.integers(0, 3, (3, 4))
LOGITS, LABELS = RNG.normal(size=6), RNG.integers(0, 2, 6)

SAMPLED = [L.bpr, L.bpr_max, L.cross_entropy, L.hinge, L.logistic, L.top1, L.top1_max, L.top1_v2]
LISTS = [
    *(L.ListMLELoss(), L.ListwiseSoftmaxLoss(), L.ApproxNDCGLoss(), L.LambdaLoss(), L.PairwiseHingeLoss()),
    *(L.PairwiseLogisticLoss(), L.PairwiseSoftZeroOneLoss(), L.PairwiseMeanSquaredError()),
]
CASES = {
    **{loss.__name__: (loss, (SCORES, VALID, WEIGHT), {}) for loss in SAMPLED},
    **{type(loss).__name__: (loss, (SCORES, GRADES), {"mask": SCORES > -1, "weight": WEIGHT}) for loss in LISTS},
    **{
        type(loss).__name__: (loss, (LOGITS, LABELS), {"mask": LOGITS > -1, "weight": np.ones(6)})
        for loss in (L.WeightedBCELoss(2.0), L.FocalLoss())
    },
    "softmax_cross_entropy": (L.softmax_cross_entropy, (SCORES, POSITIVES, WEIGHT), {}),
    "apply_score_mask": (T.apply_score_mask, (SCORES, SCORES > 0), {}),
    "apply_temperature": (lambda scores: T.apply_temperature(scores, 0.5), (SCORES,), {}),
    "correct_log_q": (T.correct_log_q, (SCORES, np.log(np.array([0.1, 0.2, 0.3, 0.4]))), {}),
    "probabilities": (T.SamplingProbabilityCorrection(), (SCORES, np.array([0.1, 0.2, 0.3, 0.4])), {}),
    "remove_accidental_hits": (T.remove_accidental_hits, (SCORES, np.array([7, 8, 7, 7]), POSITIVES), {}),
    "mine_hard_negatives": (lambda *given: T.mine_hard_negatives(*given, 2), (SCORES, POSITIVES), {}),
    "mask_known_positives": (T.mask_known_positives, (POSITIVES, np.array([5, 6, 5, 8])), {}),
}


def as_tensors(arrays):
    if isinstance(arrays, dict):
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    return tuple(torch.from_numpy(array) for array in arrays)


def test_no_loss_is_left_out():
    public = {name for name in L.__all__ if name not in ("ListLoss", "PairwiseLoss", "PointwiseLoss")}
    assert public <= CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_arrays_give_what_tensors_give(name):
    function, arrays, named = CASES[name]
    expected, found = function(*as_tensors(arrays), **as_tensors(named)), function(*arrays, **named)
    for one, other in zip(*([x] if isinstance(x, torch.Tensor) else x for x in (found, expected)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_lists_and_text_are_refused(name):
    function, arrays, named = CASES[name]
    for place, array in enumerate(arrays):
        for bad in (array.tolist(), np.full(array.shape, "a"), np.full(array.shape, None)):
            with pytest.raises(rr.errors.ShapeError, match=r"expected a tensor as .*torch\.as_tensor"):
                function(*arrays[:place], bad, *arrays[place + 1 :], **named)
    for option, array in named.items():
        with pytest.raises(rr.errors.ShapeError, match=f"expected a tensor as {option}"):
            function(*arrays, **{**named, option: array.tolist()})


@pytest.mark.parametrize("name", [name for name, (_, _, named) in CASES.items() if "mask" in named])
def test_a_mask_is_bool(name):
    function, arrays, named = CASES[name]
    with pytest.raises(rr.errors.ShapeError, match="a bool mask, got torch.int64"):
        function(*arrays, **{**named, "mask": named["mask"].astype(np.int64)})


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)])
def test_corrections_take_any_leading_dimensions(lead):
    scores, positives = RNG.normal(size=(*lead, 5)), RNG.integers(0, 5, lead)
    ids = RNG.integers(0, 3, (*lead, 5))
    flat, own = scores.reshape(-1, 5), positives.reshape(-1)
    removed = T.remove_accidental_hits(flat, ids.reshape(-1, 5), own)
    assert torch.equal(T.remove_accidental_hits(scores, ids, np.asarray(positives)), removed.view(*lead, 5))
    shared = np.array([2, 3, 2, 2, 4])
    removed = T.remove_accidental_hits(flat, shared, own)
    assert torch.equal(T.remove_accidental_hits(scores, shared, np.asarray(positives)), removed.view(*lead, 5))
    mined, at = T.mine_hard_negatives(scores, np.asarray(positives), 3)
    assert torch.equal(mined, T.mine_hard_negatives(flat, own, 3)[0].view(*lead, 4))
    assert at.shape == lead
    assert not at.any()


def test_integer_scores_are_refused_where_some_are_removed():
    scores, positives = np.zeros((1, 2), dtype=np.int64), np.array([0])
    for use in (
        lambda: T.remove_accidental_hits(scores, np.array([1, 1]), positives),
        lambda: T.mine_hard_negatives(scores, positives, 1),
        lambda: T.apply_score_mask(scores, scores > 0),
    ):
        with pytest.raises(rr.errors.ShapeError, match="float scores"):
            use()
