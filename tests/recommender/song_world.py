"""A small world of users and songs, served in every way there is, and requests of every kind."""

import numpy as np
import polars as pl
import torch
from hypothesis import strategies as st

import retrank as rr

__all__ = ["KINDS", "KNOWN", "RETRIEVED", "SONGS", "requests", "serve"]

USERS, SONGS, RETRIEVED = 12, 60, 10
KNOWN = [f"u{u}" for u in range(USERS)]
KEYS = [f"s{s}" for s in range(SONGS)]
KINDS = ["two towers", "reranker", "another ranking model", "baseline"]


class AboveUsual(rr.core.Configurable, rr.Model):
    """How far retrieval is above what is usual in the standard list, and the place there."""

    features = rr.models.PAIR_COLUMNS

    def forward(self, batch):
        score, owner = batch["retrieval_score"], batch["list"]
        standard = batch["is_standard"].float()
        sums = torch.zeros(int(owner.max()) + 1, 2).index_add(
            0, owner, torch.stack([score * standard, standard], dim=1)
        )
        return score - (sums[:, 0] / sums[:, 1].clamp(min=1))[owner] - 0.01 * batch["retrieval_rank"]

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


def tables():
    rng = np.random.default_rng(0)
    plays = [
        (f"u{u}", f"s{s}", 20.0 + u, t) for u in range(USERS) for t, s in enumerate(rng.choice(SONGS, 8, replace=False))
    ]
    history = pl.DataFrame(plays, schema=["user", "song", "age", "time"], orient="row")
    genres = [["rock", "jazz", "folk", "pop"][: 1 + s % 3] if s % 7 else None for s in range(SONGS)]
    songs = {
        "song": KEYS,
        "year": rng.integers(1960, 2020, SONGS),
        "genres": genres,
        "artist": [f"a{s % 9}" for s in range(SONGS)],
    }
    return history, pl.DataFrame(songs)


def serve(kind):
    """Build one of `KINDS`; its models are not trained."""
    history, songs = tables()
    if kind == "baseline":
        baseline = rr.baselines.ItemKNN().fit(history, query="user", candidate="song", time="time")
        return rr.Recommender(baseline, catalogue=songs, history=history, time="time")
    recent = rr.data.with_recent_candidates(history, query="user", candidate="song", time="time", length=5)
    kinds = rr.features
    names = {"user": kinds.Categorical(), "song": kinds.Categorical(), "age": kinds.Normalized(fill=30.0)}
    names |= {"year": kinds.Normalized(), "recent": kinds.Recent("song")}
    space = rr.FeatureSpace(names).fit(recent.join(songs, on="song"))
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age", "recent"]), rr.models.Tower(space, ["song", "year"]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    ranking = None
    if kind == "another ranking model":
        ranking = AboveUsual()
    elif kind == "reranker":
        ranking = rr.models.Reranker(space, ["user", "age", "song", "year"], candidate_id="song", recent="recent")
        for weight in ranking.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        catalogue = space.catalogue(songs, key="song")
        seen = rr.features.History(history, catalogue, query="user", candidate="song")
        rows = seen[seen.queries]
        ranking.co_occurrence.fit(rr.Jagged(catalogue.batch["song"][rows.values], rows.offsets))
    return rr.Recommender(
        retrieval=model, ranking=ranking, space=space, catalogue=songs, history=history, num_retrieved=RETRIEVED,
        progress=False,
    )  # fmt: skip


@st.composite
def requests(draw, brings_features=True):
    """Draw a request: known and unknown, plain and with rules, some with features of their own, some refused."""
    key = draw(st.sampled_from([*KNOWN, "stranger"]))
    query = {"user": key}
    if draw(st.integers(0, 3)) == 0 and brings_features:
        brought = {"age": st.sampled_from([10.0, 44, None]), "recent": st.lists(st.sampled_from(KEYS), max_size=3)}
        names = draw(st.sets(st.sampled_from(["age", "recent"])))
        query |= {name: draw(brought[name]) for name in sorted(names)}
    if draw(st.integers(0, 15)) == 0:
        wrong = [{"user": 7}, {}, {"user": "u1", "size": 3}]
        query = draw(st.sampled_from([*wrong, {"user": "u1", "age": "old"}] if brings_features else wrong))
    if draw(st.booleans()):
        return rr.recommender.Request(query, k=draw(st.sampled_from([1, 3, RETRIEVED])))
    return rr.recommender.Request(
        query,
        k=draw(st.sampled_from([1, 3, RETRIEVED, RETRIEVED + 1, 25, 1000])),
        exclude_seen=draw(st.booleans()),
        where=draw(st.sampled_from([None, None, "year < 1980", pl.col("year") > 2000, "yeer > 3"])),
        allow=draw(st.none() | st.lists(st.sampled_from(KEYS), min_size=1, max_size=30)),
        deny=draw(st.lists(st.sampled_from(KEYS), max_size=5)),
    )
