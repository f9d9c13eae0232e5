"""No argument of a search makes it touch memory that is not its own: bad ones raise our errors, also in python -O."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import RetrankError
from retrank.core.jagged import Jagged
from retrank.ops.best_candidates import best_candidates, best_of_stream
from retrank.ops.pair_scores import pair_scores
from retrank.ops.prepared_candidates import prepare_candidates
from retrank.ops.ranks import count_better

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")
NUM, DIM = 40, 3
NUMBERS = st.sampled_from([-(2**63), -(2**40), -2, -1, 0, 1, 2, 3, 5, NUM - 1, NUM, NUM + 1, 2**33, 2**63 - 1])
CANDIDATES = torch.arange(NUM * DIM, dtype=torch.float32).view(NUM, DIM) % 7


def integers(draw, size, values=NUMBERS):
    numbers = np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype=np.int64)
    tensor = torch.from_numpy(numbers)
    form = draw(st.sampled_from(["plain", "plain", "plain", "strided", "int32", "float", "column"]))
    if form == "strided":
        return torch.stack([tensor, tensor - 1], dim=1)[:, 0]
    return {"int32": tensor.int, "float": tensor.float, "column": lambda: tensor[:, None]}.get(form, lambda: tensor)()


def lists(draw, num_lists):
    """A Jagged that nobody has checked: half of them are fine."""
    if draw(st.booleans()):
        rows = st.lists(st.integers(0, NUM - 1), max_size=4)
        return Jagged.from_lists(draw(st.lists(rows, min_size=num_lists, max_size=num_lists)))
    made = Jagged.empty(0)
    made.values = integers(draw, draw(st.integers(0, 6)))
    made.offsets = integers(draw, draw(st.sampled_from([0, 1, num_lists, num_lists + 1, num_lists + 2])))
    return made


def allowed(draw, num_queries):
    kind = draw(st.sampled_from(["none", "mask", "other mask", "shared", "own", "list"]))
    if kind == "mask":
        return torch.rand(NUM) < 0.5
    if kind == "other mask":
        return draw(st.sampled_from([torch.ones(NUM), torch.ones(NUM + 1, dtype=torch.bool), torch.ones(()).bool()]))
    if kind == "list":
        return [[1]]
    return None if kind == "none" else lists(draw, 1 if kind == "shared" else num_queries)


def is_refused_or(check, run):
    try:
        result = run()
    except RetrankError:
        return
    check(result)


@settings(max_examples=300)
@given(st.data())
def test_searches(data):
    num_queries = data.draw(st.integers(0, 3))
    queries = torch.ones(num_queries, data.draw(st.sampled_from([DIM, DIM, DIM, DIM, 0, 2])))
    k = data.draw(st.sampled_from([1, 2, NUM, 0, -1, NUM + 1, 2**40, 2**63, True, 1.0, None]))
    exclude = lists(data.draw, num_queries) if data.draw(st.booleans()) else None
    allow = allowed(data.draw, num_queries)

    def check(found):
        scores, rows = found
        assert scores.shape == rows.shape == (num_queries, k)
        assert ((rows >= -1) & (rows < NUM)).all()

    prepared = prepare_candidates(CANDIDATES)
    is_refused_or(check, lambda: best_candidates(queries, prepared, k, exclude=exclude, allow=allow))
    sizes = {"dim": DIM, "device": torch.device("cpu")}
    num = data.draw(st.sampled_from([NUM, NUM, NUM - 1, NUM + 1, 2**33]))
    is_refused_or(
        lambda found: None,
        lambda: best_of_stream(queries, [prepared], num, k, exclude=exclude, allow=allow, **sizes),
    )


@settings(max_examples=200)
@given(st.data())
def test_ranks(data):
    num_queries = data.draw(st.integers(0, 3))
    queries = torch.ones(num_queries, data.draw(st.integers(0, 2)), data.draw(st.sampled_from([DIM, DIM, DIM, 0, 2])))
    order = torch.randperm(NUM)
    if data.draw(st.booleans()):
        order = integers(data.draw, data.draw(st.sampled_from([0, NUM])))
    positives = integers(data.draw, num_queries, st.one_of(st.integers(0, NUM - 1), NUMBERS))
    exclude = lists(data.draw, num_queries) if data.draw(st.booleans()) else None

    def check(counts):
        assert counts.shape == (num_queries,)
        assert ((counts >= 0) & (counts < NUM)).all()

    is_refused_or(check, lambda: count_better(queries, CANDIDATES, order, positives, exclude=exclude))


@settings(max_examples=200)
@given(st.data())
def test_pairs(data):
    num_queries, places = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    rows = integers(data.draw, num_queries * places, st.one_of(st.integers(-1, NUM - 1), NUMBERS))
    rows = rows.reshape(data.draw(st.sampled_from([(num_queries, places), (num_queries, places), (-1,)])))
    queries = torch.ones(num_queries, data.draw(st.sampled_from([DIM, DIM, DIM, 0, 2])))
    candidates = CANDIDATES[: data.draw(st.sampled_from([NUM, 1, 0]))]

    def check(scores):
        assert scores.shape == (num_queries, places)
        assert torch.equal(scores == -torch.inf, rows < 0)

    is_refused_or(check, lambda: pair_scores(queries, candidates, rows))


@pytest.mark.parametrize("offsets", [[0, 3, 1, 3], [0, 2, 10**6, 3], [0, 1, 2, 4], [1, 1, 2, 3], [0, 1, 2, -(10**6)]])
def test_lists_whose_offsets_lead_astray_are_refused_by_all_that_take_them(offsets):
    bad = Jagged.from_lists([[1], [2], [3]])
    bad.offsets.copy_(torch.tensor(offsets))  # behind its back: it refuses them when it is made
    queries, index = torch.randn(3, DIM), rr.index.Exact(CANDIDATES)
    streaming = rr.index.Streaming(lambda: [(CANDIDATES, None)])
    metric = rr.metrics.FullCorpusTopK()
    for run in (
        lambda: index.search_rows(queries, 5, exclude=bad),
        lambda: index.search_rows(queries, 5, allow=bad),
        lambda: index.search(queries, 5, exclude=bad),
        lambda: streaming.search_rows(queries, 5, exclude=bad),
        lambda: rr.metrics.rank_of_positive(queries, CANDIDATES, torch.arange(3), exclude=bad),
        lambda: metric.update(queries, CANDIDATES, torch.arange(3), exclude=bad),
    ):
        with pytest.raises(rr.errors.ShapeError, match="offsets that ascend from 0 to 3"):
            run()


def test_optimised_python_checks_as_much():
    program = """
import torch, retrank as rr
candidates, queries = torch.ones(40, 3), torch.ones(3, 3)
bad = rr.Jagged.from_lists([[1], [2], [3]])
bad.offsets.copy_(torch.tensor([0, 2, 10**6, 3]))
for run in (
    lambda: rr.index.Exact(candidates).search_rows(queries, 5, exclude=bad),
    lambda: rr.metrics.rank_of_positive(queries, candidates, torch.arange(3), exclude=bad),
    lambda: rr.index.Exact(candidates).search_rows(queries, 41),
):
    try:
        run()
    except rr.errors.RetrankError:
        print("refused")
"""
    environment = {"PYTHONPATH": str(Path(rr.__file__).parents[1]), "OMP_NUM_THREADS": "1", **_home()}
    command = [sys.executable, "-O", "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert output.split() == ["refused"] * 3


def _home():
    """What a process needs to find the kernels that are built already."""
    names = ("HOME", "PATH", "XDG_CACHE_HOME", "CXX", "RETRANK_NATIVE")
    return {name: os.environ[name] for name in names if name in os.environ}
