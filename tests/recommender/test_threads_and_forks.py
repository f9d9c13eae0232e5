"""Threads get what one gets, and so do workers that are forked after the recommender was used."""

import os
import signal
import sys
import threading
import time
import warnings

import polars as pl
import pytest
import torch

import retrank as rr

plays = pl.DataFrame({"user": [f"u{i % 37}" for i in range(600)], "song": [f"s{(i * 7) % 61}" for i in range(600)]})
songs = pl.DataFrame({"song": [f"s{i}" for i in range(61)], "year": range(61)})
USERS = [f"u{i}" for i in range(37)]


class Ranker(rr.Model):
    """A model as `fit` leaves it: in training mode, with dropout."""

    features = ("song", "retrieval_score")

    def __init__(self):
        super().__init__()
        self.table, self.drop, self.last = torch.nn.Embedding(100, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1)

    def forward(self, pairs):
        return self.last(self.drop(self.table(pairs["song"])))[:, 0]

    def compute_loss(self, batch, training=False):
        return self(batch).sum()


@pytest.fixture(scope="module", params=["models", "a baseline"])
def recommender(request):
    if request.param == "a baseline":
        return rr.Recommender(rr.baselines.EASE().fit(plays), catalogue=songs, history=plays)
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"], layers=[16, 8], dim=8),
        rr.models.Tower(space, ["song"], layers=[16, 8], dim=8),
        rr.tasks.Retrieval(),
    )
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays, ranking=Ranker().train())


def ask(recommender, number):
    user, kind = USERS[number % 37], number % 4
    if kind == 0:
        return recommender.recommend({"user": user}, k=5)
    if kind == 1:
        return recommender.recommend({"user": user}, k=5, where=pl.col("year") > number % 30, deny=["s1"])
    if kind == 2:
        return recommender.recommend({"user": f"stranger {number}"}, k=5)
    return recommender.recommend_many(pl.DataFrame({"user": [user, "nobody"]}), k=5)


def race(recommender, num_threads, num_requests):
    expected = [ask(recommender, number) for number in range(num_requests)]
    wrong, left, lock = [], iter(range(num_requests)), threading.Lock()

    def work():
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            if not ask(recommender, number).equals(expected[number]):
                wrong.append(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return wrong


def test_threads_get_what_one_gets(recommender):
    assert race(recommender, num_threads=16, num_requests=150) == []


@pytest.mark.slow
def test_threads_get_what_one_gets_16_000_times(recommender):
    assert race(recommender, num_threads=16, num_requests=16_000) == []


def test_changes_beside_requests_reach_nobody_else(recommender):
    expected = ask(recommender, 0)
    made, wrong = [], []

    def change():
        for number in range(20):
            other = recommender.with_events(pl.DataFrame({"user": [USERS[0]], "song": [f"s{number}"]}))
            made.append(other.recommend({"user": USERS[0]}, k=60)["song"].to_list())

    def work():
        wrong.extend(1 for _ in range(40) if not ask(recommender, 0).equals(expected))

    threads = [threading.Thread(target=target) for target in (change, work, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [f"s{number}" in found for number, found in enumerate(made)] == [False] * 20


def is_told(recommender, number):
    try:
        ask(recommender, number)
    except rr.errors.ConfigError as error:
        return "after the fork" in str(error)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_workers_forked_after_use_answer(recommender):
    expected = [ask(recommender, number) for number in (0, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python itself warns of a fork beside threads
        child = os.fork()
    if child == 0:
        answers = [ask(recommender, number).equals(right) for number, right in zip((0, 2), expected, strict=True)]
        os._exit(0 if all([*answers, is_told(recommender, 1), is_told(recommender, 3)]) else 1)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the forked worker hung")
