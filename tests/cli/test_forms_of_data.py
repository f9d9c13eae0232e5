"""Data of other forms than the quickstart's: no times, other splits, a test file, nothing known of candidates."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.command_line import retrank

import retrank as rr
from retrank.cli.config import RunConfig, load_config
from retrank.cli.histories import Histories
from retrank.cli.pipeline import Pipeline
from retrank.cli.splitting import described, split_off
from retrank.core.errors import ConfigError, DataError

PAIRS = """
[data]
interactions = "plays.parquet"
query = "person"
candidate = "song"
history = 5
[features.person]
kind = "Categorical"
[features.song]
kind = "Categorical"
[features.history]
kind = "History"
of = "song"
decay = 0.1
[retrieval]
query = ["person"]
query_residual = "history"
candidate = ["song"]
candidate_residual = "song"
layers = [4]
dim = 4
epochs = 1
batch_size = 64
[ranking]
features = ["song"]
history = "history"
retrieved = 12
batch_size = 16
"""
TIMED = PAIRS.replace('candidate = "song"\n', 'candidate = "song"\ntime = "timestamp"\n', 1)


def plays(num_people=16, num_plays=8):
    draw = np.random.default_rng(0)
    songs = np.concatenate([draw.permutation(20)[:num_plays] for _ in range(num_people)])
    return pl.DataFrame(
        {
            "person": np.repeat(np.arange(num_people), num_plays),
            "song": [f"s{song:02}" for song in songs],
            "timestamp": draw.permutation(num_people * num_plays),
        }
    )


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plays().write_parquet("plays.parquet")
    return tmp_path


def configured(text):
    Path("run.toml").write_text(text)
    return load_config("run.toml")


def pipeline_of(text, **options):
    return Pipeline(configured(text), **options)


def pairs_of(table):
    return set(table.select("person", "song").rows())


def test_pairs_are_all_that_is_needed(world):
    configured(PAIRS)
    result = retrank("train", "run.toml", "--out", "out", "--json")
    assert result.returncode == 0, result.stderr
    assert "20% of each query at random (16)" in " ".join(result.stderr.split())
    assert "EASE, recent first is left out of the comparison: the history has no times" in " ".join(
        result.stderr.split()
    )
    report = json.loads(result.stdout)["report"]
    systems = {row["system"] for row in report["rows"]}
    assert systems == {"popularity", "item-kNN", "EASE", "two-tower", "two-stage"}
    recommender = rr.Recommender.load("out")
    assert recommender.candidates.columns == ["song"]
    assert len(recommender.candidates) == 20  # those of the test part, too
    assert recommender.history.events.time is None  # whatever other columns the table has
    assert "20% of each query at random (seed 0)" in recommender.card.split
    first = recommender.recommend(3, k=12)
    assert set(first["stage"]) == {"ranking"}
    seen = recommender.history.events.table().filter(pl.col("person") == 3)["song"].to_list()
    others = [song for song in recommender.candidates["song"] if song not in seen]
    told = recommender.with_events(pl.DataFrame({"person": [3], "song": [others[0]]})).recommend(3, k=11)
    assert others[0] not in told["song"].to_list()  # and what is seen is read from the history
    known = first.filter(pl.col("song") != others[0]).sort("song")["score"]
    assert known.to_list() != told.sort("song")["score"].to_list()
    assert retrank("update", "out", "--interactions", "plays.parquet", "--out", "next", "--json").returncode == 0


def test_train_and_evaluate_compare_with_the_same(world):
    configured(TIMED + '[split]\nby = "random"\n')
    trained = json.loads(retrank("train", "run.toml", "--out", "out", "--json").stdout)
    _, test = split_off(plays(), load_config("run.toml"), 0.2)
    test.write_parquet("test.parquet")
    evaluated = json.loads(retrank("evaluate", "out", "--test", "test.parquet", "-k", 10, "--json").stdout)
    means = [{(row["system"], row["metric"]): row["mean"] for row in r["rows"]} for r in (trained["report"], evaluated)]
    for name in ("popularity", "item-kNN", "EASE"):
        assert means[0][name, "ndcg@10"] == pytest.approx(means[1][name, "ndcg@10"], rel=1e-12)
    assert means[0]["two-stage", "ndcg@10"] == pytest.approx(means[1]["bundle", "ndcg@10"], rel=1e-12)
    assert ("EASE, recent first", "ndcg@10") not in {**means[0], **means[1]}


@pytest.mark.parametrize("by", ["query", "time", "random"])
def test_the_test_part_is_what_the_file_says(world, by):
    said = []
    tables = pipeline_of(f'{TIMED}[split]\nby = "{by}"\n', say=said.append).load()
    train, test = tables.train, tables.test
    assert len(train) + len(test) == 128
    assert pairs_of(train) | pairs_of(test) == pairs_of(plays())
    if by == "query":
        assert set(test.group_by("person").len()["len"]) == {1}
        last = plays().sort("timestamp").group_by("person").last()
        assert pairs_of(test) == pairs_of(last)
        assert "the last 20% of each query (16)" in said[0]
    elif by == "time":
        assert train["timestamp"].max() < test["timestamp"].min()
        assert "the last 20% of all (26)" in said[0]
    else:
        assert len(test) == 26
        assert train["timestamp"].max() > test["timestamp"].min()
        assert "20% at random (26)" in said[0]
        assert type(tables.catalogue).__name__ == "Catalogue"
    assert isinstance(pipeline_of(PAIRS).space.features["history"], rr.features.Seen)
    kind = rr.features.Seen if by == "random" else rr.features.Recent
    assert isinstance(pipeline_of(f'{TIMED}[split]\nby = "{by}"\n').space.features["history"], kind)


def test_what_is_drawn_depends_on_the_seed_of_the_split_alone(world):
    def test_part(text):
        return pairs_of(pipeline_of(text).load().test)

    for by in ("query", "random"):
        split = f'[split]\nby = "{by}"\n'
        own = test_part(PAIRS + split)
        assert own == test_part("seed = 7\n" + PAIRS + split)
        assert own != test_part(PAIRS + split + "seed = 1\n")


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=30)


@given(rows=ROWS, is_later=st.lists(st.booleans(), min_size=30, max_size=30))
def test_what_ranking_learns_from_tells_retrieval_nothing(rows, is_later):
    table = pl.DataFrame(rows, schema=["person", "song"], orient="row")
    config = RunConfig.model_validate(
        {
            "data": {"dataset": "movielens_100k", "query": "person", "candidate": "song", "history": 3},
            "features": {"song": {"kind": "Categorical"}, "seen": {"kind": "Seen", "of": "song"}},
            "retrieval": {"query": ["person"], "candidate": ["song"]},
        }
    )
    kinds = {"song": rr.features.Categorical(), "seen": rr.features.Seen("song")}
    histories = Histories(config, rr.FeatureSpace(kinds), table.columns)
    whole = histories.of(table)
    later = pl.Series(is_later[: len(table)])
    parts = histories.apart(whole.filter(~later), whole.filter(later))
    had = {
        person: {s for (p, s), late in zip(rows, later, strict=True) if p == person and not late} for person, _ in rows
    }
    for part, wanted in zip(parts, (~later, later), strict=True):
        assert part.select("person", "song").rows() == table.filter(wanted).rows()
        for person, song, seen in part.select("person", "song", "seen").iter_rows():
            others = had[person] - {song}
            assert set(seen) <= others
            assert len(seen) == len(set(seen))
            assert len(seen) == (len(others) if part is parts[1] else min(len(others), 3))


def test_times_that_tell_what_came_last_stay_as_they_are(world):
    pipeline = pipeline_of(TIMED)
    tables = pipeline.load()
    earlier, later = split_off(tables.train, pipeline.config, 0.5)
    for part, same in zip((earlier, later), tables.histories.apart(earlier, later), strict=True):
        assert part.equals(same)
    longest = rr.data.with_recent_candidates(
        plays(), query="person", candidate="song", time="timestamp", length=5, name="history"
    )
    assert tables.train.sort("timestamp").equals(
        longest.sort("timestamp").join(tables.train, on="timestamp", how="semi")
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_test_file_is_the_test_part(world, ending):
    late = pl.DataFrame({"person": [1, 1, 77], "song": ["s00", "new", "s01"], "stars": [1, 2, 3]})
    getattr(late, f"write_{ending}")(f"late.{ending}")
    text = PAIRS.replace("history = 5", f'history = 5\ntest = "late.{ending}"')
    said = []
    pipeline = pipeline_of(text, say=said.append)
    tables = pipeline.load()
    assert tables.test.rows() == [(1, "s00"), (1, "new"), (77, "s01")]
    assert len(tables.train) == 128
    assert f"late.{ending} (3)" in said[0]
    assert tables.candidates["song"].to_list()[-1] == "new"
    pl.DataFrame({"song": sorted({*plays()["song"], "new"})}).write_parquet("songs.parquet")
    with_songs = text.replace("history = 5", 'history = 5\ncandidates = "songs.parquet"')
    assert pipeline_of(with_songs).load().test.equals(tables.test)
    pl.DataFrame({"song": sorted(set(plays()["song"]))}).write_parquet("songs.parquet")
    with pytest.raises(DataError, match=rf"'song', row 1 of .*late\.{ending}: .*songs.parquet has, got 'new'"):
        pipeline_of(with_songs).load()
    with pytest.raises(ConfigError, match=r"either data\.test, a file, or split\.test"):
        pipeline_of(text + "[split]\ntest = 0.2\n")
    assert retrank("train", "run.toml").returncode == 2
    pipeline_of(text)
    result = retrank("train", "run.toml", "--out", "out", "--json")
    assert result.returncode == 0, result.stderr
    card = rr.Recommender.load("out").card
    assert card.split == f"The interactions in late.{ending} are the test part."
    assert str(world) not in card.to_markdown()
    others = digest_of(pipeline)
    late.with_columns(song=pl.lit("s03")).write_parquet("late.parquet")
    assert (digest_of(pipeline) != others) == (ending == "parquet")


def digest_of(pipeline):
    return pipeline.load().digest


@pytest.mark.parametrize(
    ("late", "message"),
    [
        ({"person": [1], "title": ["x"]}, r"late.parquet: expected a column 'song'"),
        ({"person": ["1"], "song": ["s01"]}, r"keys of type Int64"),
        ({"person": [None, 1], "song": ["s01", "s02"]}, r"'person', row 0"),
        ({"person": [], "song": []}, r"late.parquet: expected at least one row"),
    ],
)
def test_test_files_that_are_not_right_are_refused(world, late, message):
    pl.DataFrame(late).write_parquet("late.parquet")
    with pytest.raises(DataError, match=message):
        pipeline_of(PAIRS.replace("history = 5", 'history = 5\ntest = "late.parquet"')).load()


def test_a_test_file_that_repeats_train_is_refused(world):
    plays()[:3].write_parquet("late.parquet")
    with pytest.raises(DataError, match=r"late.parquet: expected test interactions that are not in train"):
        pipeline_of(PAIRS.replace("history = 5", 'history = 5\ntest = "late.parquet"')).load()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"History"', '"Recent"', r'features\.history\.kind: expected "Seen", as \[data\] has no time, got "Recent"'),
        ("[data]", 'serve = "ease-recent"\n[data]', r"serve: expected something else, as \[data\] has no time"),
        ("[data]", '[split]\nby = "time"\n[data]', r'split\.by = "time" without data\.time'),
        ("history = 5\n", "", r"\[data\]: expected a column 'history'.*history = 50"),
        ("history = 5", "history = 5\nrecent = 5", r"data\.recent"),
        ('candidate = ["song"]', 'candidate = ["song", "genre"]', r"'genre'"),
        ('kind = "History"', 'kind = "History"\nlengthy = 3', r"features\.history: expected arguments of History"),
        ('kind = "History"\nof = "song"\ndecay = 0.1', 'kind = "History"\nof = "song"\ndecay = "a"', r"decay"),
        ('kind = "History"\nof = "song"\ndecay = 0.1', 'kind = "Histories"', r"features\.history\.kind"),
    ],
)
def test_configurations_that_ask_for_what_is_not_there_name_the_entry(world, old, new, message):
    assert old in PAIRS
    with pytest.raises(ConfigError, match=message):
        pipeline_of(PAIRS.replace(old, new, 1)).load()


def test_recent_asked_of_a_random_split_is_refused(world):
    text = TIMED.replace('"History"', '"Recent"') + '[split]\nby = "random"\n'
    with pytest.raises(ConfigError, match=r'features\.history\.kind: expected "Seen", as \[split\] is at random'):
        pipeline_of(text).load()


def test_two_kinds_of_histories_have_two_columns(world):
    both = TIMED + '[features.taste]\nkind = "Seen"\nof = "song"\n'
    assert {"history", "taste"} <= {*pipeline_of(both).load().train.columns}
    with pytest.raises(ConfigError, match="two of 'history'"):
        pipeline_of(both + 'column = "history"\n').load()


def test_features_of_candidates_need_their_table(world):
    text = PAIRS.replace('["song"]\ncandidate_residual', '["song", "person"]\ncandidate_residual')
    with pytest.raises(DataError, match=r"no data\.candidates: expected a column 'person'"):
        pipeline_of(text).load()


def test_what_a_query_likes_is_kept_out_of_its_negatives(world):
    text = PAIRS.replace("layers = [4]", 'layers = [4]\nremove_known_positives = "history"')
    tables = (pipeline := pipeline_of(text)).load()
    pipeline.train(tables, seed=0).save("out")
    kept = rr.Recommender.load("out").retrieval.negatives
    assert kept == rr.models.InBatchNegatives(remove_known_positives="history")
    assert retrank("update", "out", "--interactions", "plays.parquet", "--out", "next", "--json").returncode == 0
    pipeline_of(text.replace('positives = "history"', "positives = true")).load()
    for wrong in ("song", "taste"):
        expected = rf"retrieval\.remove_known_positives: expected true, false or one of \['history'\].*'{wrong}'"
        with pytest.raises(ConfigError, match=expected):
            pipeline_of(text.replace('positives = "history"', f'positives = "{wrong}"'))
    with pytest.raises(ConfigError, match="one of \\[\\]"):
        pipeline_of(text.replace('query_residual = "history"\n', ""))
    with pytest.raises(ConfigError, match=r"retrieval\.remove_known_positives"):
        pipeline_of(text.replace('positives = "history"', "positives = 3"))


def test_earlier_names_of_entries_mean_what_they_did(world):
    own = configured(TIMED)
    earlier = configured(
        TIMED.replace("history = 5", "recent = 5").replace('history = "history"', 'recent = "history"')
    )
    assert earlier == own
    assert earlier.fingerprint == own.fingerprint
    others = [TIMED + f"[split]\n{entry}\n" for entry in ('by = "time"', 'by = "random"', "seed = 1", "test = 0.3")]
    assert len({own.fingerprint, *(configured(text).fingerprint for text in others)}) == 5


def test_how_a_part_is_split_off_is_told(world):
    told = {described(configured(text), 0.15) for text in (PAIRS, TIMED)}
    told |= {described(configured(f'{TIMED}[split]\nby = "{by}"\n'), 0.15) for by in ("time", "random")}
    assert told == {
        "15% of each query at random", "the last 15% of each query", "the last 15% of all", "15% at random"
    }  # fmt: skip


def test_the_short_file_of_the_guide_is_a_whole_run(world):
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    short = guide.split("```toml\n")[1].split("```")[0]
    plays().rename({"person": "user"}).drop("timestamp").write_parquet("plays.parquet")
    pipeline = pipeline_of(short)
    tables = pipeline.load()
    assert len(pipeline.train(tables, seed=0).recommend(3, k=5)) == 5
