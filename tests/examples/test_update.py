"""The example runs from end to end on invented data, and prints the table that the documentation shows."""

import dataclasses

import polars as pl
import pytest

import retrank as rr
from tests.test_examples import example, table

pytestmark = pytest.mark.usefixtures("fake_movielens_data")


@pytest.fixture
def module(monkeypatch):
    """The example, on a few users of the invented data."""
    whole = rr.datasets.movielens_100k()
    few = whole.interactions.filter(pl.col("user_id").cast(int) <= 30, pl.col("movie_id").cast(int) <= 300)
    small = dataclasses.replace(whole, interactions=few, candidates=whole.candidates[:300])
    monkeypatch.setattr(rr.datasets, "movielens_100k", lambda: small)
    return example("update")


def test_the_table_compares_what_has_learned_with_what_has_not(module, capsys):
    module.main(seeds=1)
    printed, sentence = capsys.readouterr().out.strip().split("\n\n")
    head, *rows = table(printed)
    assert head == [
        "system", "NDCG@10, slice 3", "NDCG@10, slice 4", "NDCG@10, slice 5", "NDCG@10, slices 4 and 5",
        "recall@10, slices 4 and 5", "seconds",
    ]  # fmt: skip
    assert [row[0] for row in rows] == [
        "popularity", "EASE, recent first", "stale, deaf", "stale", "updated", "retrained", "retrained from scratch",
    ]  # fmt: skip
    for row in rows:
        *slices, both, recall = (float(cell) for cell in row[1:6])
        assert both == pytest.approx(sum(slices[1:]) / 2, abs=1e-4)
        assert 0 < recall < 1
    assert [len(row[6].split(", ")) for row in rows] == [1] * 4 + [3] * 3
    assert sentence == "An update, repeated, has the same bits: yes."


def test_slices_and_halves_are_in_the_order_of_time(module):
    data = module.read()
    assert len({len(rows) for rows in data.slices}) == 1
    ends = [(rows["timestamp"].min(), rows["timestamp"].max()) for rows in data.slices]
    assert [time for pair in ends for time in pair] == sorted(time for pair in ends for time in pair)
    told, asked = data.told_and_asked(2)
    latest, first = (
        rows.group_by("user_id").agg(moment)
        for rows, moment in ((told, pl.max("timestamp")), (asked, pl.min("timestamp")))
    )
    assert (
        (latest.join(first, on="user_id", suffix="_asked").select(pl.col("timestamp") <= pl.col("timestamp_asked")))
        .to_series()
        .all()
    )
    assert 0 <= len(told) - len(asked) <= told["user_id"].n_unique()
    assert len(told) + len(asked) == len(data.slices[2])


def test_every_step_knows_the_same_events_and_all_but_one_learn(module):
    data = module.read()
    first = module.trained(data, data.slices[0], 0, epochs=1)
    for name, step in module.STEPS.items():
        after = step(data, 1, 0, first)
        assert len(after.history.events) == len(data.before(2)), name
        assert (after.space.vocabulary("movie_id").counts.sum() > len(data.slices[0])) == (name != "stale"), name


def test_who_is_deaf_repeats_nothing_and_learns_nothing(module):
    data = module.read()
    first = module.trained(data, data.slices[0], 0, epochs=1)
    users, nothing = first.queries.stored_table.select("user_id").head(5), data.slices[1].clear()
    assert (
        module.Deaf(first, nothing).recommend_many(users, 7, exclude_seen=True).equals(first.recommend_many(users, 7))
    )
    since = first.recommend_many(users, 3)
    lists = module.Deaf(first, since).recommend_many(users, 4, exclude_seen=True)
    expected = first.recommend_many(users, 7).filter(pl.col("rank") > 3)
    assert lists["movie_id"].to_list() == expected["movie_id"].to_list()


def test_means_and_spreads_are_printed(module, capsys):
    run = [{"ndcg": 0.1, "recall": 0.2}, {"ndcg": 0.2, "recall": 0.2}, {"ndcg": 0.4, "recall": 0.2}]
    other = [{metric: value + 0.2 for metric, value in quality.items()} for quality in run]
    module.print_row("one", [run])
    module.print_row("two", [run, other], [1.26, 2])
    assert capsys.readouterr().out.splitlines() == [
        "| one | 0.1000 | 0.2000 | 0.4000 | 0.3000 | 0.2000 |  |",
        "| two | 0.2000 | 0.3000 | 0.5000 | 0.4000 ± 0.1000 | 0.3000 ± 0.1000 | 1.3, 2.0 |",
    ]
