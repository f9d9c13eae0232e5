"""Lists in a file: the rows of `recommend_many`, the same bytes however often the work was stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch

import retrank as rr
from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.recommender import bulk, recommend_to_file

ROOT = Path(__file__).parents[2]
USERS, SONGS = 50, 40
READERS = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}


def make_bundle(folder, seed=0):
    g = torch.Generator().manual_seed(0)
    songs = pl.DataFrame({"song": [f's"{row},' for row in range(SONGS)], "year": range(1980, 1980 + SONGS)})
    plays = pl.DataFrame(
        {
            "user": [100 + user for user in range(USERS) for _ in range(5)],
            "song": [f's"{row},' for row in torch.randint(SONGS, (USERS * 5,), generator=g).tolist()],
            "age": [20 + user % 7 for user in range(USERS) for _ in range(5)],
        }
    )
    kinds = {
        "user": rr.features.Categorical(),
        "age": rr.features.Bucketized([22, 24]),
        "song": rr.features.Categorical(),
    }
    space = rr.FeatureSpace(kinds).fit(plays)
    torch.manual_seed(seed)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age"], layers=[8]),
        rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(),
    )
    rr.Recommender(model, space=space, catalogue=songs, history=plays, progress=False).save(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(bulk, "_QUERIES_OF_PART", 7)


@pytest.fixture
def writes(monkeypatch):
    """Count the parts that are made; may be told to stop after so many."""

    class Writes:
        count, most = 0, 10**9

    def write(self, lists, part, of=bulk.BulkFormat):
        if Writes.count >= Writes.most:
            raise KeyboardInterrupt
        Writes.count += 1
        original(self, lists, part)

    kind = type(bulk.format_of(Path("a.parquet")))
    original = kind.write
    monkeypatch.setattr(kind, "write", write)
    return Writes


def parts_of(out):
    return sorted(out.parent.glob(f".{out.name}.parts-*/*"))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("rules", [{}, {"k": 3, "where": "year < 1990"}, {"exclude_seen": False, "k": SONGS + 9}])
def test_the_rows_are_those_of_recommend_many(bundle, tmp_path, suffix, rules):
    served = rr.Recommender.load(bundle)
    expected = served.recommend_many(served.queries.index.keys.to_list(), **rules)
    out = tmp_path / "new" / f"lists{suffix}"
    threads = torch.get_num_threads()
    done = recommend_to_file(bundle, out, **rules, workers=3)
    assert torch.get_num_threads() == threads
    assert READERS[suffix](out).cast({"score": pl.Float32}).equals(expected)
    assert (done.out, done.queries, done.resumed, done.bytes) == (out, USERS, 0, out.stat().st_size)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_queries_of_a_file_bring_their_features(bundle, tmp_path, suffix):
    served = rr.Recommender.load(bundle)
    table = pl.DataFrame({"note": ["x"] * 40, "age": [21, 23, None, 90] * 10, "user": [103, 7, 8, 130] * 10})
    table.write_parquet(tmp_path / "asked.parquet")
    table.write_csv(tmp_path / "asked.csv")
    recommend_to_file(bundle, tmp_path / "out.parquet", tmp_path / f"asked{suffix}", 4)
    expected = served.recommend_many(table, 4)
    assert pl.read_parquet(tmp_path / "out.parquet").equals(expected)
    assert "popularity" in expected["stage"]


def test_no_queries_make_a_file_without_rows(bundle, tmp_path):
    pl.DataFrame({"user": []}, schema={"user": pl.Int64}).write_parquet(tmp_path / "nobody.parquet")
    for suffix in READERS:
        done = recommend_to_file(bundle, tmp_path / f"out{suffix}", tmp_path / "nobody.parquet")
        assert done.queries == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns == ["user", "song", "rank", "score", "stage"]
    assert (tmp_path / "out.csv").read_text() == "user,song,rank,score,stage\n"
    assert (tmp_path / "out.jsonl").read_text() == ""


@pytest.mark.usefixtures("small_parts")
def test_a_stopped_call_goes_on_and_ends_in_the_same_bytes(bundle, tmp_path, writes):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    recommend_to_file(bundle, whole, workers=1)
    writes.count, writes.most = 0, 3
    with pytest.raises(KeyboardInterrupt):
        recommend_to_file(bundle, out, workers=2)
    assert len(parts_of(out)) == 3
    assert not out.exists()
    writes.count, writes.most = 0, 10**9
    done = recommend_to_file(bundle, out, workers=2)
    assert writes.count == 5  # of 8
    assert done.resumed == 21
    assert out.read_bytes() == whole.read_bytes()
    assert parts_of(out) == []


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("other", ["k", "where", "exclude_seen", "queries", "bundle"])
def test_another_call_begins_anew(bundle, tmp_path, writes, other):
    out, asked = tmp_path / "out.parquet", tmp_path / "asked.parquet"
    pl.DataFrame({"user": [101] * 49 + [102]}).write_parquet(asked)
    writes.most = 3
    with pytest.raises(KeyboardInterrupt):
        recommend_to_file(bundle, out, asked, 4, where="year > 1985")
    stopped = parts_of(out)
    arguments = {"queries": asked, "k": 4, "where": "year > 1985"}
    if other == "bundle":
        bundle = make_bundle(tmp_path / "bundle", seed=1)
    elif other == "queries":
        pl.DataFrame({"user": [101] * 48 + [102, 102]}).write_parquet(asked)
    else:
        arguments |= {"k": {"k": 5}, "where": {"where": "year > 1986"}, "exclude_seen": {"exclude_seen": False}}[other]
    writes.count, writes.most = 0, 10**9
    done = recommend_to_file(bundle, out, **arguments)
    assert (writes.count, done.resumed) == (8, 0)
    assert not any(part.exists() for part in stopped)
    rules = {name: value for name, value in arguments.items() if name != "queries"}
    expected = rr.Recommender.load(bundle).recommend_many(pl.read_parquet(asked), **rules)
    assert pl.read_parquet(out).equals(expected)


@pytest.mark.usefixtures("small_parts")
def test_a_bad_value_is_told_with_its_row_and_leaves_an_older_file(bundle, tmp_path):
    out, asked = tmp_path / "out.csv", tmp_path / "asked.parquet"
    out.write_text("older")
    pl.DataFrame({"user": [101] * 9, "age": [["a"]] * 9}).write_parquet(asked)
    with pytest.raises(DataError, match=r"'age'.* of .*asked\.parquet"):
        recommend_to_file(bundle, out, asked)
    pl.DataFrame({"user": [*range(100, 120), None]}).write_parquet(asked)
    with pytest.raises(DataError, match=r"row 6 of queries, counted from row 14 of .*asked\.parquet"):
        recommend_to_file(bundle, out, asked)
    pl.DataFrame({"person": [1]}).write_parquet(asked)
    with pytest.raises(DataError, match="user"):
        recommend_to_file(bundle, out, asked)
    assert out.read_text() == "older"


def test_what_cannot_be_written_is_refused_at_once(bundle, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"a file of \.parquet, \.csv, \.jsonl, got 'a\.txt'"):
        recommend_to_file(bundle, tmp_path / "a.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        recommend_to_file(bundle, tmp_path / "folder.csv")
    for wrong in ({"k": 0}, {"workers": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            recommend_to_file(bundle, tmp_path / "a.csv", **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        recommend_to_file(bundle, tmp_path / "file" / "a.csv")
    with pytest.raises(StorageError, match="the directory of a bundle"):
        recommend_to_file(tmp_path / "nothing", tmp_path / "a.csv")


FULL = """
import resource, sys, retrank as rr
for out in sys.argv[2:]:
    path, size = out.rsplit(":", 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), -1))  # what a full disk does
    try:
        rr.recommender.recommend_to_file(sys.argv[1], path)
    except rr.errors.StorageError as error:
        print(error)
"""


def test_a_full_disk_leaves_no_file(bundle, tmp_path):
    pytest.importorskip("resource")
    told, wholes = [], {}
    for suffix in READERS:
        whole = tmp_path / f"whole{suffix}"
        recommend_to_file(bundle, whole)
        for name in ("part", "join"):  # fails as the first part is written, or the last file from parts that are there
            out = tmp_path / "new" / f"{name}{suffix}"
            wholes[out] = whole.read_bytes()
            told.append(f"{out}:{whole.stat().st_size // 2}")
            if name == "join":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(type(bulk.format_of(out)), "join", lambda *_: 1 / 0)
                    with pytest.raises(ZeroDivisionError):
                        recommend_to_file(bundle, out)
    done = in_a_process("-c", FULL, bundle, *told)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(wholes)
    for line, out in zip(done.stdout.splitlines(), wholes, strict=True):
        assert str(out.parent) in line
        assert not out.exists()
    assert not list(out.parent.rglob(".*.draft"))
    for out, expected in wholes.items():
        recommend_to_file(bundle, out)
        assert out.read_bytes() == expected


def environment():
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}


def in_a_process(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False, capture_output=True, text=True)


KILLED = """
import sys, time
from retrank.recommender import bulk
bulk._QUERIES_OF_PART = 7
kind = type(bulk.format_of(bulk.Path("a.parquet")))
original = kind.write
def slowly(self, lists, part):
    original(self, lists, part)
    time.sleep(0.02)
kind.write = slowly
print(bulk.recommend_to_file(*sys.argv[1:4], workers=2).resumed)
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_in_the_same_bytes(bundle, tmp_path):
    asked, out = tmp_path / "asked.parquet", tmp_path / "out.parquet"
    pl.DataFrame({"user": [100 + row % 60 for row in range(7 * 60 - 3)]}).write_parquet(asked)
    arguments = [sys.executable, "-c", KILLED, str(bundle), str(out), str(asked)]
    reached = 0
    for wanted in (5, 20, 45):
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
        while len(parts_of(out)) < wanted and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert len(parts_of(out)) >= max(reached, wanted)
        reached = wanted
        assert not out.exists()
    done = in_a_process(*arguments[1:])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 45 * 7
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "_QUERIES_OF_PART", 7)
        recommend_to_file(bundle, tmp_path / "whole.parquet", asked)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
