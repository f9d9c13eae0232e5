"""Writes bundles, a checkpoint and indexes in the formats of version 0 (run once with the code of that time)."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch

import retrank as rr


def write(folder):
    torch.set_num_threads(1)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    g = np.random.default_rng(0)
    U, S = 20, 30
    rows = 400
    u, s = g.integers(0, U, rows), g.integers(0, S, rows)
    plays = pl.DataFrame(
        {
            "user": [f"u{x}" for x in u],
            "song": [f"s{x}" for x in s],
            "time": 1_700_000_000 + np.sort(g.integers(0, 10**7, rows)),
            "age": u * 7 % 50 + 18,
        }
    )
    songs = pl.DataFrame(
        {
            "song": [f"s{x}" for x in range(S)],
            "title": [f"Song {x} of {x % 3}" for x in range(S)],
            "genres": [["rock", "pop", "folk"][: 1 + x % 3] for x in range(S)],
            "year": [1960 + x for x in range(S)],
        }
    )
    plays = rr.data.with_recent_candidates(plays, query="user", candidate="song", time="time", length=5)
    latest = rr.data.latest_candidates(plays, query="user", candidate="song", time="time", length=5).join(
        plays.select("user", "age").unique("user", maintain_order=True), on="user", maintain_order="left"
    )
    space = rr.FeatureSpace(
        {
            "user": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=4),
            "recent": rr.features.Recent(of="song", length=5),
            "song": rr.features.Categorical(),
            "title": rr.features.Text(max_tokens=50, max_length=4),
            "genres": rr.features.CategoricalList(),
            "year": rr.features.Normalized(),
        },
        crosses=[rr.features.Cross("user", "age", bins=7)],
    )
    train = plays.join(songs, on="song", maintain_order="left")
    space.fit(train)
    torch.manual_seed(0)
    two = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age", "recent", "user_x_age"], layers=[8, 4], dim=4),
        rr.models.Tower(space, ["song", "title", "genres", "year"], layers=[8, 4], dim=4),
        rr.tasks.Retrieval(temperature=0.1, remove_accidental_hits=True, log_q=True),
        catalogue=space.catalogue(songs, key="song"),
    )
    two.fit(
        space.loader(train, 64, shuffle=True),
        optimizer=rr.optim.LazyAdam(0.02),
        epochs=2,
        progress=False,
        checkpoint=out / "checkpoint",
    )
    ranker = rr.models.Reranker(
        space,
        ["user", "genres", "year", "recent"],
        candidate_id="song",
        recent="recent",
        catalogue=space.catalogue(songs, key="song"),
        layers=[8],
        dim=4,
    )
    with torch.no_grad():
        for p in ranker.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    card = rr.recommender.Card("A small world", data="400 plays")
    rec = rr.Recommender(
        retrieval=two,
        space=space,
        catalogue=songs,
        history=plays,
        queries=latest,
        ranking=ranker,
        num_retrieved=15,
        card=card,
    )
    rec.save(out / "two_stage")
    mf = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], dim=4, task=rr.tasks.Retrieval())
    mf.fit(space.loader(train, 64, shuffle=True), optimizer=rr.optim.Adagrad(0.1), epochs=1, progress=False)
    index = mf.build_index(
        space.catalogue(songs, key="song"), lambda e, k: rr.index.Faiss(e, k, factory="IVF2,Flat", effort=2)
    )
    faiss = rr.Recommender(retrieval=mf, space=space, catalogue=songs, history=plays, index=index)
    faiss.save(out / "faiss")
    exp = {}
    for name, r in (("two_stage", rec), ("faiss", faiss)):
        asked = ("u3", "u7", "nobody")
        exp[name] = [r.recommend({"user": x}, k=5).select("song", "score", "stage").rows() for x in asked]
    exp["checkpoint"] = {
        n: [float(t.double().sum()), float(t.double().square().sum())] for n, t in two.state_dict().items()
    }
    (out / "expected.json").write_text(json.dumps(exp, indent=1))


if __name__ == "__main__":
    write(sys.argv[1])
