import pytest
from benchmarks.rotation import Worker, WorkerError, interleaved, measure

from tests.benchmarks import toy

MODULE = "tests.benchmarks.toy"
NAPS, COLD = toy.WORKLOAD.cases


class Fake:
    def __init__(self, name, calls, dies_at=None):
        self.name, self.calls, self.dies_at, self.number = name, calls, dies_at, 0

    def run(self):
        self.number += 1
        self.calls.append(self.name)
        if self.number == self.dies_at:
            raise WorkerError("gone")
        return float(self.number)


def test_contenders_take_turns():
    calls = []
    seconds, failures = interleaved({name: Fake(name, calls) for name in "abc"}, repeats=3)
    assert "".join(calls) == "abcabcabc"
    assert seconds == {name: [1.0, 2.0, 3.0] for name in "abc"}
    assert not failures


def test_a_contender_that_dies_leaves_the_rotation_and_the_results():
    calls = []
    workers = {"a": Fake("a", calls), "b": Fake("b", calls, dies_at=2), "c": Fake("c", calls)}
    seconds, failures = interleaved(workers, repeats=3)
    assert "".join(calls) == "abcabcac"
    assert seconds.keys() == {"a", "c"}
    assert failures == {"b": "gone"}


@pytest.fixture(scope="module")
def measured():
    return measure(MODULE, NAPS, repeats=3, threads=1, peers={"tfrs": "not installed: no network"})


def test_every_contender_is_reported_in_order(measured):
    assert list(measured["contenders"]) == [contender.name for contender in NAPS.contenders]


def test_seconds_are_those_of_the_repeats(measured):
    short, long = measured["contenders"]["short"], measured["contenders"]["long"]
    assert len(short["seconds"]) == len(long["seconds"]) == 3
    assert min(short["seconds"]) >= 0.01
    assert min(long["seconds"]) >= 0.03
    assert (short["work"], short["note"], list(short["versions"])) == (10, "sleeps", ["json"])


def test_time_of_the_processor_is_not_that_of_waiting(measured):
    long = measured["contenders"]["long"]
    assert len(long["of_processor"]) == 3
    assert all(used < waited for used, waited in zip(long["of_processor"], long["seconds"], strict=True))


def test_what_a_library_prints_does_not_disturb(measured):
    assert "missing" not in measured["contenders"]["noisy"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dies early", "failed: exit status 1: ValueError: no data"),
        ("dies late", "failed: exit status 1: RuntimeError: gave up"),
        ("elsewhere", "not installed: no network"),
        ("too large", "not run: too large"),
    ],
)
def test_missing_contenders_have_a_reason(measured, name, reason):
    contender = measured["contenders"][name]
    assert contender["missing"] == reason
    assert "seconds" not in contender


def test_memory_is_that_of_the_contenders_own_data(measured):
    hoarder, short = measured["contenders"]["hoarder"], measured["contenders"]["short"]
    assert hoarder["peak_memory"] - hoarder["memory_before"] > 90_000_000
    assert short["peak_memory"] < 90_000_000  # whatever the process that started it holds


def test_without_warm_up_the_first_repeat_counts():
    [contender] = COLD.contenders
    with Worker(MODULE, COLD, contender, threads=1) as worker:
        worker.prepare()
        assert worker.run() < 5
        assert worker.stop() > 0


def test_goals_travel_without_what_they_do_not_say(measured):
    assert measured["goals"] == [{"contender": "short", "against": "long", "rate": 2.0}]
