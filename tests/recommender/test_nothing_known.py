"""A query of which retrieval would read nothing but blanks and unknown keys gets what is popular."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import DataError

F = rr.features
SONGS = [f"s{song}" for song in range(12)]
NEW = ["new0", "new1", "new2"]  # in the catalogue and not in the vocabulary
HISTORIES = {"empty": [], "unknown": NEW[:2], "mixed": [NEW[0], "s3"], "known": ["s3", "s4"]}
OTHERS = ["none", "brought", "stored"]
PLACES = ["log", "brought"]  # where a history is


def plays():
    """Make events of six queries to learn from, none of which asks."""
    rows = [(f"u{user}", SONGS[(user * 5 + song) % 12], song) for user in range(6) for song in range(4 + user)]
    return pl.DataFrame(rows, schema=["user", "song", "time"], orient="row")


def name_of(is_known, place, history, other):
    return f"{'known' if is_known else 'nobody'}-{place}-{history}-{other}"


CASES = [
    (is_known, place, history, other)
    for is_known, place, history, other in itertools.product([True, False], PLACES, HISTORIES, OTHERS)
    if is_known or other != "stored"
]
QUERIES = pl.DataFrame(
    {
        "user": [name_of(*case) for case in CASES if case[0]],
        "mood": ["calm" if case[3] == "stored" else None for case in CASES if case[0]],
    }
)
EVENTS = pl.concat(
    [
        plays(),
        pl.DataFrame(
            [
                (name_of(*case), song, 100 + place)
                for case in CASES
                for place, song in enumerate(HISTORIES[case[2]])
                if case[1] == "log"
            ],
            schema=["user", "song", "time"],
            orient="row",
        ),
    ]
)


class Ranker(rr.core.Configurable, rr.Model):
    """Reads more of a query than retrieval does."""

    features = ("weather", "recent", rr.models.RETRIEVAL_SCORE)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        return self.weight * batch["retrieval_score"] + batch["weather"]

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


def build(*, ranking=None, queries=QUERIES, extra=("mood",), kinds=None, events=EVENTS):
    table = rr.data.with_recent_candidates(plays(), query="user", candidate="song", time="time", length=5)
    table = table.with_columns(
        mood=pl.Series(["calm", "wild"] * (len(table) // 2) + ["calm"] * (len(table) % 2)), weather=pl.lit(1.0)
    )
    space = rr.FeatureSpace(
        {
            "user": F.Categorical(),
            "song": F.Categorical(),
            "recent": F.Recent("song"),
            "mood": F.Categorical(nulls="unknown"),
            "weather": F.Passthrough(fill=0.0),
            **(kinds or {}),
        }
    ).fit(table)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["recent", *extra], layers=[8]), rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(), query_id="user",
    )  # fmt: skip
    if ranking is not None:
        queries = queries.with_columns(weather=pl.lit(3.0))
    return rr.Recommender(
        retrieval=model, ranking=ranking, space=space, catalogue=pl.DataFrame({"song": [*SONGS, *NEW]}),
        history=events, queries=queries, time="time", num_retrieved=5,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["one stage", "two stages"])
def recommender(request):
    return build(ranking=Ranker() if request.param == "two stages" else None)


def asked(is_known, place, history, other):
    query = {"user": name_of(is_known, place, history, other)}
    if place == "brought":
        query["recent"] = HISTORIES[history]
    if other == "brought":
        query["mood"] = "wild"
    return query


def popular_songs(recommender, seen):
    counts = recommender.history.events.distinct_pairs().group_by("song").len()
    ordered = pl.DataFrame({"song": [*SONGS, *NEW]}).join(counts, on="song", how="left", maintain_order="left")
    ordered = ordered.with_columns(pl.col("len").fill_null(0)).sort("len", descending=True, maintain_order=True)
    return [song for song in ordered["song"] if song not in seen]


@pytest.mark.parametrize("case", CASES, ids=[name_of(*case) for case in CASES])
def test_what_says_nothing_is_popular_and_all_else_personal(recommender, case):
    _, _, history, other = case
    found = recommender.recommend(asked(*case), k=6)
    if history in ("empty", "unknown") and other == "none":
        assert found["stage"].unique().to_list() == ["popularity"]
        assert found["song"].to_list() == popular_songs(recommender, HISTORIES[history])[:6]
    else:
        assert found["stage"].unique().to_list() == ["retrieval" if recommender.ranking is None else "ranking"]


@settings(max_examples=25)
@given(chosen=st.lists(st.sampled_from(CASES), min_size=1, max_size=12), exclude_seen=st.booleans())
def test_one_and_many_are_the_same(recommender, chosen, exclude_seen):
    queries = [asked(*case) for case in chosen]
    rules = {"k": 4, "exclude_seen": exclude_seen}
    many = recommender.recommend_many([rr.recommender.Request(query, **rules) for query in queries])
    table = pl.DataFrame(
        {name: [query.get(name) for query in queries] for name in ("user", "recent", "mood")},
        schema={"user": pl.String, "recent": pl.List(pl.String), "mood": pl.String},
    )
    assert same_lists(recommender.recommend_many(table, **rules), many)
    ones = [recommender.recommend(query, **rules).select("song", "rank", "score", "stage") for query in queries]
    assert same_lists(pl.concat(ones), many.drop("user"))


@pytest.mark.parametrize("case", [case for case in CASES if case[1] == "log" and case[3] == "none"], ids=str)
def test_events_make_it_personal(recommender, case):
    query = asked(*case)
    events = pl.DataFrame({"user": [query["user"]], "song": ["s7"], "time": [1000]})
    after = recommender.with_events(events)
    assert "popularity" not in after.recommend(query)["stage"].to_list()
    before = "popularity" in recommender.recommend(query)["stage"].to_list()
    assert before == (case[2] in ("empty", "unknown"))
    unknown = recommender.with_events(events.with_columns(song=pl.lit("new2")))
    assert ("popularity" in unknown.recommend(query)["stage"].to_list()) == before


def test_what_only_the_ranking_reads_finds_no_candidates():
    recommender = build(ranking=Ranker())
    for query in ({"user": "nobody", "weather": 9.0}, {"user": name_of(True, "log", "empty", "none"), "weather": 9.0}):
        assert recommender.recommend(query)["stage"].unique().to_list() == ["popularity"]
        assert "popularity" not in recommender.recommend({**query, "mood": "calm"})["stage"].to_list()


def test_an_empty_list_that_is_brought_counts_in_place_of_the_history():
    recommender, name = build(), name_of(True, "log", "known", "none")
    assert "popularity" not in recommender.recommend(name)["stage"].to_list()
    assert recommender.recommend({"user": name, "recent": []})["stage"].unique().to_list() == ["popularity"]
    assert recommender.recommend({"user": name, "recent": None}).equals(recommender.recommend(name))


@pytest.mark.parametrize("value", ["never heard", "", None])
def test_words_and_keys_that_nobody_knows_say_nothing(value):
    for kind in (F.Categorical(nulls="unknown"), F.Text()):
        recommender = build(kinds={"mood": kind}, queries=QUERIES.with_columns(mood=pl.lit("")))
        found = recommender.recommend({"user": "nobody", "recent": [], "mood": value})
        assert found["stage"].unique().to_list() == ["popularity"]


def test_a_number_says_something_and_a_missing_one_that_is_filled_does_not():
    queries = pl.DataFrame({"user": ["with", "without"], "weather": [0.0, None]})
    recommender = build(extra=["weather"], queries=queries)
    stages = {user: set(recommender.recommend(user)["stage"]) for user in queries["user"]}
    assert stages == {"with": {"retrieval"}, "without": {"popularity"}}
    assert set(recommender.recommend({"user": "without", "weather": 0.0})["stage"]) == {"retrieval"}
    assert set(recommender.recommend({"user": "without", "weather": float("nan")})["stage"]) == {"popularity"}


def test_a_hashed_key_of_nobody_says_nothing():
    hashed = {"user": F.Hashed(64)}
    recommender = build(kinds=hashed, extra=["user"], queries=pl.DataFrame({"user": ["u0"]}))
    assert set(recommender.recommend({"user": "u0", "recent": []})["stage"]) == {"retrieval"}
    assert set(recommender.recommend({"user": "nobody", "recent": []})["stage"]) == {"popularity"}
    assert set(recommender.recommend({"user": "nobody", "recent": ["s1"]})["stage"]) == {"retrieval"}


def test_a_cross_is_as_telling_as_its_features():
    table = plays().with_columns(mood=pl.lit("calm"), place=pl.lit("home"))
    space = rr.FeatureSpace(
        {name: F.Categorical(nulls="unknown") for name in ("user", "song", "mood", "place")},
        crosses=[F.Cross("mood", "place", bins=8)],
    ).fit(table)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["mood_x_place"], layers=[8]), rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(), query_id="user",
    )  # fmt: skip
    queries = pl.DataFrame(
        {"user": ["blank", "half"], "mood": [None, "calm"], "place": [None, None]},
        schema_overrides={"place": pl.String},
    )
    recommender = rr.Recommender(
        retrieval=model, space=space, catalogue=pl.DataFrame({"song": SONGS}), history=plays(), queries=queries
    )
    assert set(recommender.recommend("blank")["stage"]) == {"popularity"}
    assert set(recommender.recommend("half")["stage"]) == {"retrieval"}
    assert set(recommender.recommend({"user": "blank", "place": "home"})["stage"]) == {"retrieval"}


@pytest.mark.parametrize("nothing", [[], (), np.array([]), pl.Series([], dtype=pl.Null), None, float("nan")], ids=repr)
def test_every_way_to_bring_nothing(recommender, nothing):
    found = recommender.recommend({"user": "nobody", "recent": nothing}, k=6)
    assert found["song"].to_list() == popular_songs(recommender, [])[:6]
    assert found["stage"].unique().to_list() == ["popularity"]


@pytest.mark.parametrize("bad", [[None], [None, "s1"], [float("nan")], [1.5], "s1"], ids=repr)
def test_histories_with_holes_or_of_another_kind_are_refused(recommender, bad):
    with pytest.raises(DataError, match="'recent' of the query"):
        recommender.recommend({"user": "nobody", "recent": bad})


@pytest.mark.parametrize("recent", [[], ["new0"], ["s1"], ["s1", "s1", "s1"]], ids=str)
def test_rules_hold_for_popular_and_personal_lists_alike(recommender, recent):
    query, every = {"user": "nobody", "recent": recent}, [*SONGS, *NEW]
    found = recommender.recommend(query, k=1000)
    assert sorted(found["song"]) == sorted(set(every) - set(recent))
    assert recommender.recommend(query, deny=every).height == 0
    assert recommender.recommend(query, allow=[]).height == 0
    assert recommender.recommend(query, where="song = 'no song'").height == 0
    alone = recommender.without_candidates([song for song in every if song != "s5"])
    assert alone.recommend(query, k=3)["song"].to_list() == ["s5"]
    assert alone.recommend(query, deny=["s5"]).height == 0


def test_no_known_queries_and_no_events():
    stored = name_of(True, "log", "empty", "stored")
    no_queries, no_events = build(queries=QUERIES.clear()), build(events=EVENTS.clear())
    assert set(no_queries.recommend("nobody")["stage"]) == {"popularity"}
    assert set(no_queries.recommend("u0")["stage"]) == {"retrieval"}
    assert set(no_queries.recommend_many(["u0", "nobody"])["stage"]) == {"retrieval", "popularity"}
    assert set(no_events.recommend(stored)["stage"]) == {"retrieval"}
    assert set(no_events.recommend(name_of(True, "log", "empty", "none"))["stage"]) == {"popularity"}
    assert no_queries.recommend_many(pl.DataFrame(schema={"user": pl.String})).height == 0
