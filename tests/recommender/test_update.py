"""`rr.update`: new events are learned, old knowledge is kept, and the same call gives the same bits."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import ConfigError, DataError, StorageError
from retrank.recommender.update_tables import UpdateTables

F = rr.features
NAMES = {"query": "user", "candidate": "song", "time": "time"}
KEYS = list(NAMES.values())
GENRES = 4


def make_plays(users, songs, rows, *, seed, start):
    """Users like songs of their own number modulo the genres."""
    g = np.random.default_rng(seed)
    user = g.integers(0, users, rows)
    song = (g.integers(0, songs // GENRES, rows) * GENRES + user % GENRES) % songs
    return pl.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "song": [f"s{s}" for s in song],
            "time": start + np.sort(g.permutation(100_000)[:rows]),
            "age": 20 + user % GENRES,
        }
    )


def make_songs(first, last):
    return pl.DataFrame({"song": [f"s{s}" for s in range(first, last)], "year": range(first, last)})


plays = make_plays(24, 40, 900, seed=0, start=0)
news = make_plays(32, 60, 600, seed=1, start=100_000)
songs, new_songs = make_songs(0, 40), make_songs(40, 60)
USERS = [f"u{user}" for user in range(32)]


def make_space(table, **more):
    train = rr.data.with_recent_candidates(table, length=5, **NAMES)
    kinds = {"user": F.Categorical(), "song": F.Categorical(), "age": F.Bucketized([21, 22, 23])}
    return rr.FeatureSpace(kinds | {"recent": F.Recent("song"), "year": F.Normalized()} | more).fit(
        train.join(pl.concat([songs, new_songs]), on="song", maintain_order="left")
    )


def two_tower(space, **arguments):
    torch.manual_seed(0)
    return rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age"], layers=[16], residual="recent"),
        rr.models.Tower(space, ["song"], layers=[16], residual="song"),
        rr.tasks.Retrieval(log_q=True, remove_accidental_hits=True, temperature=0.1),
        normalize=True,
        tie_residuals=True,
        **arguments,
    )


def factorization(space, **arguments):
    torch.manual_seed(0)
    return rr.models.MatrixFactorization(
        space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=8, space=space, **arguments
    )


def build(make=two_tower, *, ranking=None, epochs=8, history=plays, **arguments):
    space = make_space(plays)
    catalogue = space.catalogue(songs, key="song")
    model = make(space, catalogue=catalogue)
    train = rr.data.with_recent_candidates(plays, length=5, **NAMES)
    loader = space.loader(train, 64, shuffle=True, features=list(model.features))
    model.fit(loader, optimizer=rr.optim.LazyAdam(0.01), epochs=epochs, progress=False)
    ranker = None if ranking is None else ranking(space, catalogue)
    return rr.Recommender(
        retrieval=model, ranking=ranker, space=space, catalogue=songs, history=history, num_retrieved=20, **arguments
    )


def reranker(space, catalogue):
    torch.manual_seed(0)
    model = rr.models.Reranker(
        space, ["age", "song", "year"], candidate_id="song", catalogue=catalogue, recent="recent", dropout=0.0
    )
    model.co_occurrence.fit(rr.Jagged.from_lists([[2, 3, 4], [2, 3]]))
    for parameter in model.correction.parameters():
        parameter.data += 0.05
    return model


@pytest.fixture(scope="module")
def stale():
    return build()


@pytest.fixture(scope="module")
def updated(stale):
    return rr.update(stale, news, new_songs, optimizer=rr.optim.LazyAdam(0.01), epochs=4)


def lists(recommender, k=8, **arguments):
    return recommender.recommend_many(pl.DataFrame({"user": USERS}), k=k, **arguments)


def share_of_own_genre(recommender, users=USERS, **arguments):
    table = lists(recommender, **arguments).filter(pl.col("user").is_in(users))
    user, song = (table[name].str.slice(1).cast(pl.Int64) for name in ("user", "song"))
    return float((user % GENRES == song % GENRES).mean())


def weights(recommender):
    models = [recommender.retrieval, *([] if recommender.ranking is None else [recommender.ranking])]
    return {(place, name): value for place, model in enumerate(models) for name, value in model.state_dict().items()}


def assert_same(one, other):
    mine, others = weights(one), weights(other)
    assert mine.keys() == others.keys()
    assert all(torch.equal(mine[name], others[name]) for name in mine)
    assert lists(one).equals(lists(other))
    assert one.history.events.table().equals(other.history.events.table())
    assert one.candidates.equals(other.candidates)
    assert one.card == other.card


def test_new_users_and_songs_are_learned(stale, updated):
    new_users = [f"u{user}" for user in range(24, 32)]
    told = stale.with_candidates(new_songs).with_events(news.select(KEYS))
    only = {"k": 5, "exclude_seen": False, "allow": new_songs["song"].to_list()}
    assert share_of_own_genre(told, **only) < 0.5
    assert share_of_own_genre(updated, **only) > 0.9
    assert share_of_own_genre(updated, new_users, exclude_seen=False) > 0.9
    assert share_of_own_genre(updated, exclude_seen=False) > 0.9
    assert updated.space.schema["song"].num_ids == 62
    assert len(updated.catalogue) == updated.index.num_candidates == 60
    assert len(updated.history.events) == 1500


def test_what_it_was_made_of_is_untouched(stale):
    before, shown, events = {name: value.clone() for name, value in weights(stale).items()}, lists(stale), stale.seen
    rr.update(stale, news, new_songs, epochs=1)
    assert all(torch.equal(before[name], value) for name, value in weights(stale).items())
    assert lists(stale).equals(shown)
    assert stale.seen.equals(events)
    assert stale.space.schema["song"].num_ids == 42


def test_the_same_call_gives_the_same_bits_whatever_was_drawn_before(stale, tmp_path):
    stale.save(tmp_path / "bundle")
    arguments = {"new_candidates": new_songs, "epochs": 2, "seed": 3}
    one = rr.update(stale, news, **arguments)
    state = torch.get_rng_state()
    other = rr.update(stale, news, **arguments)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert_same(one, other)
    assert_same(one, rr.update(tmp_path / "bundle", news, **arguments))
    different = rr.update(stale, news, **{**arguments, "seed": 4})
    assert not torch.equal(different.retrieval.candidate.residual.weight, one.retrieval.candidate.residual.weight)


def test_it_is_saved_loaded_and_updated_again(updated, tmp_path):
    updated.save(tmp_path / "bundle")
    loaded = rr.Recommender.load(tmp_path / "bundle")
    assert same_lists(lists(loaded), lists(updated))
    assert loaded.card == updated.card
    later = make_plays(32, 60, 50, seed=2, start=300_000)
    twice = rr.update(loaded, later, epochs=1)
    assert [done["events"] for done in twice.card.facts["updates"]] == [600, 50]
    assert len(twice.history.events) == 1550


def test_keys_without_rows_keep_their_vectors():
    before = build(factorization)
    some = plays.filter(pl.col("user").is_in(["u1", "u2"])).with_columns(time=pl.col("time") + 200_000)
    after = rr.update(before, some, replay=0)
    moved = (before.retrieval.query.weight != after.retrieval.query.weight).any(dim=1)
    ids = before.space.transform(some, ["user"])["user"].unique()
    assert moved.nonzero()[:, 0].tolist() == ids.sort().values.tolist()
    moved = (before.retrieval.candidate.weight != after.retrieval.candidate.weight).any(dim=1)
    ids = before.space.transform(some, ["song"])["song"].unique()
    assert moved.nonzero()[:, 0].tolist() == ids.sort().values.tolist()


def test_a_key_that_is_only_read_as_the_past_of_others_keeps_its_vector(stale):
    some = pl.DataFrame({"user": USERS[:20], "song": ["s1", "s2"] * 10, "age": 20, "time": range(200_000, 200_020)})
    after = rr.update(stale, some, replay=0)
    old, new = (each.retrieval.candidate.residual.weight for each in (stale, after))
    ids = stale.space.transform(some, ["song"])["song"].unique()
    assert (old != new).any(dim=1).nonzero()[:, 0].tolist() == ids.tolist()


def plain_towers(space, **arguments):
    torch.manual_seed(0)
    towers = [rr.models.Tower(space, names, layers=[16]) for names in (["user", "age"], ["song"])]
    return rr.models.TwoTower(*towers, rr.tasks.Retrieval(), **arguments)


def test_a_weight_goes_the_root_of_the_share_of_the_rows_that_taught_it():
    before = build(plain_towers)
    keys = {name: before.space.vocabulary(name).keys for name in ("user", "song")}
    some = news.filter(pl.col(name).is_in(known.implode()) for name, known in keys.items())
    one_step = {"replay": 0, "epochs": 1, "batch_size": len(some), "optimizer": rr.optim.SGD(lr=0.5)}
    after = dict(rr.update(before, some, **one_step).retrieval.named_parameters())

    by_hand = copy.deepcopy(before.retrieval).requires_grad_(True)
    by_hand.compute_loss(before.space.transform(some, list(by_hand.features)), training=True).backward()
    for name, weight in by_hand.named_parameters():
        table = by_hand.get_submodule(name.rpartition(".")[0])
        share = torch.tensor(len(some) / (len(plays) + len(some)))
        if (column := getattr(table, "column", None)) in keys:
            n, old = ([[rows.filter(pl.col(column) == key).height] for key in keys[column]] for rows in (some, plays))
            n, old = torch.tensor([[0], [0], *n]), torch.tensor([[1], [1], *old])
            share = n / (n + old)
        expected = weight - 0.5 * share.sqrt() * weight.grad.to_dense()
        torch.testing.assert_close(after[name], expected)
        assert not torch.equal(after[name], weight)


def test_frequencies_afterwards_are_those_of_all_events(updated):
    counts = dict(pl.concat([plays, news])["song"].value_counts().rows())
    keys = updated.space.vocabulary("song").keys.to_list()
    expected = np.array([counts[key] for key in keys]) / 1500
    assert updated.retrieval.log_q[2:].exp().numpy() == pytest.approx(expected, rel=1e-5)


def test_events_appended_before_are_learned_from_and_not_appended_twice(stale):
    arguments = {"epochs": 1, "replay": 0}
    plain = rr.update(stale.with_candidates(new_songs), news, **arguments)
    told = rr.update(stale.with_candidates(new_songs).with_events(news.select(KEYS)), news, **arguments)
    assert plain.history.events.table().equals(told.history.events.table())
    assert all(torch.equal(value, weights(told)[name]) for name, value in weights(plain).items())
    facts = [recommender.card.facts["updates"][0] for recommender in (plain, told)]
    assert [done["events that were not in the history"] for done in facts] == [600, 0]


def test_a_ranker_is_kept_and_new_keys_are_to_it_as_unknown_ones_were(stale):
    before = build(ranking=reranker, epochs=1)
    after = rr.update(before, news, new_songs, epochs=1)
    old, new = before.ranking.state_dict(), after.ranking.state_dict()
    for name, value in old.items():
        if "co_occurrence" not in name:
            assert torch.equal(new[name][: len(value)] if value.dim() else new[name], value)
    table = after.ranking.embeddings["song"]
    assert torch.equal(table.weight[42:], table.weight[1].expand(20, -1))
    song = {key: place + 2 for place, key in enumerate(after.space.vocabulary("song").keys)}
    together = pl.concat([plays, news]).select("user", "song").unique()
    users = {key: set(group["user"]) for (key,), group in together.group_by("song")}
    cosine = len(users["s0"] & users["s44"]) / (len(users["s0"]) * len(users["s44"])) ** 0.5
    recent = rr.Jagged.from_lists([[song["s0"]]])
    found = after.ranking.co_occurrence(recent, torch.tensor([song["s44"]]))
    assert found[0, 0].item() == pytest.approx(cosine)
    assert lists(after)["stage"].unique().to_list() == ["ranking"]
    trained = rr.update(before, news, new_songs, epochs=1, ranking_epochs=1)
    assert not torch.equal(trained.ranking.retrieval_weight, before.ranking.retrieval_weight)
    assert_same(trained, rr.update(before, news, new_songs, epochs=1, ranking_epochs=1))


def test_features_come_from_the_events_or_from_a_table_of_queries():
    before = build()
    bare = news.drop("age")
    with pytest.raises(
        DataError, match=r"'user', row \d+ of new_events: .*keys of queries that are known, .*new_queri"
    ):
        rr.update(before, bare, new_songs)
    ages = news.select("user", "age").unique("user", maintain_order=True)
    one = rr.update(before, bare, new_songs, ages, epochs=1)
    other = rr.update(before, news, new_songs, epochs=1)
    assert lists(one).equals(lists(other))
    older = ages.with_columns(age=pl.lit(90.0))
    changed = rr.update(before, bare, new_songs, older, epochs=1).queries.stored_table
    assert set(changed.filter(pl.col("user").is_in(older["user"].implode()))["age"]) == {90}
    assert changed["age"].dtype == before.queries.stored_table["age"].dtype


def test_candidates_that_changed_keep_their_places(stale):
    changed = pl.DataFrame({"song": ["s3", "s50"], "year": [2000, 2001]})
    old_news = news.filter(pl.col("song").is_in(songs["song"].implode()))
    after = rr.update(stale, old_news, changed, epochs=1)
    assert after.candidates["song"].to_list() == [*songs["song"], "s50"]
    assert after.candidates["year"].to_list() == [2000 if year == 3 else year for year in range(40)] + [2001]


def test_a_model_without_times_or_features_of_its_own_is_updated():
    space = rr.FeatureSpace({"user": F.Categorical(), "song": F.Categorical()}).fit(plays)
    model = factorization(space)
    before = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays.drop("time"))
    after = rr.update(before, news.select("user", "song"), new_songs, epochs=1)
    assert set(lists(after)["stage"]) == {"retrieval"}
    assert after.history.events.time is None


class NewFirst(rr.core.Configurable, rr.Model):
    features = ("year",)

    def forward(self, batch):
        return batch["year"]

    def compute_loss(self, batch, training=False):
        return batch["year"].mean()


def weighted(space, catalogue):
    return two_tower(space, catalogue=catalogue, weight="age")


def quantized(space, catalogue):
    return rr.embeddings.quantized(two_tower(space, catalogue=catalogue))


def test_what_cannot_be_updated_is_refused(stale, tmp_path):
    refused = [
        (ConfigError, "without row weights", lambda: rr.update(of(weighted), news)),
        (ConfigError, "8 bits", lambda: rr.update(of(quantized), news)),
        (ConfigError, "a Reranker", lambda: rr.update(stale, news, new_songs, ranking_epochs=1)),
        (ConfigError, "a Reranker, .* got NewFirst", lambda: rr.update(of(ranked=True), news, ranking_epochs=1)),
        (ConfigError, "a Recommender", lambda: rr.update(stale.retrieval, news)),
        (ConfigError, "epochs=0", lambda: rr.update(stale, news, epochs=0)),
        (ConfigError, "replay=-1", lambda: rr.update(stale, news, replay=-1)),
        (StorageError, "nothing", lambda: rr.update(tmp_path / "nothing", news)),
        (DataError, "at least one row", lambda: rr.update(stale, news.head(0))),
        (DataError, "'time'", lambda: rr.update(stale, news.drop("time"), new_songs)),
        (DataError, r"'s4\d'|'s5\d'", lambda: rr.update(stale, news)),
        (DataError, "new_candidates", lambda: rr.update(stale, news, new_songs.drop("year"))),
        (DataError, "'year'.* of new_candidates", lambda: rr.update(stale, news, new_songs.cast({"year": pl.String}))),
        (DataError, r"1.5, row 0|row 0", lambda: rr.update(stale, news, halves())),
        (DataError, "s40", lambda: rr.update(stale, news, pl.concat([new_songs, new_songs]))),
        (
            DataError,
            "a number, date or datetime",
            lambda: rr.update(stale, news.with_columns(pl.col("time").cast(pl.String))),
        ),
    ]

    def of(make=None, *, ranked=False):
        space = make_space(plays)
        catalogue = space.catalogue(songs, key="song")
        model = two_tower(space, catalogue=catalogue) if make is None else make(space, catalogue)
        return rr.Recommender(
            retrieval=model, ranking=NewFirst() if ranked else None, space=space, catalogue=songs, history=plays
        )

    def halves():
        return new_songs.with_columns(year=pl.col("year") + 0.5)

    for error, message, call in refused:
        with pytest.raises(error, match=message):
            call()


def test_a_past_needs_times():
    space = make_space(plays)
    latest = rr.data.latest_candidates(plays, length=5, **NAMES)
    queries = latest.join(plays.select("user", "age").unique("user"), on="user")
    before = rr.Recommender(
        retrieval=two_tower(space), space=space, catalogue=songs, history=plays.select("user", "song"), queries=queries
    )
    with pytest.raises(ConfigError, match="a history with times"):
        rr.update(before, news, new_songs)


def test_an_approximate_index_is_built_anew_with_its_settings():
    pytest.importorskip("faiss")
    before = build(factorization)
    index = before.retrieval.build_index(
        before.catalogue, lambda vectors, keys: rr.index.Faiss(vectors, keys, effort=70)
    )
    space = before.space
    approximate = rr.Recommender(retrieval=before.retrieval, space=space, catalogue=songs, history=plays, index=index)
    after = rr.update(approximate, news, new_songs, epochs=1)
    assert isinstance(after.index, rr.index.Faiss)
    assert after.index.effort == 70
    assert after.index.keys.tolist() == after.catalogue.keys.tolist()
    exact = rr.update(before, news, new_songs, epochs=1)
    assert lists(after, k=3)["song"].is_in(lists(exact, k=20)["song"].implode()).mean() > 0.8


events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=30)


def as_table(rows):
    columns = ["user", "song", "time"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return table.with_columns(user="u" + pl.col("user").cast(pl.String), song="s" + pl.col("song").cast(pl.String))


@settings(max_examples=30)
@given(events, events, st.integers(0, 40))
def test_rows_have_what_came_strictly_before_them(old, new, count):
    train, added = as_table(old), as_table(new).unique(maintain_order=True)
    past = rr.data.with_recent_candidates(train, length=3, **NAMES)
    all_songs = pl.DataFrame({"song": [f"s{song}" for song in range(5)]})
    kinds = {"user": F.Categorical(), "song": F.Categorical(), "recent": F.Recent("song", length=3)}
    space = rr.FeatureSpace(kinds).fit(past)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "recent"], layers=[4]), rr.models.Tower(space, ["song"], layers=[4]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    before = rr.Recommender(retrieval=model, space=space, catalogue=all_songs, history=train)
    tables = UpdateTables.of(before, added, None, None, list(model.features))
    kept = added.join(train, on=KEYS, how="anti", maintain_order="left")
    whole = rr.data.with_recent_candidates(pl.concat([train, kept]), length=3, **NAMES)
    # Rows of one time do not see each other, so among these only the order of equal times is left open.
    expected = {(user, song, time): sorted(recent) for user, song, time, recent in whole.select(*KEYS, "recent").rows()}
    for row in tables.rows(added).select(*KEYS, "recent").rows():
        assert len(row[3]) == len(expected[row[:3]])
    latest = tables.rows(added).select(*KEYS, "recent")
    for user, _, time, recent in latest.rows():
        candidates = whole.filter(pl.col("user") == user, pl.col("time") < time).sort("time", maintain_order=True)
        assert recent == candidates["song"].tail(3).to_list()
    drawn = tables.replayed(count, with_past=True, seed=0)
    assert drawn.columns == KEYS
    assert len(drawn.join(added, on=KEYS, how="semi")) == 0
    first = dict(train.group_by("user").agg(pl.col("time").min()).rows())
    assert all(time > first[user] for user, _, time in drawn.rows())
    every = tables.replayed(10**6, with_past=False, seed=1)
    assert sorted(every.rows()) == sorted(train.join(added, on=KEYS, how="anti").rows())
