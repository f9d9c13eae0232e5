import zipfile
from pathlib import Path

import polars as pl
import pytest

import retrank as rr
from retrank.datasets import download

INTERACTION = ["user_id", "movie_id", "rating", "timestamp"]
USER = ["user_id", "age", "gender", "occupation", "zip_code"]
MOVIE = ["movie_id", "movie_title", "title", "year", "genres"]

# u.item's 19 flags: unknown, Action, Adventure, Animation, Children's, Comedy, Crime, Documentary, Drama, Fantasy,
# Film-Noir, Horror, Musical, Mystery, Romance, Sci-Fi, Thriller, War, Western
GROUPLENS_100K = {
    "u.data": "2\t89\t3\t881250949\n1\t1\t5\t874965758\n"
    "2\t1\t1\t881250949\n1\t267\t4\t1\n1\t1412\t2\t7\n2\t543\t2\t8\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
    "u.item": "1|Toy Story (1995)|01-Jan-1995||http://us|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "89|Blade Runner (1982)  |01-Jan-1982||http://us|0|0|0|0|0|0|0|0|0|0|1|0|0|0|0|1|0|0|0\n"
    "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "543|Misérables, Les (1995)|01-Jan-1995||http://us|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
    '1412|Land "III": Giving (1995) (V)|01-Jan-1995||http://us|0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n',
}
RECBOLE_100K = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "2\t89\t3\t881250949\n1\t1\t5\t874965758\n2\t1\t1\t881250949\n1\t267\t4\t1\n1\t1412\t2\t7\n2\t543\t2\t8\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's Comedy\n89\tBlade Runner\t1982\tFilm-Noir Sci-Fi\n"
    "267\tunkonwn\tunkonwn\tunknown\n543\tMisérables, Les\t1995\tDrama Musical\n"
    '1412\tLand "III": Giving (1995)\tV\tAnimation Children\'s\n',
}
GROUPLENS_1M = {
    "ratings.dat": "2::1::5::978300760\n1::6::3::978302109\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n6::Misérables: 2, Les (1995)::Drama\n",
}
GROUPLENS_20M = {
    "ratings.csv": "userId,movieId,rating,timestamp\n7,1,3.5,1112486027\n5,6,4.0,1112484676\n7,6,0.5,1\n",
    "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
    '6,"Series ""X"", The (1975-1979)",(no genres listed)\n',
}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="latin-1" if name in ("u.item", "movies.dat") else "utf-8")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data, no cache, no network."""

    def offline(source, folder):
        raise rr.errors.DownloadError("a network", "none", source, "go online")

    monkeypatch.delenv("RETRANK_DATA", raising=False)
    monkeypatch.setenv("RETRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "fetch_url", offline)
    monkeypatch.setattr(download, "fetch_wheel", offline)


def same(one, other):
    return all(getattr(one, t).equals(getattr(other, t)) for t in ("interactions", "queries", "candidates"))


@pytest.mark.parametrize("files", [GROUPLENS_100K, RECBOLE_100K], ids=["grouplens", "recbole"])
def test_tables_of_100k(files, tmp_path):
    write(tmp_path / "ml-100k", files)
    movielens = rr.datasets.movielens_100k(tmp_path)
    assert movielens.name == "ml-100k"
    assert movielens.interactions.columns == INTERACTION + USER[1:] + MOVIE[1:]
    assert movielens.interactions.schema["rating"] == pl.Float32
    assert movielens.interactions.schema["timestamp"] == movielens.interactions.schema["age"] == pl.Int64
    assert movielens.interactions.row(0) == (
        *("2", "89", 3.0, 881250949, 53, "F", "other", "T8H1N"),
        *("Blade Runner (1982)", "Blade Runner", 1982, ["Film-Noir", "Sci-Fi"]),
    )
    assert movielens.interactions["movie_id"].to_list() == ["89", "1", "1", "267", "1412", "543"]
    assert movielens.queries.rows() == [("1", 24, "M", "technician", "85711"), ("2", 53, "F", "other", "T8H1N")]
    assert movielens.queries.columns == USER
    assert movielens.candidates.columns == MOVIE
    assert movielens.candidates.rows() == [
        ("1", "Toy Story (1995)", "Toy Story", 1995, ["Animation", "Children's", "Comedy"]),
        ("89", "Blade Runner (1982)", "Blade Runner", 1982, ["Film-Noir", "Sci-Fi"]),
        ("267", "unknown", "unknown", None, ["unknown"]),
        ("543", "Misérables, Les (1995)", "Misérables, Les", 1995, ["Drama", "Musical"]),
        ("1412", 'Land "III": Giving (1995) (V)', 'Land "III": Giving', 1995, ["Animation", "Children's"]),
    ]
    assert repr(movielens) == "MovieLens(ml-100k: 6 ratings, 2 users, 5 movies)"


def test_both_layouts_give_the_same(tmp_path):
    write(tmp_path / "a", GROUPLENS_100K)
    write(tmp_path / "b", RECBOLE_100K)
    assert same(rr.datasets.movielens_100k(tmp_path / "a"), rr.datasets.movielens_100k(tmp_path / "b"))


def test_tables_of_1m(tmp_path):
    write(tmp_path / "ml-1m", GROUPLENS_1M)
    movielens = rr.datasets.movielens_1m(tmp_path)
    assert movielens.interactions.columns == INTERACTION + USER[1:] + MOVIE[1:]
    assert movielens.queries.rows() == [
        ("1", 1, "F", "K-12 student", "48067"),
        ("2", 56, "M", "self-employed", "70072"),
    ]
    assert movielens.candidates.row(1) == ("6", "Misérables: 2, Les (1995)", "Misérables: 2, Les", 1995, ["Drama"])
    assert movielens.interactions.row(0)[:5] == ("2", "1", 5.0, 978300760, 56)


def test_tables_of_20m(tmp_path):
    write(tmp_path / "ml-20m", GROUPLENS_20M)
    movielens = rr.datasets.movielens_20m(tmp_path)
    assert movielens.interactions.columns == INTERACTION + MOVIE[1:]
    assert movielens.interactions["rating"].to_list() == [3.5, 4.0, 0.5]
    assert movielens.queries.to_dict(as_series=False) == {"user_id": ["7", "5"]}
    title = 'Series "X", The (1975-1979)'
    assert movielens.candidates.row(1) == ("6", title, title, None, [])


def test_places_in_order(tmp_path, monkeypatch):
    write(tmp_path / "cache", RECBOLE_100K)  # without the folder ml-100k
    assert rr.datasets.movielens_100k().interactions.height == 6
    other = {**RECBOLE_100K, "ml-100k.inter": RECBOLE_100K["ml-100k.inter"][: -len("2\t543\t2\t8\n")]}
    write(tmp_path / "home" / "ml-100k", other)
    monkeypatch.setenv("RETRANK_DATA", str(tmp_path / "home"))
    assert rr.datasets.movielens_100k().interactions.height == 5
    monkeypatch.setenv("RETRANK_DATA", str(tmp_path / "nowhere"))
    assert rr.datasets.movielens_100k().interactions.height == 6


def zipped(files, inside, path):
    write(path.parent / "raw", files)
    with zipfile.ZipFile(path, "w") as archive:
        for name in files:
            archive.write(path.parent / "raw" / name, inside + name)
    return path


def test_grouplens_comes_first_and_only_once(tmp_path, monkeypatch):
    calls = []

    def fetch(url, folder):
        calls.append(url)
        return zipped(GROUPLENS_100K, "ml-100k/", Path(folder) / "ml-100k.zip")

    monkeypatch.setattr(download, "fetch_url", fetch)
    monkeypatch.setattr(download, "verify", lambda path, algorithm, digest: calls.append((algorithm, digest)))
    first = rr.datasets.movielens_100k()
    assert calls == [
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        ("md5", "0e33842e24a9c977be4e0107933c0723"),
    ]
    assert same(first, rr.datasets.movielens_100k())
    assert len(calls) == 2
    assert sorted(file.name for file in (tmp_path / "cache" / "ml-100k").iterdir()) == ["u.data", "u.item", "u.user"]


def test_the_wheel_is_the_fallback(tmp_path, monkeypatch):
    calls = []

    def fetch(requirement, folder):
        calls.append(requirement)
        return zipped(RECBOLE_100K, "recbole/dataset_example/ml-100k/", Path(folder) / "recbole.whl")

    monkeypatch.setattr(download, "fetch_wheel", fetch)
    monkeypatch.setattr(download, "verify", lambda path, algorithm, digest: calls.append((algorithm, digest)))
    assert rr.datasets.movielens_100k(tmp_path / "here").interactions.height == 6
    assert calls == [
        "recbole==1.2.1",
        ("sha256", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
    ]
    assert (tmp_path / "here" / "ml-100k" / "ml-100k.inter").is_file()
    assert not (tmp_path / "cache").exists()


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        download, "fetch_url", lambda url, folder: zipped(GROUPLENS_100K, "ml-100k/", Path(folder) / "ml-100k.zip")
    )
    with pytest.raises(rr.errors.DownloadError, match="0e33842e24a9c977be4e0107933c0723"):
        rr.datasets.movielens_100k()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("load", ["movielens_100k", "movielens_1m", "movielens_20m"])
def test_when_nothing_works_it_says_where_it_looked_and_what_to_do(load, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRANK_DATA", str(tmp_path / "home"))
    with pytest.raises(rr.errors.DownloadError) as caught:
        getattr(rr.datasets, load)()
    message = str(caught.value)
    for part in (str(tmp_path / "home"), str(tmp_path / "cache"), "https://files.grouplens.org", "RETRANK_DATA"):
        assert part in message
    assert ("recbole==1.2.1" in message) == (load == "movielens_100k")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("u.data", "1\t1\t5\t7\n1\t1\t5\n", r"column 'timestamp', row 1 of .*u\.data"),
        ("u.data", "1\t1\t5\n", r"u\.data: expected 4 fields"),
        ("u.data", "1\t1\tfive\t7\n", r"column 'rating', row 0 of ratings.*'five'"),
        ("u.data", "1\t1\t5\t7\n1\t2\t5\t7\n", r"column 'movie_title', row 1 of ml-100k"),
        ("u.data", "3\t1\t5\t7\n", r"column 'zip_code', row 0 of ml-100k"),
        ("u.data", "", r"u\.data"),
        ("u.user", "1|24|M|technician|85711|more\n", r"u\.user: expected 5 fields"),
        ("u.user", "1|24|M|technician|85711\n" * 2, r"column 'user_id', row 1 of ml-100k, users"),
    ],
)
def test_damaged_files_are_named(name, text, message, tmp_path):
    write(tmp_path, GROUPLENS_100K | {name: text})
    with pytest.raises(rr.errors.DataError, match=message):
        rr.datasets.movielens_100k(tmp_path)


def test_unknown_occupation_and_header(tmp_path):
    write(tmp_path / "1m", GROUPLENS_1M | {"users.dat": "1::F::1::21::48067\n"})
    with pytest.raises(rr.errors.DataError, match="column 'occupation', row 0"):
        rr.datasets.movielens_1m(tmp_path / "1m")
    write(tmp_path / "rb", RECBOLE_100K | {"ml-100k.user": "user_id:token\tage:token\n1\t2\n"})
    with pytest.raises(rr.errors.DataError, match=r"ml-100k\.user.*'gender'"):
        rr.datasets.movielens_100k(tmp_path / "rb")


@pytest.mark.network
def test_the_real_data_through_pip(tmp_path, monkeypatch):
    def offline(url, folder):
        raise rr.errors.DownloadError("a network", "none", url, "go online")

    monkeypatch.undo()
    monkeypatch.setattr(download, "fetch_url", offline)
    monkeypatch.delenv("RETRANK_DATA", raising=False)
    movielens = rr.datasets.movielens_100k(tmp_path)
    assert repr(movielens) == "MovieLens(ml-100k: 100000 ratings, 943 users, 1682 movies)"
    assert movielens.interactions.row(0)[:4] == ("196", "242", 3.0, 881250949)
    assert movielens.candidates["movie_title"][0] == "Toy Story (1995)"
    assert movielens.candidates["year"].null_count() == 1
    assert movielens.candidates["genres"].explode().n_unique() == 19
    assert movielens.interactions["rating"].mean() == pytest.approx(3.52986)
