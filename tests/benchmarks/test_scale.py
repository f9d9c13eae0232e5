"""The contenders of the workload `scale` at a small size, and what they are compared with."""

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks.workload import repeated
from benchmarks.workloads import scale

import retrank as rr


class Once(Exception):
    """Ends a job after its first repeat."""


def run_once(job):
    def tick():
        raise Once

    with pytest.raises(Once):
        job.loop(tick)


@pytest.fixture
def small(monkeypatch, tmp_path):
    sizes = {"EVENTS": 2000, "QUERIES": 100, "CANDIDATES": 60, "ASKED": 20, "BATCH": 32, "DRAWN": 8, "STEPS": 3}
    more = {"FILMS": 50, "FILM_BATCH": 16, "FILM_STEPS": 2, "EASE_QUERIES": 100, "EASE_CANDIDATES": 40}
    paths = {"TRAIN": tmp_path / "train.parquet", "TEST": tmp_path / "test.parquet"}
    for name, value in {**sizes, **more, **paths, "EASE_EVENTS": 900, "LONGEST_LIST": 10}.items():
        monkeypatch.setattr(scale, name, value)
    threads = torch.get_num_threads()
    yield scale
    torch.set_num_threads(threads)


def test_the_last_event_of_some_queries_is_tested_on(small):
    small.save_events()
    train, test = pl.read_parquet(small.TRAIN), pl.read_parquet(small.TEST)
    assert (len(train), len(test)) == (1980, 20)
    assert test["query_id"].n_unique() == 20
    later = test.join(train, on="query_id").filter(pl.col("timestamp_right") > pl.col("timestamp"))
    assert later.is_empty()


def test_every_contender_does_a_repeat(small):
    small.save_events()
    for make in (small.popularity, small.item_knn, small.two_tower):
        run_once(small.evaluation(make))
    for make in (
        small.drawn_by_popularity,
        small.drawn_uniformly,
        small.drawn_by_both,
        small.kept_of_earlier_batches,
    ):
        run_once(small.sampled(make))
    run_once(small.films("catalogue"))
    run_once(small.films("in_batch"))
    run_once(small.synthetic())
    run_once(small.product_and_best())
    job = small.ease()
    assert float(job.note.removeprefix("scores within ").removesuffix(" of float64")) < 1e-5


def test_scores_that_are_not_those_of_the_solution_are_found_out(small):
    plays = rr.datasets.synthetic(100, 40, 900, seed=0).interactions.select("query_id", "candidate_id")
    right, wrong = (rr.baselines.EASE(l2).fit(plays, progress=False) for l2 in (scale.EASE_L2, 2 * scale.EASE_L2))
    assert scale.distance_from_solution(right, plays) < 1e-5
    assert scale.distance_from_solution(wrong, plays) > 1e-3


def test_conjugate_gradients_solve():
    rng = np.random.default_rng(0)
    factor = torch.from_numpy(rng.standard_normal((20, 20)))
    matrix, wanted = factor @ factor.T + torch.eye(20), torch.from_numpy(rng.standard_normal((20, 3)))
    found = scale.conjugate_gradients(lambda part: matrix @ part, wanted)
    assert torch.allclose(found, torch.linalg.solve(matrix, wanted), atol=1e-9)


def test_a_repeat_of_the_limit_does_as_many_steps_as_it_says(monkeypatch):
    calls = []
    monkeypatch.setattr("benchmarks.limits.softmax_blocks", lambda *_: calls.append("softmax"))
    monkeypatch.setattr("benchmarks.limits.products", lambda *_: repeated(lambda: calls.append("layers"), 1))
    monkeypatch.setattr(
        "benchmarks.limits.best_of", lambda ways, _: repeated(next(iter(ways.values())), 1, next(iter(ways)))
    )
    job = scale.products_with(10, 4, 2, 3, dense_rows=10)
    run_once(job)
    assert calls == ["layers", "softmax"] * 3
    assert job.work == 3
