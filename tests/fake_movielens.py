"""Files in the layout of MovieLens-100K with invented, learnable ratings, so that tests need no network."""

from pathlib import Path

import numpy as np
import polars as pl

USERS, MOVIES, RATINGS = 943, 1682, 100_000
GENRES = ["Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller", "War"]
WORDS = ["Blue", "City", "Dark", "Empire", "Final", "Golden", "House", "Island", "Last", "Moon", "Night", "Red"]


def write(folder: Path, seed: int = 0) -> None:
    """Write `ml-100k.inter`, `.user` and `.item` with the sizes of the real data set."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(len(GENRES), size=(MOVIES, 2))
    taste = rng.normal(size=(USERS, len(GENRES)))
    liking = taste[:, genre].mean(axis=2) + 0.3 * rng.normal(size=MOVIES)
    appeal = rng.normal(size=MOVIES) * 1.2 + 0.8 * liking + rng.gumbel(size=(USERS, MOVIES))
    per_user = np.full(USERS, RATINGS // USERS)
    per_user[: RATINGS % USERS] += 1
    order = np.argsort(-appeal, axis=1)
    user = np.repeat(np.arange(USERS), per_user)
    movie = np.concatenate([order[u, :n] for u, n in enumerate(per_user)])
    rating = np.clip(np.round(3.5 + liking[user, movie] + 0.5 * rng.normal(size=RATINGS)), 1, 5).astype(int)
    shuffle = rng.permutation(RATINGS)
    time = 874_724_710 + rng.integers(0, 18_000_000, RATINGS)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "user_id:token": user[shuffle] + 1,
        "item_id:token": movie[shuffle] + 1,
        "rating:float": rating[shuffle],
        "timestamp:float": time,
    }
    pl.DataFrame(columns).write_csv(folder / "ml-100k.inter", separator="\t")
    users = {
        "user_id:token": np.arange(1, USERS + 1),
        "age:token": rng.integers(7, 74, USERS),
        "gender:token": rng.choice(["M", "F"], USERS),
        "occupation:token": rng.choice(["student", "engineer", "writer", "other"], USERS),
        "zip_code:token": rng.integers(10_000, 99_999, USERS),
    }
    pl.DataFrame(users).write_csv(folder / "ml-100k.user", separator="\t")
    words = rng.choice(WORDS, size=(MOVIES, 2))
    movies = {
        "item_id:token": np.arange(1, MOVIES + 1),
        "movie_title:token_seq": [f"{a} {b} {i}" for i, (a, b) in enumerate(words)],
        "release_year:token": rng.integers(1930, 1999, MOVIES),
        "class:token_seq": [" ".join(sorted({GENRES[g] for g in row})) for row in genre],
    }
    pl.DataFrame(movies).write_csv(folder / "ml-100k.item", separator="\t")
