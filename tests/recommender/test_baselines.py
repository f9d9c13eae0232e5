"""A baseline in a recommender: the same requests and rules as with models, checked against slow arithmetic."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.allocations import Recorded

import retrank as rr
from retrank.core.errors import ConfigError, DataError, NotFittedError, StorageError
from retrank.recommender.request import Request

MAKERS = {
    "popularity": rr.baselines.Popularity,
    "item-kNN": lambda: rr.baselines.ItemKNN(num_neighbors=3, shrink=0.5),
    "EASE": lambda: rr.baselines.EASE(l2=1.5),
    "EASE, recent first": lambda: rr.baselines.EASE(l2=1.5, decay=0.7),
}
USERS, SONGS = 6, 8
LISTED = ["song", "rank", "score", "stage"]
events = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, SONGS - 1)), min_size=1, max_size=30)


def table(pairs, first_time=0):
    return pl.DataFrame(
        {
            "user": [f"u{u}" for u, _ in pairs],
            "song": [f"s{s}" for _, s in pairs],
            "time": range(first_time, first_time + len(pairs)),
        },
        schema={"user": pl.String, "song": pl.String, "time": pl.Int64},
    )


def catalogue(songs=range(SONGS)):
    return pl.DataFrame({"song": [f"s{s}" for s in songs], "year": [1980 + 5 * s for s in songs]})


def fitted(name, pairs):
    return MAKERS[name]().fit(table(pairs), time="time")


def serve(name, pairs, songs=range(SONGS), later=()):
    served = rr.Recommender(fitted(name, pairs), catalogue=catalogue(songs), history=table(pairs))
    return served.with_events(table(later, len(pairs))) if later else served


def weights_by_hand(name, pairs):
    """Return how much having one song says for another, with nothing but the formulas."""
    x = np.zeros((USERS, SONGS))
    for user, song in pairs:
        x[user, song] = 1
    weights = np.zeros((SONGS, SONGS))
    if name.startswith("EASE"):
        for j in range(SONGS):
            others = [i for i in range(SONGS) if i != j]
            a = x[:, others]
            weights[others, j] = np.linalg.solve(a.T @ a + 1.5 * np.eye(SONGS - 1), a.T @ x[:, j])
    else:
        counts = x.sum(axis=0)
        rank = sorted(range(SONGS), key=lambda i: (-counts[i], f"s{i}"))
        for j in range(SONGS):
            near = [
                (-(x[:, i] @ x[:, j]) / (np.sqrt(counts[i] * counts[j]) + 0.5), rank.index(i), i)
                for i in range(SONGS)
                if i != j and x[:, i] @ x[:, j] > 0
            ]
            for value, _, i in sorted(near)[:3]:
                weights[i, j] = -value
    return weights


def list_by_hand(name, pairs, songs, later, request):
    """Return the score of every song that may be listed, and whether popularity decides."""
    user, everything = request.query["user"], [*pairs, *later]
    mine = [song for owner, song in everything if f"u{owner}" == user]
    fitted_on = {song for _, song in pairs}
    read = [song for song in dict.fromkeys(reversed(mine)) if song in fitted_on]  # the latest first
    counts = {s: len({owner for owner, song in everything if song == s}) for s in songs}
    is_popular = name == "popularity" or not read
    decay = 0.7 if name == "EASE, recent first" else 0.0
    if is_popular:
        scores = {s: float(counts[s]) for s in songs}
    else:
        weights = weights_by_hand(name, pairs)
        scores = {s: sum(np.exp(-decay * m) * weights[h, s] for m, h in enumerate(read)) for s in songs}
    years = dict(catalogue(songs).rows())
    left = {
        s: score
        for s, score in scores.items()
        if not (request.exclude_seen and s in mine)
        and (request.where is None or years[f"s{s}"] >= 2000)
        and (request.allow is None or f"s{s}" in request.allow)
        and f"s{s}" not in request.deny
    }
    return left, counts, is_popular


@st.composite
def requests(draw):
    keys = [f"s{s}" for s in range(SONGS)]
    return Request(
        {"user": draw(st.sampled_from([*(f"u{u}" for u in range(USERS)), "stranger"]))},
        k=draw(st.sampled_from([1, 3, SONGS, 100])),
        exclude_seen=draw(st.booleans()),
        where=draw(st.sampled_from([None, "year >= 2000", pl.col("year") >= 2000])),
        allow=draw(st.none() | st.lists(st.sampled_from(keys), min_size=1).map(tuple)),
        deny=draw(st.lists(st.sampled_from(keys), max_size=3)),
    )


@pytest.mark.filterwarnings("ignore:allow.*are no candidates", "ignore:column 'song'")
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=40)
@given(
    pairs=events,
    later=st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, SONGS - 1)), max_size=6),
    songs=st.sets(st.integers(0, SONGS - 1), min_size=1).map(sorted),
    asked=st.lists(requests(), min_size=1, max_size=3),
)
def test_lists_obey_the_rules_and_the_formulas(name, pairs, later, songs, asked):
    served = serve(name, pairs, songs, later)
    for request in asked:
        allowed, counts, is_popular = list_by_hand(name, pairs, songs, later, request)
        found = served.recommend(
            request.query, request.k, exclude_seen=request.exclude_seen, where=request.where, allow=request.allow,
            deny=request.deny,
        )  # fmt: skip
        assert found.columns == ["rank", "song", "score", "stage", "year"]
        listed = [int(key[1:]) for key in found["song"]]
        assert len(set(listed)) == len(listed) == min(request.k, len(allowed))
        assert found["rank"].to_list() == list(range(1, len(listed) + 1))
        assert set(found["stage"]) <= {"popularity" if is_popular else "retrieval"}
        assert found["year"].to_list() == [1980 + 5 * song for song in listed]
        np.testing.assert_allclose(found["score"], [allowed[song] for song in listed], rtol=1e-4, atol=1e-5)
        assert found["score"].is_sorted(descending=True)
        for (first, one), (second, other) in pairwise(zip(listed, found["score"], strict=True)):
            assert one > other or counts[first] >= counts[second]  # of equal ones the more popular first
        rest = [score for song, score in allowed.items() if song not in listed]
        assert not rest or max(rest) <= found["score"][-1] + 1e-4


@pytest.mark.filterwarnings("ignore:allow.*are no candidates", "ignore:column 'song'")
@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25)
@given(pairs=events, asked=st.lists(requests(), min_size=1, max_size=6))
def test_one_and_many_get_the_same_bits(name, pairs, asked):
    served = serve(name, pairs)
    alone = [
        served.recommend(
            one.query, one.k, exclude_seen=one.exclude_seen, where=one.where, allow=one.allow, deny=one.deny
        ).select(LISTED)
        for one in asked
    ]
    together = served.recommend_many(asked)
    assert together.select(LISTED).equals(pl.concat(alone))
    users = [one.query["user"] for one in asked]
    whole = served.recommend_many(users, k=4)
    assert whole.equals(served.recommend_many(pl.DataFrame({"user": users}), k=4))
    assert whole.select(LISTED).equals(pl.concat([served.recommend(user, 4).select(LISTED) for user in users]))


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=15)
@given(pairs=events)
def test_lists_are_those_of_the_baseline_itself(name, pairs):
    baseline = fitted(name, pairs)
    known = sorted({song for _, song in pairs}, reverse=True)  # in another order than the baseline has them
    served = serve(name, pairs, known)
    users = pl.DataFrame({"user": [*(f"u{u}" for u in range(USERS)), "stranger"]})
    for exclude_seen in (True, False):
        expected = baseline.recommend_many(users, 5, exclude_seen=exclude_seen)
        assert served.recommend_many(users, 5, exclude_seen=exclude_seen).drop("stage").equals(expected)


def world(seed=0, num_users=60, num_songs=40):
    draw = np.random.default_rng(seed)
    taste = draw.integers(0, 4, num_users)
    fits = 2.0 * (taste[:, None] == np.arange(num_songs) % 4)
    ranked = np.argsort(-(fits + draw.gumbel(size=fits.shape)), axis=1)[:, :12]
    plays = [
        (user, song, time) for user in range(num_users) for time, song in enumerate(draw.permutation(ranked[user]))
    ]
    frame = pl.DataFrame(plays, schema=["user", "song", "time"], orient="row")
    songs = pl.DataFrame({"song": range(num_songs), "title": [f"Song {song}" for song in range(num_songs)]})
    return *rr.data.leave_last_split(frame, query="user", time="time", test_size=0.25), songs


@pytest.mark.parametrize("name", MAKERS)
def test_a_bundle_answers_and_measures_alike(name, tmp_path):
    train, test, songs = world()
    baseline = MAKERS[name]().fit(train, time="time")
    card = rr.recommender.Card("Songs", facts={"seed": 0})
    served = rr.Recommender(baseline, catalogue=songs, history=train, card=card)
    served.save(tmp_path / "bundle")
    loaded = rr.Recommender.load(tmp_path / "bundle")
    assert loaded.card == card
    assert repr(loaded) == repr(served) == f"Recommender({type(baseline).__name__}, 40 candidates, 60 queries)"
    assert loaded.baseline.config == baseline.config
    users = list(range(61))
    assert loaded.recommend_many(users).equals(served.recommend_many(users))
    systems = {"fitted": baseline, "served": served, "loaded": loaded}
    report = rr.evaluate(systems, train, test, ks=[5, 20], time="time", progress=False)
    for metric in report.metrics:
        assert report.value("fitted", metric) == report.value("served", metric) == report.value("loaded", metric)
    assert not [path for path in (tmp_path / "bundle").rglob("*") if path.suffix in (".pkl", ".pt", ".pickle")]
    loaded.save(tmp_path / "bundle")  # in its own place
    assert rr.Recommender.load(tmp_path / "bundle").recommend(3).equals(served.recommend(3))


@pytest.mark.parametrize("name", MAKERS)
def test_events_count_at_once(name, tmp_path):
    train, _, songs = world()
    served = rr.Recommender(MAKERS[name]().fit(train, time="time"), catalogue=songs, history=train)
    before = served.recommend(3, k=40)
    news = pl.DataFrame({"user": [3, 999], "song": [int(before["song"][0]), 5], "time": [100, 100]})
    later = served.with_events(news)
    assert served.recommend(3, k=40).equals(before)  # a value
    assert before["song"][0] not in later.recommend(3, k=40)["song"].to_list()
    assert 5 not in later.recommend(999, k=40)["song"].to_list()
    assert set(later.recommend(999)["stage"]) == {"popularity" if name == "popularity" else "retrieval"}
    assert set(served.recommend(999)["stage"]) == {"popularity"}
    assert later.recommend(998)["score"][0] >= served.recommend(998)["score"][0]
    whole = rr.Recommender(
        MAKERS[name]().fit(train, time="time"), catalogue=songs, history=pl.concat([train, news.cast(train.schema)])
    )
    users = [3, 4, 998, 999]
    assert later.recommend_many(users, k=40).equals(whole.recommend_many(users, k=40))
    later.save(tmp_path / "bundle")
    assert rr.Recommender.load(tmp_path / "bundle").recommend_many(users).equals(later.recommend_many(users))


@pytest.mark.parametrize("name", MAKERS)
def test_candidates_come_and_go(name):
    train, _, songs = world()
    served = rr.Recommender(MAKERS[name]().fit(train, time="time"), catalogue=songs, history=train)
    more = served.with_candidates(pl.DataFrame({"song": [77], "title": ["New"]}))
    new = more.recommend(3, k=100).filter(song=77)
    assert (new["score"].to_list(), new["title"].to_list()) == ([0.0], ["New"])
    assert (
        more.recommend(3, k=100)
        .filter(pl.col("song") != 77)
        .drop("rank")
        .equals(served.recommend(3, k=100).drop("rank"))
    )
    gone = served.recommend(3)["song"][0]
    less = served.without_candidates([gone])
    expected = served.recommend(3, k=40).filter(pl.col("song") != gone).drop("rank")
    assert less.recommend(3, k=40).drop("rank").equals(expected)
    with pytest.raises(DataError, match="77"):
        served.without_candidates([77])
    with pytest.raises(DataError, match="5"):
        served.with_candidates(songs[5:6])


def test_similar_candidates_go_together():
    train, _, songs = world()
    knn = rr.Recommender(rr.baselines.ItemKNN().fit(train), catalogue=songs, history=train)
    like = knn.similar(8, k=5)
    assert like.columns == ["rank", "song", "score", "title"]
    assert sum(song % 4 == 0 for song in like["song"]) >= 4
    assert 8 not in like["song"].to_list()
    assert knn.similar(8, k=5, where="title <> 'Song 4'", deny=[0])["song"].is_in([0, 4]).any() is False
    with pytest.raises(DataError, match="'nothing'"):
        knn.similar("nothing")
    with pytest.raises(DataError, match="ItemKNN was fitted on.*77"):
        knn.with_candidates(pl.DataFrame({"song": [77], "title": ["New"]})).similar(77)
    popular = rr.Recommender(rr.baselines.Popularity().fit(train), catalogue=songs, history=train)
    with pytest.raises(ConfigError, match="similar.*Popularity"):
        popular.similar(8)


def test_what_a_baseline_does_not_read_is_refused():
    train, _, songs = world()
    ease = rr.baselines.EASE().fit(train)
    space = rr.FeatureSpace({"song": rr.features.Categorical()}).fit(train)
    with pytest.raises(ConfigError, match=r"beside a baseline \(EASE\), got space="):
        rr.Recommender(ease, space=space, catalogue=songs, history=train)
    with pytest.raises(NotFittedError, match=r"EASE.*fit\(\)"):
        rr.Recommender(rr.baselines.EASE(), catalogue=songs, history=train)
    recent = rr.baselines.EASE(decay=0.1).fit(train, time="time")
    with pytest.raises(ConfigError, match="decay of EASE.*time="):
        rr.Recommender(recent, catalogue=songs, history=train.drop("time"))
    with pytest.raises(DataError, match="'song'"):
        rr.Recommender(ease, catalogue=songs.cast({"song": pl.String}), history=train)
    with pytest.raises(DataError, match="'song'"):
        rr.Recommender(ease, catalogue=songs.drop("song"), history=train)
    with pytest.raises(DataError, match="rank"):
        rr.Recommender(ease, catalogue=songs.with_columns(rank=1), history=train)
    served = rr.Recommender(ease, catalogue=songs, history=train)
    for name in ("retrieval", "space", "index", "num_retrieved"):
        with pytest.raises(
            ConfigError, match=f"{name}: expected a recommender of models, got one of the baseline EASE"
        ):
            getattr(served, name)
    assert served.ranking is None
    assert served.without_ranking() is served
    with pytest.raises(DataError, match="age"):
        served.recommend({"user": 3, "age": 30})
    with pytest.raises(DataError, match="integer key"):
        served.recommend("3")
    with pytest.raises(ConfigError, match="k"):
        served.recommend(3, k=0)
    with pytest.raises(DataError, match="'usr'|'user'"):
        served.recommend_many(pl.DataFrame({"usr": [3]}))
    with pytest.raises(DataError, match="where"):
        served.recommend(3, where="length > 3")
    assert served.recommend_many([], k=3).is_empty()


def test_nothing_done_to_the_baseline_reaches_the_recommender():
    train, _, songs = world()
    ease = rr.baselines.EASE(l2=10.0).fit(train)
    served = rr.Recommender(ease, catalogue=songs, history=train)
    before = served.recommend_many(list(range(20)))
    ease.fit(train.with_columns(song=39 - pl.col("song")))
    ease.decay = 5.0
    assert served.recommend_many(list(range(20))).equals(before)


@pytest.mark.parametrize("kind", [pl.Int32, pl.UInt64, pl.String, pl.Categorical])
def test_keys_of_any_type(kind, tmp_path):
    train, _, songs = world()
    keys = {"user": kind, "song": kind}
    ease = rr.baselines.EASE().fit(train.cast({"user": pl.String, "song": pl.String}).cast(keys))
    some = train.cast({"user": pl.String, "song": pl.String}).cast(keys)
    names = songs.cast({"song": pl.String}).cast({"song": kind})
    served = rr.Recommender(ease, catalogue=names, history=some)
    served.save(tmp_path / "bundle")
    key = "3" if kind in (pl.String, pl.Categorical) else 3
    found = rr.Recommender.load(tmp_path / "bundle").recommend(key)
    assert found.equals(served.recommend(key))
    plain = rr.Recommender(rr.baselines.EASE().fit(train), catalogue=songs, history=train)
    assert set(found["stage"]) == {"retrieval"}
    np.testing.assert_allclose(found["score"], plain.recommend(3)["score"], rtol=1e-4)


def test_files_that_do_not_fit_each_other_are_refused(tmp_path):
    train, _, songs = world()
    place = tmp_path / "bundle"
    rr.Recommender(rr.baselines.EASE().fit(train), catalogue=songs, history=train).save(place)
    for name in ("baseline.json", "baseline.parquet", "baseline.safetensors", "history/events.parquet", "card.json"):
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StorageError, match=name):
            rr.Recommender.load(place)
        (place / name).unlink()
        with pytest.raises(StorageError, match=name):
            rr.Recommender.load(place)
        (place / name).write_bytes(content)
    assert len(rr.Recommender.load(place).recommend(3)) == 10


def test_baselines_of_users_are_served_too(tmp_path):
    train, _, songs = world()
    served = rr.Recommender(Alphabetical().fit(train), catalogue=songs, history=train)
    served.save(tmp_path / "bundle")
    assert rr.Recommender.load(tmp_path / "bundle").recommend(3).equals(served.recommend(3))
    assert served.recommend(3, exclude_seen=False, k=3)["score"].to_list() == [40.0, 39.0, 38.0]
    served.baseline._scores[3] = torch.nan  # as a fault of its author might do
    with pytest.raises(DataError, match="score of Alphabetical"):
        served.recommend(3)


class Alphabetical(rr.baselines.Baseline):
    def _learn(self, matrix, work):
        self._scores = torch.arange(len(matrix.candidates)).float() + 1

    def score(self, histories):
        return self._scores.expand(len(histories), -1)

    def learned(self):
        return {"scores": self._scores}

    def _restore(self, learned):
        self._scores = learned["scores"]


@pytest.mark.parametrize("name", MAKERS)
def test_an_update_is_a_new_fit_to_all_events(name):
    train, test, songs = world()
    new_songs = pl.DataFrame({"song": [77, 3], "title": ["New", "Other title"]})
    news = pl.concat([test, pl.DataFrame({"user": [1, 2, 99], "song": 77, "time": 50}).cast(train.schema)])
    served = rr.Recommender(MAKERS[name]().fit(train, time="time"), catalogue=songs, history=train)
    updated = rr.update(served, news, new_songs)
    known = pl.concat([songs.with_columns(title=pl.when(song=3).then(pl.lit("Other title")).otherwise("title")),
                       new_songs[:1]])  # fmt: skip
    everything = pl.concat([train, news])
    again = rr.Recommender(MAKERS[name]().fit(everything, time="time"), catalogue=known, history=everything)
    users = [*range(60), 99, 100]
    assert updated.recommend_many(users, k=41).equals(again.recommend_many(users, k=41))
    assert updated.candidates.equals(again.candidates)
    assert updated.card.facts["updates"][0]["events"] == len(news)
    appended = served.with_candidates(new_songs[:1]).with_events(news)  # what was appended does not count twice
    assert rr.update(appended, news).history.events.table().equals(updated.history.events.table())
    with pytest.raises(ConfigError, match="new_queries"):
        rr.update(served, news, new_songs, pl.DataFrame({"user": [99], "age": [30]}))
    with pytest.raises(DataError, match="77"):
        rr.update(served, news)


@pytest.mark.parametrize("name", MAKERS)
def test_a_request_costs_the_same_however_many_queries_are_known(name):
    few, _, songs = world(num_users=40)
    many = pl.concat([few.with_columns(user=pl.col("user") + 40 * copy) for copy in range(100)])
    costs = []
    for history in (few, many):
        served = rr.Recommender(MAKERS[name]().fit(few, time="time"), catalogue=songs, history=history)
        served.recommend(3)  # what is made once
        with Recorded() as seen:
            served.recommend(3, where="song > 5", deny=[7])
        costs.append((seen.num_operations, seen.total))
    assert costs[0] == costs[1]
