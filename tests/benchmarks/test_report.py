import json

import pytest
from benchmarks.__main__ import keep
from benchmarks.workload import Case, Workload

from benchmarks import report

MACHINE = {"processor": "A Chip", "cores": 2, "memory_gb": 8, "system": "Linux, Python 3.11"}


def contender(role="peer", *, seconds=(1.0, 3.0, 2.0), work=1000, memory=2e9, size=None, note=""):
    return {
        "role": role,
        "size": size,
        "work": work,
        "note": note,
        "versions": {"torch": "2.0"},
        "memory_before": 1e8,
        "seconds": list(seconds),
        "of_processor": [2 * second for second in seconds],
        "peak_memory": memory,
    }


def case(contenders, goals=(), **options):
    return {
        "measured": "2026-01-31",
        "machine": MACHINE,
        "title": "A case",
        "unit": "rows",
        "note": "",
        "grows": "",
        "threads": 2,
        "contenders": contenders,
        "goals": list(goals),
        **options,
    }


def page(result):
    return report.render([{"workload": "x", "title": "A workload", "cases": {"a": result}}])


def test_the_median_counts():
    assert report.median(contender(seconds=[1.0, 100.0, 2.0])) == 2.0
    assert report.rate(contender(seconds=[1.0, 100.0, 2.0], work=10)) == 5.0


def test_a_row_says_rate_range_memory_and_ratio():
    contenders = {
        "retrank": contender("ours", seconds=[0.5]),
        "peer": contender(seconds=[1.0, 3.0, 2.0], note="blocks"),
        "limit": contender("limit", seconds=[0.25], work=1000),
    }
    text = page(case(contenders))
    assert "| retrank | 2,000 | 500 ms to 500 ms | 2.00 GB (0.10 GB) |  |" in text
    assert "| peer (blocks) | 500 | 1.00 s to 3.00 s | 2.00 GB (0.10 GB) | 4.00 times |" in text
    assert "| limit | 4,000 | 250 ms to 250 ms | 2.00 GB (0.10 GB) | 50% of the limit |" in text
    assert "2026-01-31, A Chip, 2 cores, 8 GB, Linux, Python 3.11; 2 threads, 1 or 3 repeats; torch 2.0." in text


def test_rates_of_different_amounts_of_work_compare():
    contenders = {"retrank": contender("ours", seconds=[1.0], work=100), "peer": contender(seconds=[1.0], work=10)}
    assert "10.00 times" in page(case(contenders))


def test_a_missing_peer_is_named_with_the_reason():
    missing = {"role": "peer", "size": None, "missing": "not installed: no network"}
    goal = {"contender": "retrank", "against": "peer", "rate": 2.0}
    text = page(case({"retrank": contender("ours"), "peer": missing}, [goal]))
    assert "| peer | not installed: no network | | | |" in text
    assert "| A workload: A case | at least 2 times peer | not measured |  |" in text


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"against": "peer", "rate": 4.0}, ("at least 4 times peer", "4.00 times", True)),
        ({"against": "peer", "rate": 4.1}, ("at least 4.1 times peer", "4.00 times", False)),
        ({"against": "fast peer", "rate": 1 / 1.5}, ("at most 1.5 times the time of fast peer", "2.00 times", False)),
        ({"against": "fast peer", "rate": 0.4}, ("at most 2.5 times the time of fast peer", "2.00 times", True)),
        ({"against": "limit: a", "rate": 0.7}, ("at least 70% of the limit: a", "80%", True)),
        ({"against": "peer", "memory_share": 0.5}, ("at most 50% of the memory of peer", "25%", True)),
        ({"seconds_each": 0.4e-3}, ("at most 0.40 ms each", "0.50 ms", False)),
        ({"processor_seconds_each": 2e-3}, ("at most 2.00 ms of the processor each", "1.00 ms", True)),
        ({"memory_bytes": 4e8}, ("at most 0.40 GB", "0.50 GB", False)),
    ],
)
def test_goals_are_judged(goal, expected):
    contenders = {
        "retrank": contender("ours", seconds=[0.5], memory=5e8),
        "peer": contender(seconds=[2.0]),
        "fast peer": contender(seconds=[0.25]),
        "limit: a": contender("limit", seconds=[0.4]),
    }
    assert report.judge({"contender": "retrank", **goal}, contenders) == expected


def test_the_slope_is_the_power():
    assert report.slope([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1)
    assert report.slope([1, 4, 16], [3.0, 6.0, 12.0]) == pytest.approx(0.5)


def test_growth_is_a_table_with_a_slope():
    sizes = {f"ours, {n}": contender("ours", size=n, seconds=[n * n / 1e9], work=n, memory=n * 1e6) for n in (10, 1000)}
    text = page(case(sizes, grows="rows"))
    assert "| 10 | 10.0 ns | 0.01 GB |" in text
    assert "| 1,000 | 1.00 µs | 1.00 GB |" in text
    assert "Slope 1.00" in text


def test_growth_reports_what_failed():
    sizes = {"a": contender("ours", size=10), "b": {"role": "ours", "size": 20, "missing": "failed: no memory"}}
    text = page(case(sizes, grows="rows"))
    assert "| 20 | b: failed: no memory | |" in text
    assert "Slope" not in text


def test_plots_are_drawn_where_something_grows(tmp_path):
    pytest.importorskip("matplotlib")
    sizes = {str(n): contender("ours", size=n, seconds=[float(n)]) for n in (10, 100)}
    workload = {"title": "A workload", "cases": {"a": case(sizes, grows="rows")}}
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    assert report.draw([workload], first)
    assert report.draw([workload], second)
    assert first.read_bytes() == second.read_bytes()
    assert not report.draw([{"title": "x", "cases": {"a": case({"retrank": contender()})}}], tmp_path / "c.svg")


def test_a_case_replaces_its_old_result_and_keeps_the_others(tmp_path):
    cases = [Case(name, name, "rows", []) for name in ("first", "second")]
    workload, file = Workload("toy", "Toys", cases), tmp_path / "results" / "toy.json"
    keep(file, workload, "second", {"value": 1})
    keep(file, workload, "first", {"value": 2})
    keep(file, workload, "second", {"value": 3})
    assert json.loads(file.read_text())["cases"] == {"first": {"value": 2}, "second": {"value": 3}}
    assert list(json.loads(file.read_text())["cases"]) == ["first", "second"]


def test_a_case_that_the_workload_lost_goes(tmp_path):
    file = tmp_path / "toy.json"
    keep(file, Workload("toy", "Toys", [Case("old", "old", "rows", [])]), "old", {})
    keep(file, Workload("toy", "Toys", [Case("new", "new", "rows", [])]), "new", {})
    assert list(json.loads(file.read_text())["cases"]) == ["new"]


@pytest.mark.parametrize(("value", "text"), [(1234567, "1,230,000"), (98.76, "98.8"), (0.01234, "0.0123"), (5, "5.00")])
def test_numbers_have_three_digits_that_count(value, text):
    assert report._number(value) == text
