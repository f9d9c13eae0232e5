"""A small world of viewers and films whose taste can be learned: viewers like films of their own parity."""

import numpy as np
import polars as pl
import torch

import retrank as rr

NUM_USERS, NUM_MOVIES = 12, 10


def movies() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "movie_id": [f"m{i}" for i in range(NUM_MOVIES)],
            "genres": [["even"] if i % 2 == 0 else ["odd", "rare"] if i == 3 else ["odd"] for i in range(NUM_MOVIES)],
            "title": [f"film number {i}" for i in range(NUM_MOVIES)],
            "year": [float(1990 + i) for i in range(NUM_MOVIES)],
        }
    )


def views(num_rows: int = 240, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    user = rng.integers(NUM_USERS, size=num_rows)
    movie = 2 * rng.integers(NUM_MOVIES // 2, size=num_rows) + user % 2
    rated = pl.DataFrame(
        {
            "user_id": user,
            "age": 20.0 + user,
            "movie_id": [f"m{i}" for i in movie],
            "rating": rng.integers(1, 6, size=num_rows).astype(float),
        }
    )
    return rated.join(movies(), on="movie_id", maintain_order="left")


def space() -> rr.FeatureSpace:
    return rr.FeatureSpace(
        {
            "user_id": rr.features.Categorical(),
            "age": rr.features.Discretized(bins=4),
            "movie_id": rr.features.Categorical(),
            "genres": rr.features.CategoricalList(),
            "title": rr.features.Text(max_tokens=50, max_length=4),
            "year": rr.features.Rescaled(scale=0.1, offset=-199.0),
            "rating": rr.features.Passthrough(),
        },
        crosses=[rr.features.Cross("user_id", "age", bins=20)],
    ).fit(views())


def two_tower(fitted: rr.FeatureSpace, task: rr.tasks.Retrieval | None = None, **kwargs) -> rr.models.TwoTower:
    torch.manual_seed(1)
    return rr.models.TwoTower(
        rr.models.Tower(fitted, ["user_id", "age"], layers=[16, 8], dim=8),
        rr.models.Tower(fitted, ["movie_id", "genres", "year"], layers=[16, 8], dim=8),
        rr.tasks.Retrieval() if task is None else task,
        **kwargs,
    )
