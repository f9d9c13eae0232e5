"""The data of the workloads, made by NumPy from fixed seeds: every interpreter sees the same."""

import numpy as np

from benchmarks.environments import FOLDER

MOVIELENS = FOLDER / "data" / "movielens.npz"
TEST_ROWS = 20_000
Arrays = dict[str, np.ndarray]


def save_movielens() -> None:
    """Write MovieLens-100K as plain arrays, once; needs retrank."""
    if MOVIELENS.exists():
        return
    import polars as pl

    import retrank as rr

    rows = rr.datasets.movielens_100k().interactions
    genres = rows["genres"].list.join(" ").alias("genres")
    columns = rows.select("user_id", "movie_id", "age", "gender", "occupation", "title", genres, "rating")
    MOVIELENS.parent.mkdir(parents=True, exist_ok=True)
    texts = {
        name: column.to_numpy().astype(str) if column.dtype == pl.String else column.to_numpy()
        for name, column in columns.to_dict().items()
    }
    np.savez(MOVIELENS, **texts)


def movielens() -> tuple[Arrays, Arrays]:
    """Return 80,000 ratings to train and 20,000 to test, drawn by `default_rng(42)`."""
    with np.load(MOVIELENS) as stored:
        rows = dict(stored)
    order = np.random.default_rng(42).permutation(len(rows["rating"]))
    return tuple({name: column[part] for name, column in rows.items()} for part in np.split(order, [-TEST_ROWS]))  # type: ignore[return-value]


def corpus(candidates: int, queries: int, dim: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return normal embeddings of queries and candidates, and the row of each query's positive."""
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((rows, dim), dtype=np.float32) for rows in (queries, candidates))
    return *vectors, rng.integers(0, candidates, queries)  # type: ignore[return-value]


def clicks(rows: int, tables: int, table_rows: int, dense: int = 13) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers `(rows, dense)`, ids `(rows, tables)` int32 that follow Zipf's law, and labels 0 or 1."""
    rng = np.random.default_rng(0)
    rank = np.exp(rng.random((rows, tables)) * np.log(table_rows + 1)).astype(np.int64) - 1
    ids = np.empty((rows, tables), np.int32)
    logit = np.zeros(rows, np.float32)
    for table in range(tables):
        ids[:, table] = rng.permutation(table_rows)[rank[:, table].clip(0, table_rows - 1)]
        logit += 0.3 * rng.standard_normal(table_rows, dtype=np.float32)[ids[:, table]]
    numbers = rng.standard_normal((rows, dense), dtype=np.float32)
    chance = 1 / (1 + np.exp(1 - logit - numbers[:, 0]))
    return numbers, ids, (rng.random(rows) < chance).astype(np.float32)


def ratings(rows: int, *, users: int = 138_493, movies: int = 26_744) -> Arrays:
    """Return a table of the size and skew of MovieLens-20M: ids, a text column and numbers."""
    rng = np.random.default_rng(0)
    popularity = np.minimum((rng.pareto(0.9, rows) * movies * 0.01).astype(np.int64), movies - 1)
    return {
        "user_id": rng.integers(1, users + 1, rows),
        "movie_id": rng.permutation(movies)[popularity] + 1,
        "genre": np.array([f"genre {number}" for number in range(20)])[rng.integers(0, 20, rows)],
        "rating": rng.integers(1, 11, rows).astype(np.float32) / 2,
        "age": rng.gamma(9, 4, rows).astype(np.float32),
    }
