"""Candidates that change, become unavailable and available again: lists are those of a recommender built that way."""

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.allocations import Recorded
from tests.recommender.comparison import same_lists
from tests.recommender.song_world import KEYS, KINDS, KNOWN, SONGS, serve, tables

import retrank as rr
from retrank.core.errors import DataError, StorageError

Request = rr.recommender.Request
LISTED = ["song", "rank", "score", "stage"]
PLAYS, TABLE = tables()
some_keys = st.lists(st.sampled_from(KEYS), max_size=20)
MADE = {}


def made(kind):
    if kind not in MADE:
        MADE[kind] = serve(kind)
    return MADE[kind]


@st.composite
def asked(draw):
    return Request(
        {"user": draw(st.sampled_from([*KNOWN, "somebody"]))},
        k=draw(st.sampled_from([1, 5, 25, 60])),
        exclude_seen=draw(st.booleans()),
        where=draw(st.sampled_from([None, "year < 1990", pl.col("year") > 2000])),
        allow=draw(st.none() | st.lists(st.sampled_from(KEYS), min_size=1, max_size=30)),
        deny=draw(st.lists(st.sampled_from(KEYS), max_size=3)),
        history=draw(st.none() | st.lists(st.sampled_from(PLAYS["song"].unique().sort().to_list()), max_size=4)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:allow.*are no candidates")
@settings(max_examples=30)
@given(gone=some_keys, back=some_keys, requests=st.lists(asked(), min_size=1, max_size=4))
def test_unavailable_candidates_are_as_good_as_removed_from_lists(kind, gone, back, requests):
    recommender = made(kind)
    changed = recommender.with_unavailable(gone).with_available(back)
    missing = sorted(set(gone) - set(back), key=KEYS.index)
    assert changed.unavailable.to_list() == missing
    assert [changed.is_available(key) for key in KEYS] == [key not in missing for key in KEYS]
    removed = recommender.without_candidates(missing)
    assert same_lists(changed.recommend_many(requests), removed.recommend_many(requests))
    for request in requests[:1]:
        alone = changed.answer([request])[0]
        assert not set(missing) & set(alone.keys)
    for candidate in (KEYS[5], missing[0] if missing else KEYS[0]):
        if kind == "baseline" and candidate not in PLAYS["song"]:
            continue
        alike = changed.similar(candidate, k=60)
        assert not {candidate, *missing} & set(alike["song"])
        everything = recommender.similar(candidate, k=60).filter(~pl.col("song").is_in(missing))
        assert alike.select("song", "score").equals(everything.select("song", "score"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unavailable_still_speaks_in_histories(kind):
    recommender = made(kind)
    changed = recommender.with_unavailable(["s1", "s2"])
    for query, history in (({}, ["s1", "s2"]), ({"user": "u1"}, ["s1"])):
        usual = recommender.recommend(query, k=60, history=history, exclude_seen=False)
        found = changed.recommend(query, k=60, history=history, exclude_seen=False)
        assert sorted(found["song"]) == sorted(set(KEYS) - {"s1", "s2"})
        if kind == "two towers":
            expected = usual.filter(~pl.col("song").is_in(["s1", "s2"]))
            assert found.drop("rank").equals(expected.drop("rank"))


@pytest.mark.parametrize("kind", KINDS)
def test_bundles_say_what_is_unavailable(kind, tmp_path):
    changed = made(kind).with_unavailable(["s3", "s9"])
    changed.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    assert again.unavailable.to_list() == ["s3", "s9"]
    assert again.recommend_many(KNOWN, k=60).equals(changed.recommend_many(KNOWN, k=60))
    content = (tmp_path / "bundle" / "unavailable.parquet").read_bytes()
    (tmp_path / "bundle" / "unavailable.parquet").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StorageError, match=r"unavailable\.parquet"):
        rr.Recommender.load(tmp_path / "bundle")
    changed.with_available(["s3", "s9"]).save(tmp_path / "all")
    assert not (tmp_path / "all" / "unavailable.parquet").exists()


@pytest.mark.parametrize("kind", ["two towers", "baseline"])
def test_updates_and_other_changes_keep_what_is_unavailable(kind):
    changed = made(kind).with_unavailable(["s3", "s9"])
    new = TABLE.head(2).with_columns(song=pl.Series(["new", "newer"]))
    news = pl.DataFrame({"user": ["u1"], "song": ["s4"], "time": [99]})
    if kind == "two towers":
        news = news.with_columns(age=pl.lit(21.0))
    for other in (
        changed.with_candidates(new),
        changed.with_events(news),
        changed.with_changed_candidates(TABLE.filter(song="s3")),
        changed.without_candidates(["s0", "s5"]),
        changed.without_ranking(),
        rr.update(changed, news, epochs=1),
    ):
        assert other.unavailable.to_list() == ["s3", "s9"]
        assert not {"s3", "s9"} & set(other.recommend("u1", k=60)["song"])
    assert "new" in changed.with_candidates(new).recommend("u1", k=62, exclude_seen=False)["song"]
    assert changed.without_candidates(["s3", "s9"]).unavailable.to_list() == []


@pytest.mark.parametrize("kind", KINDS)
def test_none_available_is_an_empty_list(kind):
    nothing = made(kind).with_unavailable(KEYS)
    assert nothing.recommend("u1").height == 0
    assert nothing.recommend("somebody").height == 0
    assert nothing.recommend_many([Request({"user": "u1"}), Request({}, history=["s1"])]).height == 0
    assert nothing.with_available(KEYS).recommend("u1").equals(made(kind).recommend("u1"))


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_keys_are_refused(kind):
    recommender = made(kind)
    for change in (recommender.with_unavailable, recommender.with_available):
        with pytest.raises(DataError, match="'nothing'"):
            change(["s1", "nothing"])
        with pytest.raises(DataError, match="integer|string"):
            change([3])
        assert change([]).recommend("u1").equals(recommender.recommend("u1"))
    assert not recommender.is_available("nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_costs_no_more_with_many_unavailable(kind):
    costs = []
    for count in (1, 30):
        recommender = made(kind).with_unavailable(KEYS[:count])
        for _ in range(2):
            with Recorded() as seen:
                recommender.recommend("u1", k=3, where="year > 0")
        costs.append(seen.num_operations)
    assert costs[1] <= costs[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_availability_copies_a_mask_and_nothing_else(kind):
    recommender = made(kind)
    recommender.recommend("u1")
    recommender.similar(PLAYS["song"][0])
    with Recorded() as seen:
        changed = recommender.with_unavailable(["s3"])
    assert seen.total <= 30 * SONGS
    assert changed.catalogue is recommender.catalogue
    assert changed.candidates is recommender.candidates
    assert changed.history is recommender.history
    if kind != "baseline":
        assert changed.index is recommender.index


def changes(seed):
    return TABLE.sample(7, seed=seed, shuffle=True).with_columns(
        year=pl.col("year") + 17, artist=pl.lit("other"), genres=pl.lit(["jazz", "pop"])
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked_before", [False, True])
def test_changed_candidates_are_those_of_a_recommender_built_of_them(kind, asked_before):
    recommender, new = serve(kind), changes(3)
    if asked_before:
        recommender.recommend("u1")
        recommender.similar(PLAYS["song"][0])
    changed = recommender.with_changed_candidates(new)
    whole = TABLE.update(new, on="song")
    assert changed.candidates.equals(whole)
    assert recommender.candidates.equals(TABLE)
    if kind == "baseline":
        built = rr.Recommender(recommender.baseline, catalogue=whole, history=PLAYS, time="time")
    else:
        built = rr.Recommender(
            retrieval=recommender.retrieval, ranking=recommender.ranking, space=recommender.space, catalogue=whole,
            history=PLAYS, num_retrieved=recommender.num_retrieved, progress=False,
        )  # fmt: skip
    requests = [Request({"user": user}, k=60, exclude_seen=False) for user in [*KNOWN, "somebody"]]
    requests += [Request({"user": "u1"}, where="year > 1990 AND artist = 'other'"), Request({}, history=["s1", "s2"])]
    assert same_lists(changed.recommend_many(requests), built.recommend_many(requests))
    alike = PLAYS["song"][0]
    torch.testing.assert_close(
        torch.tensor(changed.similar(alike, k=59)["score"].to_list()),
        torch.tensor(built.similar(alike, k=59)["score"].to_list()),
    )
    larger = changed.with_candidates(new.head(1).with_columns(song=pl.lit("new")))
    assert larger.candidates.height == SONGS + 1
    assert "new" in larger.similar(alike, k=60)["song"]
    back = changed.with_changed_candidates(TABLE.filter(pl.col("song").is_in(new["song"])))
    assert same_lists(back.recommend_many(requests), recommender.recommend_many(requests))


def test_changed_candidates_of_a_faiss_index():
    pytest.importorskip("faiss")
    recommender = made("two towers")
    embeddings = recommender.retrieval.embed_candidates(recommender.catalogue.batch)
    index = rr.index.Faiss(embeddings, recommender.catalogue.keys, factory="IVF4,Flat", effort=4)
    served = rr.Recommender(
        retrieval=recommender.retrieval, space=recommender.space, catalogue=TABLE, history=PLAYS, index=index
    )
    changed, expected = (one.with_changed_candidates(changes(4)) for one in (served, recommender))
    for one, other in ((changed, expected), (changed.with_unavailable(["s3"]), expected.with_unavailable(["s3"]))):
        found = one.recommend("u1", k=60)
        assert found["song"].to_list() == other.recommend("u1", k=60)["song"].to_list()


@pytest.mark.parametrize("kind", ["two towers", "baseline"])
def test_rows_that_change_nothing_that_is_known_are_refused(kind):
    recommender = made(kind)
    with pytest.raises(DataError, match=r"row 1 of changed candidates: expected keys of candidates, got 'new'"):
        recommender.with_changed_candidates(TABLE.head(2).with_columns(song=pl.Series(["s1", "new"])))
    with pytest.raises(DataError, match=r"row 1 of changed candidates: expected distinct keys, got 's1' again"):
        recommender.with_changed_candidates(TABLE.head(2).with_columns(song=pl.Series(["s1", "s1"])))
    with pytest.raises(DataError, match="year"):
        recommender.with_changed_candidates(TABLE.drop("year"))
    with pytest.raises(DataError, match="cast them"):
        recommender.with_changed_candidates(TABLE.with_columns(pl.col("year").cast(pl.String)))
    with pytest.raises(DataError, match="null"):
        recommender.with_changed_candidates(TABLE.head(1).with_columns(song=pl.lit(None, pl.String)))
    same = recommender.with_changed_candidates(TABLE.clear())
    assert same.recommend("u1").equals(recommender.recommend("u1"))
