"""The example runs from end to end on invented data, and prints the tables that the documentation shows."""

from dataclasses import replace

import pytest

import retrank as rr
from tests.test_examples import example, table

pytestmark = [
    pytest.mark.usefixtures("fake_movielens_data"),
    pytest.mark.filterwarnings("ignore:.*count as misses"),
]


def test_both_tables_are_printed_for_both_splits(capsys, monkeypatch):
    module = example("context_features")
    whole, split = rr.datasets.movielens_100k(), module.splits
    movies = whole.candidates[:400]
    small = replace(
        whole, candidates=movies, interactions=whole.interactions.join(movies, on="movie_id", how="semi")[:3000]
    )
    monkeypatch.setattr(module, "splits", lambda _: split(small, num_test=200))
    module.main(seeds=1, epochs=1, settings=["tutorial"])
    given_away, measured = (table(part.strip()) for part in capsys.readouterr().out.split("\n\n"))
    head, random, time = given_away
    assert head == ["split", "test rows", "of users in training", "within an hour of one", "in the second of one"]
    assert (random[:2], time[0]) == (["random", "200"], "time")
    for row in (random, time):
        known, hour, second = (float(cell.rstrip("%")) for cell in row[2:])
        assert known >= hour >= second
    head, *rows = measured
    assert head == ["split", "system", "timestamp", "top-100, seen kept", "top-100, seen excluded"]
    systems = [["popularity", ""], ["EASE, l2 600", ""], ["tutorial", "not used"], ["tutorial", "used"]]
    assert [row[:3] for row in rows] == [[split, *system] for split in ("random", "time") for system in systems]
    for row in rows:
        kept, excluded = (float(cell.split(" ± ")[0]) for cell in row[3:])
        assert 0 < kept <= excluded < 1


def test_a_moment_is_told_to_the_model_only_where_asked():
    module = example("context_features")
    split = module.splits(rr.datasets.movielens_100k())[0]
    split.train = split.train[:2000]
    for setting, bucket in (("tutorial", "even_bucket"), ("recommended", "full_bucket")):
        models = [module.SETTINGS[setting](split, 0, time=time, epochs=1) for time in (False, True)]
        assert set(models[1].features) - set(models[0].features) == {"time", bucket}


def test_what_time_gives_away_is_counted_by_hand(capsys):
    module = example("context_features")
    trained = [("a", 0), ("a", 10_000), ("b", 5_000)]
    tested = [("a", 10_000), ("a", 3_600), ("a", 3_601 + 2_000), ("c", 0)]  # same second, an hour, further, a stranger
    frames = [module.pl.DataFrame(rows, schema=["user_id", "timestamp"], orient="row") for rows in (trained, tested)]
    module.print_what_time_gives_away(module.Split("by hand", *frames, space=None, movies=None))
    assert capsys.readouterr().out == "| by hand | 4 | 75.0% | 50.0% | 25.0% |\n"
