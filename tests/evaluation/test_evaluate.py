import math

import polars as pl
import pytest
import torch
from rich.console import Console

import retrank as rr
from retrank import baselines
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.evaluation import bootstrap, evaluate


class Fixed:
    """A system with one answer."""

    def __init__(self, lists):
        self.lists = lists

    def recommend_many(self, queries, k=10, *, exclude_seen=True):
        rows = [(q, c, r + 1) for q in queries["user"] for r, c in enumerate(self.lists.get(q, [])[:k])]
        return pl.DataFrame(rows, schema={"user": pl.String, "song": pl.String, "rank": pl.Int64}, orient="row")


train = pl.DataFrame({"user": ["a", "a", "b", "c"], "song": ["x", "y", "x", "z"]})
test = pl.DataFrame({"user": ["a", "a", "b", "b", "c"], "song": ["z", "new", "x", "y", "x"]})


def test_values_by_hand():
    # a: relevant {z, new}; b: relevant {y} (x is in train); c: relevant {x}
    system = Fixed({"a": ["z", "w"], "b": ["z", "y"], "c": ["y", "w"]})
    report = evaluate({"it": system}, train, test, ks=[2])
    ideal = 1 + 1 / math.log2(3)
    assert report.num_queries == 3
    assert report.value("it", "recall@2") == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert report.value("it", "hit_rate@2") == pytest.approx(2 / 3)
    assert report.value("it", "precision@2") == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert report.value("it", "mrr@2") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert report.value("it", "ndcg@2") == pytest.approx((1 / ideal + 1 / math.log2(3) + 0) / 3)


def test_an_unknown_candidate_counts_as_missed():
    report = evaluate({"p": baselines.Popularity()}, train, test.filter(user="a"), ks=[10])
    assert report.value("p", "recall@10") == 0.5


def test_seen_candidates_can_stay():
    report = evaluate({"it": Fixed({"b": ["x"]})}, train, test.filter(user="b"), ks=[1], exclude_seen=False)
    assert report.value("it", "recall@1") == 0.5


def test_several_seeds_are_averaged_for_each_query():
    good, bad = Fixed({"a": ["z"], "b": ["y"], "c": ["x"]}), Fixed({})
    report = evaluate({"bad": bad, "both": [good, bad]}, train, test, ks=[1])
    assert report.value("both", "hit_rate@1") == 0.5
    assert report.value("both", "hit_rate@1", "num_seeds") == 2
    assert report.value("both", "hit_rate@1", "seed_std") == pytest.approx(math.sqrt(0.5))
    assert report.value("both", "hit_rate@1", "difference") == 0.5
    assert report.frame.filter(system="bad")["seed_std"].null_count() == 6


def test_reference_differs_from_itself_by_nothing():
    report = evaluate({"p": baselines.Popularity(), "e": baselines.EASE()}, train, test, reference="e")
    own = report.frame.filter(system="e")
    assert own["difference"].to_list() == [0.0] * len(own)
    assert own["p_value"].to_list() == [1.0] * len(own)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"a": ["z", "z"]}, "once per query"),
        ({"a": ["x"]}, "in train"),
    ],
)
def test_dishonest_lists_are_refused(lists, message):
    with pytest.raises(DataError, match=message):
        evaluate({"it": Fixed(lists)}, train, test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"systems": {}}, "systems|reference"),
        ({"reference": "nobody"}, "nobody"),
        ({"ks": [0]}, "at least 1"),
        ({"ks": [1.5]}, "at least 1"),
        ({"ks": 10}, r"ks=\(10, 20\)"),
        ({"ks": [5, 5]}, "without repeats"),
        ({"metrics": "ndcg"}, "metrics=.*'ndcg'|'ndcg'.*metrics="),
        ({"systems": baselines.Popularity()}, "systems by name.*Popularity"),
        ({"systems": {"p": []}}, "'p'.*none"),
        ({"systems": {"p": baselines.Popularity}}, r"'p'.*the class Popularity.*write Popularity\(\)"),
        ({"systems": {"p": [baselines.Popularity(), "ease"]}}, "'p'.*a str"),
        ({"systems": {"m": torch.nn.Linear(1, 1)}}, "'m'.*a Linear.*Recommender"),
        ({"metrics": ["ndgc"]}, "ndgc"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    call = {"systems": {"p": baselines.Popularity()}, "train": train, "test": test, **arguments}
    with pytest.raises(ConfigError, match=message):
        evaluate(**call)


def test_a_test_table_without_anything_new_is_refused():
    with pytest.raises(DataError, match="not in train"):
        evaluate({"p": baselines.Popularity()}, train, train)


def test_bootstrap_interval_covers_the_truth():
    draw = torch.Generator().manual_seed(0)
    covered = 0
    for seed in range(100):
        values = torch.rand(60, 1, generator=draw)
        result = bootstrap(values, seed=seed, num_resamples=400)
        covered += bool(result.low <= 0.5 <= result.high)
    assert 88 <= covered <= 99


def test_bootstrap_p_values_are_uniform_without_effect():
    draw = torch.Generator().manual_seed(1)
    p_values = torch.cat([bootstrap(torch.randn(80, 5, generator=draw), seed=s).p_value for s in range(60)])
    assert 0.02 < (p_values < 0.05).double().mean() < 0.1
    assert 0.4 < (p_values < 0.5).double().mean() < 0.6


def test_bootstrap_is_repeatable_and_refuses_nonsense():
    values = torch.rand(10, 2)
    assert torch.equal(bootstrap(values, seed=4).low, bootstrap(values, seed=4).low)
    with pytest.raises(ShapeError):
        bootstrap(torch.empty(0, 2))
    with pytest.raises(ConfigError):
        bootstrap(values, num_resamples=5)


def test_baselines_of_the_caller_stay_as_they_were():
    other = pl.DataFrame({"user": ["a", "b", "c"], "song": ["x", "w", "w"]})
    popular, fitted = baselines.Popularity(), baselines.Popularity().fit(other)
    first = evaluate({"p": popular, "f": fitted}, train, test, ks=[1], exclude_seen=False)
    assert not popular.is_fitted
    assert fitted.recommend_many(pl.DataFrame({"user": ["new"]}), 2)["song"].to_list() == ["w", "x"]
    again = evaluate({"p": popular}, other, pl.DataFrame({"user": ["a"], "song": ["w"]}), ks=[1])
    assert (first.value("p", "recall@1"), first.value("f", "recall@1")) == (0.5, 0.0)
    assert again.value("p", "recall@1") == 1.0


def test_seeds_may_come_from_a_generator():
    report = evaluate({"it": (Fixed(lists) for lists in ({"a": ["z"]}, {}))}, train, test, ks=[1])
    assert report.value("it", "hit_rate@1", "num_seeds") == 2


INTEGERS = [pl.Int64, pl.Int32, pl.UInt8, pl.UInt64]
TEXTS = [pl.String, pl.Categorical, pl.Enum(["1", "2", "3", "4"])]


@pytest.mark.parametrize("dtypes", [INTEGERS, TEXTS], ids=["integers", "texts"])
def test_keys_of_one_type_meet_in_any_width(dtypes):
    past = pl.DataFrame({"user": [1, 1, 2, 3], "song": [1, 2, 1, 3]}).cast(pl.String)
    future = pl.DataFrame({"user": [3, 2], "song": [1, 2]}).cast(pl.String)
    found = set()
    for kind in dtypes:
        for other in dtypes:
            report = evaluate({"p": baselines.Popularity()}, past.cast(kind), future.cast(other), ks=[1])
            found.add((report.num_queries, report.value("p", "recall@1")))
    assert found == {(2, 1.0)}


@pytest.mark.parametrize("column", ["user", "song"])
def test_keys_of_different_types_are_refused(column):
    numbers = pl.DataFrame({"user": [1, 2], "song": [1, 2]})
    new = pl.DataFrame({"user": [1], "song": [2]})
    with pytest.raises(DataError, match=f"'{column}' of test.*integer keys, as in train.*string keys"):
        evaluate({"p": baselines.Popularity()}, numbers, new.cast({column: pl.String}))
    lists = pl.DataFrame({"user": [1], "song": [2], "rank": [1]}).cast({column: pl.String})
    system = Fixed({})
    system.recommend_many = lambda *_, **__: lists
    with pytest.raises(DataError, match=f"'{column}' of lists of system 'it'.*string keys"):
        evaluate({"it": system}, numbers, new)


def test_null_keys_are_refused():
    with pytest.raises(DataError, match="'song', row 1 of test"):
        evaluate({"p": baselines.Popularity()}, train, pl.DataFrame({"user": ["a", "b"], "song": ["z", None]}))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_is_whole_at_any_width(width, tmp_path):
    systems = {"popularity": baselines.Popularity(), "[b]ease[/b]": baselines.EASE(), "nothing": Fixed({})}
    report = evaluate(systems, train, test, ks=(20, 3, 10))
    with (tmp_path / "out").open("w") as file:
        report.table(console=Console(file=file, width=width))
    shown = (tmp_path / "out").read_text()
    assert all(len(line) <= width for line in shown.splitlines())
    assert "…" not in shown
    assert shown.count("[b]ease[/b]") == shown.count("system")
    assert "@3" in shown
    assert "@20" not in shown
    assert "@10" not in shown
    for system in systems:
        for metric in (name for name in report.metrics if name.endswith("@3")):
            assert f"{report.value(system, metric):.4f}" in shown
            assert f"{report.value(system, metric, 'high'):.3f}".removeprefix("0") in shown


def test_what_is_no_number_is_not_given_as_one():
    report = evaluate({"p": baselines.Popularity()}, train, test, ks=[1])
    with pytest.raises(ConfigError, match="seed_std of 'p'.*single seed"):
        report.value("p", "ndcg@1", "seed_std")
    with pytest.raises(ConfigError, match="system of 'p'"):
        report.value("p", "ndcg@1", "system")


def test_report_shows_itself(capsys, tmp_path):
    report = rr.evaluate({"p": baselines.Popularity(), "e": baselines.EASE()}, train, test, ks=(1, 2))
    report.table()
    shown = capsys.readouterr().out
    assert "ndcg@1" in shown
    assert "ndcg@2" not in shown
    assert report.to_markdown(["recall@2"]).splitlines()[0] == "| system | recall@2 |"
    assert len(report.to_dict()["rows"]) == len(report.frame) == 24
    report.plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="recall@99"):
        report.value("p", "recall@99")
