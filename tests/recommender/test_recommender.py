import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import ConfigError, DataError, StorageError

USERS, SONGS = 70, 150


def make_tables():
    rng = np.random.default_rng(0)
    age, genre = rng.integers(10, 70, USERS), rng.integers(0, 4, SONGS)
    fits = (age[:, None] // 16 == genre[None, :]).astype(float)
    appeal = 3 * fits + rng.gumbel(size=(USERS, SONGS))
    plays = [(f"u{u}", f"s{s}") for u in range(USERS) for s in np.argsort(-appeal[u])[:12]]
    table = pl.DataFrame(plays, schema=["user", "song"], orient="row")
    users = pl.DataFrame({"user": [f"u{u}" for u in range(USERS)], "age": age})
    songs = pl.DataFrame(
        {
            "song": [f"s{s}" for s in range(SONGS)],
            "genre": [["rock", "jazz", "folk", "pop"][g] for g in genre],
            "year": rng.integers(1960, 2020, SONGS),
        }
    )
    return table.sample(fraction=1, shuffle=True, seed=1).join(users, on="user", maintain_order="left"), songs


class Ranker(rr.core.Configurable, rr.Model):
    """Prefers new songs, and what retrieval liked."""

    features = ("genre", "year", "age", rr.models.RETRIEVAL_SCORE)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.001, 0.5]))

    def forward(self, batch):
        year, age = batch["year"], batch["age"]
        return year * self.weight[0] + self.weight[1] * batch["retrieval_score"] + 1e-9 * age

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def build(tables, ranking=None, **arguments):
    plays, songs = tables
    space = rr.FeatureSpace(
        {
            "user": rr.features.Categorical(),
            "age": rr.features.Bucketized(boundaries=[16, 32, 48, 64]),
            "song": rr.features.Categorical(),
            "genre": rr.features.Categorical(),
            "year": rr.features.Passthrough(),
        }
    )
    space.fit(plays.join(songs, on="song"))
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age"], layers=[8]),
        rr.models.Tower(space, ["song", "genre"], layers=[8], unknown_rate=0.1),
        rr.tasks.Retrieval(remove_accidental_hits=True),
    )
    loader = space.loader(plays.join(songs, on="song"), batch_size=128, shuffle=True)
    model.fit(loader, optimizer=rr.optim.LazyAdam(lr=0.02), epochs=6, progress=False)
    return rr.Recommender(
        retrieval=model, ranking=ranking, space=space, catalogue=songs, history=plays, num_retrieved=30, **arguments
    )


@pytest.fixture(scope="module")
def one_stage(tables):
    return build(tables)


@pytest.fixture(scope="module")
def two_stage(tables):
    return build(tables, Ranker())


@pytest.fixture(params=["one_stage", "two_stage"])
def recommender(request):
    return request.getfixturevalue(request.param)


def everyone(tables):
    return tables[0].select("user").unique(maintain_order=True)


def test_lists_are_unseen_complete_and_sorted(recommender, tables):
    lists = recommender.recommend_many(everyone(tables), k=5)
    assert lists.columns == ["user", "song", "rank", "score", "stage"]
    assert lists.join(tables[0], on=["user", "song"], how="semi").is_empty()
    assert lists.group_by("user").len()["len"].to_list() == [5] * USERS
    for _, mine in lists.group_by("user"):
        assert mine["rank"].to_list() == [1, 2, 3, 4, 5]
        assert mine["score"].is_sorted(descending=True)


def test_retrieval_finds_what_users_like(one_stage, tables):
    lists = one_stage.recommend_many(everyone(tables), k=5)
    told = lists.join(tables[1], on="song").join(tables[0].unique("user"), on="user")
    index = {"rock": 0, "jazz": 1, "folk": 2, "pop": 3}
    fits = told.filter(pl.col("age") // 16 == pl.col("genre").replace_strict(index)).height / told.height
    assert fits > 0.6  # by chance 0.25


def test_one_and_many_agree(recommender, tables):
    keys = everyone(tables).head(40).vstack(pl.DataFrame({"user": ["stranger"]}))
    many = recommender.recommend_many(keys, k=7)
    for user in keys["user"]:
        one = recommender.recommend({"user": user}, k=7)
        assert same_lists(many.filter(user=user).drop("user"), one.select("song", "rank", "score", "stage"))


def test_ranking_orders_what_retrieval_found(two_stage, one_stage, tables):
    users = everyone(tables).head(5)
    retrieved = one_stage.recommend_many(users, k=30)
    ranked = two_stage.recommend_many(users, k=30)
    assert set(retrieved.select("user", "song").rows()) == set(ranked.select("user", "song").rows())
    assert set(ranked["stage"]) == {"ranking"}
    both = ranked.join(retrieved, on=["user", "song"], suffix=" retrieved").join(tables[1], on="song")
    expected = both["year"] * 0.001 + 0.5 * both["score retrieved"]
    np.testing.assert_allclose(both["score"], expected, rtol=1e-5)


def test_strangers_get_popular_songs(recommender, tables):
    plays, _ = tables
    counts = plays.group_by("song").len().sort("len", descending=True)
    lists = recommender.recommend({"user": "stranger"}, k=3)
    assert lists["stage"].to_list() == ["popularity"] * 3
    assert lists["score"].to_list() == counts["len"].head(3).to_list()


def test_strangers_with_features_are_embedded(recommender):
    young, old = ({"user": "stranger", "age": age} for age in (20, 60))
    first, second = recommender.recommend(young, k=10), recommender.recommend(old, k=10)
    assert "popularity" not in first["stage"].to_list()
    assert first["song"].to_list() != second["song"].to_list()


def test_filters_hold(recommender, tables):
    plays, songs = tables
    allowed = songs.filter(pl.col("year") >= 2000)["song"].to_list()
    for query in ({"user": "u3"}, {"user": "stranger"}):
        lists = recommender.recommend(query, k=150, where=pl.col("year") >= 2000, deny=allowed[:3])
        seen = plays.filter(user=query["user"])["song"].to_list()
        assert len(lists) == len(set(allowed[3:]) - set(seen))
        assert set(lists["song"]) == set(allowed[3:]) - set(seen)
        assert set(recommender.recommend(query, k=9, allow=allowed[:4], exclude_seen=False)["song"]) == set(allowed[:4])
        assert recommender.recommend(query, k=9, where=pl.col("year") > 3000).is_empty()


def test_seen_songs_can_stay(one_stage, tables):
    kept = one_stage.recommend({"user": "u5"}, k=150, exclude_seen=False)
    assert set(kept["song"]) == set(tables[1]["song"])


def test_details_of_the_catalogue_come_along(recommender):
    lists = recommender.recommend({"user": "u1"}, k=2)
    assert lists.columns == ["rank", "song", "score", "stage", "genre", "year"]


def test_new_songs_are_scored_by_their_features(tables):
    old = build(tables)
    before = old.recommend({"user": "u1"}, k=9)
    recommender = old.with_candidates(pl.DataFrame({"song": ["new"], "genre": ["rock"], "year": [2024]}))
    everywhere = recommender.recommend_many(everyone(tables), k=len(recommender.catalogue))
    assert everywhere.filter(song="new").height == USERS
    young = recommender.recommend({"user": "x", "age": 12}, k=151).filter(song="new")["rank"][0]
    late = recommender.recommend({"user": "x", "age": 60}, k=151).filter(song="new")["rank"][0]
    assert young < late
    for song, year in (("new", 2024), ("newer", "2025")):
        with pytest.raises(DataError, match="new"):
            recommender.with_candidates(pl.DataFrame({"song": [song], "genre": ["rock"], "year": [year]}))
    assert old.recommend({"user": "u1"}, k=9).equals(before)
    assert len(old.catalogue) == SONGS
    again = recommender.without_candidates(["new"])
    assert again.recommend({"user": "u1"}, k=9).equals(before)


def test_removed_songs_are_gone_for_everyone(recommender, tables):
    listed = recommender.recommend({"user": "u1"}, k=2)["song"].to_list()
    popular = recommender.recommend({"user": "stranger"}, k=2)["song"].to_list()
    less = recommender.without_candidates([*listed, *popular])
    lists = less.recommend_many(pl.DataFrame({"user": ["u1", "u2", "stranger"]}), k=SONGS)
    assert not set(lists["song"]) & {*listed, *popular}
    fewer = recommender.recommend_many(pl.DataFrame({"user": ["u1"]}), k=30, deny=[*listed, *popular])
    if recommender.ranking is None:
        assert less.recommend_many(pl.DataFrame({"user": ["u1"]}), k=30).equals(fewer)
    with pytest.raises(DataError, match="nothing"):
        recommender.without_candidates(["nothing"])
    with pytest.raises(DataError, match="at least one row"):
        recommender.without_candidates(tables[1]["song"])


def test_bundle_gives_the_same_results(recommender, tables, tmp_path):
    recommender.save(tmp_path / "bundle")
    again = rr.Recommender.load(tmp_path / "bundle")
    keys = everyone(tables).vstack(pl.DataFrame({"user": ["stranger"]}))
    assert again.recommend_many(keys, k=9).equals(recommender.recommend_many(keys, k=9))
    assert again.card == recommender.card
    assert repr(again) == repr(recommender)


def test_bundle_gives_the_same_results_in_another_process(one_stage, tables, tmp_path):
    one_stage.save(tmp_path / "bundle")
    program = (
        "import sys, polars as pl, retrank as rr\n"
        "r = rr.Recommender.load(sys.argv[1])\n"
        "r.recommend_many(pl.read_parquet(sys.argv[2]), k=9).write_parquet(sys.argv[3])\n"
    )
    everyone(tables).write_parquet(tmp_path / "queries.parquet")
    files = [str(tmp_path / name) for name in ("bundle", "queries.parquet", "lists.parquet")]
    subprocess.run([sys.executable, "-c", program, *files], check=True)
    assert pl.read_parquet(files[2]).equals(one_stage.recommend_many(everyone(tables), k=9))


@pytest.mark.parametrize(
    "name",
    ["config.json", "retrieval.safetensors", "history/events.parquet", "features/space.json", "index/manifest.json"],
)
def test_damaged_bundles_are_refused(one_stage, tmp_path, name):
    one_stage.save(tmp_path / "bundle")
    file = next((tmp_path / "bundle").rglob(name.split("/")[-1]))
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), None):
        file.unlink(missing_ok=True) if damaged is None else file.write_bytes(damaged)
        with pytest.raises(StorageError, match=file.name):
            rr.Recommender.load(tmp_path / "bundle")


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(StorageError, match=r"manifest\.json"):
        rr.Recommender.load(tmp_path)


def test_a_failed_save_leaves_the_old_bundle(one_stage, tmp_path, monkeypatch):
    one_stage.save(tmp_path / "bundle")
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(type(one_stage.index), "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StorageError, match="bundle.*disk full"):
        one_stage.save(tmp_path / "bundle")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    rr.Recommender.load(tmp_path / "bundle")


def test_bad_queries_are_refused(one_stage):
    with pytest.raises(ConfigError, match="k >= 1"):
        one_stage.recommend({"user": "u1"}, k=0)
    with pytest.raises(DataError, match="'user'"):
        one_stage.recommend({"usr": "u1"})
    with pytest.raises(DataError, match="string key"):
        one_stage.recommend({"user": 1})
    with pytest.raises(DataError, match="'agee'"):
        one_stage.recommend({"user": "u1", "agee": 30})
    for k in (2.0, True, "3"):
        with pytest.raises(ConfigError, match="integer k"):
            one_stage.recommend({"user": "u1"}, k=k)
    with pytest.raises(DataError, match="where"):
        one_stage.recommend({"user": "u1"}, where=pl.col("nothing"))


def test_bad_recommenders_are_refused(tables):
    class Silent(rr.Model):
        def compute_loss(self, batch, training=False):
            return torch.zeros(())

    with pytest.raises(ConfigError, match="features"):
        build(tables, Silent())
    with pytest.raises(ConfigError, match="num_retrieved"):
        rr.Recommender(
            retrieval=build(tables).retrieval, space=None, catalogue=tables[1], history=tables[0], num_retrieved=0
        )


def test_no_queries_give_no_rows(one_stage):
    lists = one_stage.recommend_many(pl.DataFrame(schema={"user": pl.String}))
    assert lists.is_empty()
    assert lists.columns == ["user", "song", "rank", "score", "stage"]


def test_a_stranger_gets_popular_songs_even_if_only_the_key_is_needed(tables):
    plays, songs = tables
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
    assert set(recommender.recommend({"user": "stranger"})["stage"]) == {"popularity"}
    assert set(recommender.recommend({"user": "u1"})["stage"]) == {"retrieval"}


def test_nothing_done_to_what_it_was_built_from_reaches_it(tables):
    plays, songs = tables
    made = build(tables, Ranker())
    space = rr.FeatureSpace(
        {
            "user": rr.features.Categorical(),
            "age": rr.features.Bucketized(boundaries=[16, 32, 48, 64]),
            "song": rr.features.Categorical(),
        }
    ).fit(plays)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age"], layers=[8]),
        rr.models.Tower(space, ["song"], layers=[8]),
        rr.tasks.Retrieval(),
    ).train()
    recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
    before = recommender.recommend_many(everyone(tables), k=9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight))
    space.grow(pl.DataFrame({"user": ["someone"], "song": ["s0"]}), ["user", "song"])
    model.query.embeddings["user"].grow(space.schema["user"].num_ids + 5)
    assert model.training
    assert recommender.recommend_many(everyone(tables), k=9).equals(before)
    assert not recommender.retrieval.training
    with pytest.raises(ConfigError, match="frozen"):
        recommender.space.grow(plays)
    with pytest.raises(ConfigError, match="frozen"):
        recommender.space.fit(plays)
    assert made.without_ranking().ranking is None
    assert made.ranking is not None


def test_a_space_that_outgrew_the_model_is_refused_at_once(tables):
    plays, songs = tables
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    space.grow(pl.DataFrame({"user": ["someone"], "song": ["s0"]}))
    with pytest.raises(DataError, match="user"):
        rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)


def test_an_index_of_other_candidates_is_refused(one_stage, tables):
    with pytest.raises(ConfigError, match="index"):
        rr.Recommender(
            retrieval=one_stage.retrieval, space=one_stage.space, catalogue=tables[1].reverse(), history=tables[0],
            index=one_stage.index,
        )  # fmt: skip


def test_columns_that_would_be_mistaken_are_refused(one_stage, tables):
    plays, songs = tables
    parts = {"retrieval": one_stage.retrieval, "space": one_stage.space, "history": plays}
    with pytest.raises(DataError, match="'score'"):
        rr.Recommender(**parts, catalogue=songs.with_columns(score=1.0))
    with pytest.raises(ConfigError, match="'age'"):
        rr.Recommender(**parts, catalogue=songs.with_columns(age=pl.lit(3)))
    with pytest.raises(DataError, match="catalogue"):
        rr.Recommender(**parts, catalogue=songs.clear())


def test_a_ranking_that_is_not_finite_is_refused(two_stage, tables):
    ranker = Ranker()
    ranker.weight.data[0] = torch.nan
    broken = build(tables, ranker)
    with pytest.raises(DataError, match="ranking model"):
        broken.recommend({"user": "u1"})
