import math

import polars as pl
import pytest
import torch

import retrank as rr
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.evaluation import baselines, bootstrap, evaluate


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


def test_a_candidate_nobody_knows_counts_as_missed():
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
        ({"a": ["z", "z"]}, "once a query"),
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
