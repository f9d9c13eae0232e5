"""NumPy arrays where tensors are meant mean the same; what would have to be guessed is refused."""

import numpy as np
import pytest
import torch

import retrank as rr

RNG = np.random.default_rng(0)
PREDICTIONS, LABELS, WEIGHT = RNG.random(8), (RNG.random(8) > 0.5).astype(np.int64), RNG.random(8)
LISTS, GAINS = RNG.random((3, 4)).astype(np.float32), RNG.integers(0, 2, (3, 4))
QUERIES, CANDIDATES = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(5, 4)).astype(np.float32)
POSITIVES = np.array([0, 4, 2])

UPDATES = {
    rr.metrics.AUC: (PREDICTIONS, LABELS, WEIGHT),
    rr.metrics.LogLoss: (PREDICTIONS, LABELS, WEIGHT),
    rr.metrics.CalibrationError: (PREDICTIONS, LABELS, WEIGHT),
    rr.metrics.RootMeanSquaredError: (PREDICTIONS, LABELS, WEIGHT),
    rr.metrics.NDCG: (LISTS, GAINS, WEIGHT[:3]),
    rr.metrics.HitRate: (LISTS, GAINS),
    rr.metrics.BatchTopK: (LISTS, POSITIVES % 4, WEIGHT[:3]),
    rr.metrics.FullCorpusTopK: (QUERIES, CANDIDATES, POSITIVES),
}


def measured(kind, arguments, **options):
    metric = kind()
    metric.update(*arguments, **options)
    value = metric.compute()
    return {name: float(one) for name, one in value.items()} if isinstance(value, dict) else float(value)


@pytest.mark.parametrize("kind", UPDATES)
def test_arrays_are_measured_like_tensors(kind):
    arrays = UPDATES[kind]
    assert measured(kind, arrays) == measured(kind, [torch.from_numpy(array) for array in arrays])


def test_arrays_and_groups():
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = measured(rr.metrics.GroupedAUC, (PREDICTIONS, LABELS), groups=groups)
    tensors = [torch.from_numpy(array) for array in (PREDICTIONS, LABELS)]
    assert found == measured(rr.metrics.GroupedAUC, tensors, groups=torch.from_numpy(groups))


@pytest.mark.parametrize("kind", UPDATES)
def test_lists_and_text_are_refused(kind):
    arrays = UPDATES[kind]
    for bad in (arrays[0].tolist(), np.full(arrays[0].shape, "a"), np.full(arrays[0].shape, None)):
        with pytest.raises(rr.errors.ShapeError, match=r"expected a tensor as .*torch\.as_tensor"):
            kind().update(bad, *arrays[1:])


def test_tasks_take_arrays():
    task = rr.tasks.Ranking()
    tensors = [torch.from_numpy(array) for array in (LABELS, PREDICTIONS, WEIGHT)]
    expected = task(tensors[0], tensors[1], weight=tensors[2])
    assert torch.equal(task(LABELS, PREDICTIONS, weight=WEIGHT), expected)
    task = rr.tasks.Retrieval(remove_accidental_hits=True)
    ids = np.array([5, 6, 5])
    expected = task(*map(torch.from_numpy, (QUERIES, CANDIDATES[:3])), candidate_ids=torch.from_numpy(ids))
    assert torch.equal(task(QUERIES, CANDIDATES[:3], candidate_ids=ids), expected)
    with pytest.raises(rr.errors.ShapeError, match="a tensor as candidate_ids, got a list"):
        task(QUERIES, CANDIDATES[:3], candidate_ids=[5, 6, 5])
    with pytest.raises(rr.errors.ShapeError, match="a tensor as weight, got a str"):
        task(QUERIES, CANDIDATES[:3], candidate_ids=ids, weight="w")


def test_lists_of_rows_exclude_what_a_jagged_excludes():
    lists = [[0], [], (1, 4)]
    jagged = rr.Jagged.from_lists(lists)
    arguments = [torch.from_numpy(array) for array in UPDATES[rr.metrics.FullCorpusTopK]]
    found, expected = (measured(rr.metrics.FullCorpusTopK, arguments, exclude=exclude) for exclude in (lists, jagged))
    assert found == expected
    ranks = rr.metrics.rank_of_positive(*arguments, exclude=lists)
    assert torch.equal(ranks, rr.metrics.rank_of_positive(*arguments, exclude=jagged))
