"""A small world with a feature of every kind, and recommenders of it; nothing is trained."""

import datetime as dt

import numpy as np
import polars as pl
import torch

import retrank as rr

__all__ = ["KEYS", "KNOWN", "QUERY_KINDS", "draw_query", "serve", "space_of", "tables"]

USERS, SONGS = 40, 90
KNOWN = [f"u{u}" for u in range(USERS)]
KEYS = [f"s{s}" for s in range(SONGS)]
WORDS = ["Blue", "blue.", "sky", "Über", "night!", "and", "DAY", "river\u2003road", "a-b"]
kinds = rr.features

QUERY_KINDS = {
    "user": kinds.Categorical(),
    "age": kinds.Discretized(4, fill=30.0),
    "income": kinds.Normalized(),
    "stars": kinds.Rescaled(0.5, 1.0),
    "visits": kinds.Log(),
    "level": kinds.Bucketized([1.0, 2.5], column="stars"),
    "taste": kinds.Passthrough(),
    "bio": kinds.Text(ngrams=2, weights="tf_idf", nulls="unknown"),
    "motto": kinds.BagOfWords(6, output="count", column="bio", nulls="unknown"),
    "tags": kinds.CategoricalList(separator="|", nulls="unknown"),
    "likes": kinds.CategoricalList(weights="shares"),
    "site": kinds.Hashed(20),
    "device": kinds.Hashed(7),
    "hour": kinds.TimestampPart("hour", column="joined"),
    "weekday": kinds.TimestampPart("weekday", column="joined"),
    "month": kinds.TimestampPart("month", column="born"),
    "epoch": kinds.TimestampPart("hour_of_week", unit="ms"),
    "member": kinds.Categorical(nulls="unknown"),
    "recent": kinds.Recent("song", decay=0.1, power=0.5),
    "seen": kinds.Seen("song"),
}
CANDIDATE_KINDS = {
    "song": kinds.Categorical(),
    "year": kinds.Normalized(),
    "genres": kinds.CategoricalList(),
    "title": kinds.Text(max_length=3),
}
CROSSES = [kinds.Cross("age", "site", bins=11)]


def features_of(rng):
    """Draw the features of one query."""
    likes = rng.choice(KEYS[:8], rng.integers(0, 4), replace=False).tolist()
    day = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=int(rng.integers(0, 600_000)))
    return {
        "age": float(rng.integers(8, 80)),
        "income": float(rng.normal(1000, 300)),
        "stars": float(rng.uniform(0, 4)),
        "visits": int(rng.integers(0, 1000)),
        "taste": rng.normal(size=3).round(3).tolist(),
        "bio": None if rng.random() < 0.1 else " ".join(rng.choice(WORDS, rng.integers(0, 6))),
        "tags": None if rng.random() < 0.1 else "|".join(rng.choice(["x", " y", "z ", "", "new"], rng.integers(0, 4))),
        "likes": likes,
        "shares": rng.uniform(0, 1, len(likes)).round(3).tolist(),
        "site": str(rng.choice(["a.org", "bücher.example", "c", "a-very-long-name.example.net"])),
        "device": int(rng.integers(-5, 50)),
        "joined": day,
        "born": day.date(),
        "epoch": int(day.timestamp() * 1000),
        "member": None if rng.random() < 0.2 else bool(rng.random() < 0.5),
    }


def tables():
    """Return the history with the features of queries, and the songs."""
    rng = np.random.default_rng(0)
    rows = []
    for user in KNOWN:
        own = features_of(rng)
        plays = rng.choice(SONGS, rng.integers(1, 12), replace=False)
        rows += [{"user": user, "song": f"s{song}", "time": int(place), **own} for place, song in enumerate(plays)]
    songs = {
        "song": KEYS,
        "year": rng.integers(1960, 2020, SONGS),
        "genres": [["rock", "jazz", "folk", "pop"][: s % 5] for s in range(SONGS)],
        "title": [" ".join(rng.choice(WORDS, s % 6)) for s in range(SONGS)],
    }
    schema = {"member": pl.Boolean, "joined": pl.Datetime("us", "Europe/Berlin")}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None), pl.DataFrame(songs)


def space_of(history, songs):
    """Fit a space with every kind."""
    rows = rr.data.with_recent_candidates(history, query="user", candidate="song", time="time", length=8)
    rows = rows.with_columns(seen=pl.col("recent")).join(songs, on="song")
    return rr.FeatureSpace({**QUERY_KINDS, **CANDIDATE_KINDS}, crosses=CROSSES).fit(rows, progress=False)


def serve(ranking=None, **options):
    """Build a recommender: ranked by nothing, by a `"reranker"`, or by `"dlrm"`."""
    history, songs = tables()
    space = space_of(history, songs)
    torch.manual_seed(0)
    query = [name for name in space.names if name not in CANDIDATE_KINDS]
    model = rr.models.TwoTower(
        rr.models.Tower(space, query, layers=[16, 8], dim=4, residual="recent"),
        rr.models.Tower(space, list(CANDIDATE_KINDS), layers=[16, 8], dim=4, residual="song"),
        rr.tasks.Retrieval(), normalize=True, tie_residuals=True,
    )  # fmt: skip
    made = None
    if ranking == "dlrm":
        ids = {name: rr.EmbeddingTable(space.schema[name], 4) for name in ("site", "recent", "song", "genres")}
        made = rr.models.Ranking(
            rr.EmbeddingCollection(ids), dense_features=[space.schema["income"], space.schema["year"]],
            top_stack=rr.layers.MLP(None, [8, 1]),
        )  # fmt: skip
    elif ranking == "reranker":
        made = rr.models.Reranker(space, ["age", "tags", "year", "genres"], candidate_id="song", recent="recent", dim=4)
        catalogue = space.catalogue(songs, key="song")
        seen = rr.features.History(history, catalogue, query="user", candidate="song")
        rows = seen[seen.queries]
        made.co_occurrence.fit(rr.Jagged(catalogue.batch["song"][rows.values], rows.offsets))
    for weight in [] if made is None else made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return rr.Recommender(
        retrieval=model, ranking=made, space=space, catalogue=songs, history=history, time="time", num_retrieved=20,
        progress=False, **options,
    )  # fmt: skip


def draw_query(rng):
    """Draw a query: known or new, with nothing, some or all of its features, with a history of any length."""
    key = str(rng.choice([*KNOWN, "stranger", "another"]))
    way = rng.integers(0, 4)
    if way == 0:
        return {"user": key}
    own = features_of(rng)
    if rng.random() < 0.5:
        own["recent"] = rng.choice([*KEYS, "unheard"], rng.integers(0, 12), replace=False).tolist()
    if way == 1:
        dropped = set(rng.choice(list(own), 8, replace=False))
        dropped |= {"likes", "shares"} if {"likes", "shares"} & dropped else set()
        own = {name: value for name, value in own.items() if name not in dropped}
    return {"user": key, **own}
