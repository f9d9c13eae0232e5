"""A ranking model gives a candidate of a query one score, whatever else was asked for."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.ops.dense import has_independent_rows

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

USERS, SONGS, RETRIEVED = 12, 60, 10


class AboveUsual(rr.core.Configurable, rr.Model):
    """How far retrieval is above what is usual in the standard list, and the place there."""

    features = rr.models.PAIR_COLUMNS

    def forward(self, batch):
        score, owner = batch["retrieval_score"], batch["list"]
        standard = batch["is_standard"].float()
        sums = torch.zeros(int(owner.max()) + 1, 2).index_add(
            0, owner, torch.stack([score * standard, standard], dim=1)
        )
        return score - (sums[:, 0] / sums[:, 1])[owner] - 0.01 * batch["retrieval_rank"]

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


@pytest.fixture(scope="module", params=["reranker", "another model"])
def recommender(request, with_and_without_kernels):
    rng = np.random.default_rng(0)
    plays = [(f"u{u}", f"s{s}", t) for u in range(USERS) for t, s in enumerate(rng.choice(SONGS, 8, replace=False))]
    history = pl.DataFrame(plays, schema=["user", "song", "time"], orient="row")
    songs = pl.DataFrame({"song": [f"s{s}" for s in range(SONGS)], "year": rng.integers(1960, 2020, SONGS)})
    names = {"user": rr.features.Categorical(), "song": rr.features.Categorical(), "year": rr.features.Normalized()}
    recent = rr.data.with_recent_candidates(history, query="user", candidate="song", time="time", length=5)
    space = rr.FeatureSpace({**names, "recent": rr.features.Recent("song")}).fit(recent.join(songs, on="song"))
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"]), rr.models.Tower(space, ["song", "year"]), rr.tasks.Retrieval()
    )
    ranking = AboveUsual()
    if request.param == "reranker":
        ranking = rr.models.Reranker(space, ["user", "song", "year"], candidate_id="song", recent="recent")
        for weight in ranking.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        catalogue = space.catalogue(songs, key="song")
        seen = rr.features.History(history, catalogue, query="user", candidate="song")
        rows = seen[seen.queries]
        ranking.co_occurrence.fit(rr.Jagged(catalogue.batch["song"][rows.values], rows.offsets))
    return rr.Recommender(
        retrieval=model, ranking=ranking, space=space, catalogue=songs, history=history, num_retrieved=RETRIEVED
    )


def request_of(user, draw):
    keys = [f"s{s}" for s in range(SONGS)]
    return rr.recommender.Request(
        {"user": user},
        k=draw(st.sampled_from([1, 3, RETRIEVED, RETRIEVED + 1, 25, 1000])),
        exclude_seen=draw(st.booleans()),
        where=draw(st.sampled_from([None, pl.col("year") < 1980, pl.col("year") > 2000])),
        allow=draw(st.none() | st.lists(st.sampled_from(keys), min_size=1, max_size=30).map(tuple)),
        deny=draw(st.lists(st.sampled_from(keys), max_size=5)),
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_score_depends_on_its_query_and_its_candidate_alone(recommender, data):
    users = data.draw(st.lists(st.sampled_from([f"u{u}" for u in range(USERS)]), min_size=1, max_size=4, unique=True))
    requests = [request_of(user, data.draw) for user in users]
    whole = recommender.recommend_many(pl.DataFrame({"user": users}), k=SONGS, exclude_seen=False)
    score = {(user, song): value for user, song, value in whole.select("user", "song", "score").rows()}
    assert len(score) == len(users) * SONGS
    found = recommender.recommend_many(requests)
    expected = [score[pair] for pair in found.select("user", "song").rows()]
    if has_independent_rows():
        assert found["score"].to_list() == expected
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-5)
    for request in requests:
        alone = recommender.recommend(
            request.query, request.k, exclude_seen=request.exclude_seen, where=request.where, allow=request.allow,
            deny=request.deny,
        )  # fmt: skip
        assert alone["score"].is_sorted(descending=True)
        among = found.filter(user=request.query["user"])
        if has_independent_rows():  # otherwise scores alone and among others differ by rounding, and so may near ties
            assert alone["song"].to_list() == among["song"].to_list()
        np.testing.assert_allclose(alone["score"], among["score"], rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_standard_list(recommender):
    """The candidates that every request begins with are scored as if nothing else had been retrieved."""
    users = pl.DataFrame({"user": [f"u{u}" for u in range(USERS)]})
    retrieved = recommender.without_ranking().recommend_many(users, k=RETRIEVED)
    ranked = recommender.recommend_many(users, k=RETRIEVED)
    assert (
        ranked.select("user", "song").sort("user", "song").equals(retrieved.select("user", "song").sort("user", "song"))
    )
    space, catalogue = recommender.space, recommender.catalogue
    lists = rr.models.Candidates(
        retrieved["score"].to_torch().view(-1, RETRIEVED),
        torch.from_numpy(np.asarray(catalogue.rows(retrieved["song"]))).view(-1, RETRIEVED),
    )
    needed = [name for name in recommender.ranking.features if name in space.schema and name not in catalogue.batch]
    queries = (
        space.transform(recommender.queries.table, features=needed)
        if needed
        else rr.Batch({"user": torch.zeros(USERS)})
    )
    with torch.inference_mode():
        scores = recommender.ranking(rr.models.pair_batch(queries, catalogue.batch, lists)).view(-1, RETRIEVED)
    expected = retrieved.with_columns(pl.Series("expected", scores.flatten().numpy()))
    both = ranked.join(expected, on=["user", "song"])
    np.testing.assert_allclose(both["score"], both["expected"], rtol=1e-4, atol=1e-5)
