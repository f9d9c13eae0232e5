"""Shuffled batches of a table in memory, and nothing done with them."""

from functools import partial

import numpy as np

from benchmarks import data
from benchmarks.environments import FOLDER
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

ROWS, PART, BATCH = 20_000_000, 400_000, 8192
FILE = FOLDER / "data" / "rows.parquet"


def columns(rows: int) -> data.Arrays:
    """Return two columns of ids and two of numbers."""
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(0, 100_000, rows) for name in ("user_id", "movie_id")}
    return ids | {name: rng.random(rows, dtype=np.float32) for name in ("age", "rating")}


def ours(rows: int) -> Job:
    import torch

    import retrank as rr

    table = {name: torch.from_numpy(column) for name, column in columns(rows).items()}
    loader = rr.data.Loader(rr.Batch(table), BATCH, shuffle=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return repeated(epoch, rows)


def save_table() -> None:
    """Write the table as a Parquet file."""
    import polars as pl

    if not FILE.exists():
        FILE.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(columns(ROWS)).write_parquet(FILE, row_group_size=1_000_000)


def streaming(window: int) -> Job:
    import polars as pl
    import torch

    import retrank as rr

    def to_batch(piece: pl.DataFrame) -> rr.Batch:
        return rr.Batch({name: torch.from_numpy(piece[name].to_numpy(writable=True)) for name in piece.columns})

    loader = rr.data.StreamingLoader(str(FILE), to_batch, BATCH, shuffle_window=window)

    def epoch() -> None:
        for _ in loader:
            pass

    return repeated(epoch, ROWS)


def decoder() -> Job:
    import polars as pl

    return repeated(lambda: pl.read_parquet(FILE), ROWS)


def tensorflow_data(rows: int) -> Job:
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(columns(rows)).shuffle(100_000).batch(BATCH).prefetch(2)

    def epoch() -> None:
        for _ in batches:
            pass

    return repeated(epoch, rows)


def torch_loader(rows: int) -> Job:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    table = TensorDataset(*(torch.from_numpy(column) for column in columns(rows).values()))
    loader = DataLoader(table, BATCH, shuffle=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return repeated(epoch, rows)


def limit() -> Job:
    """Gather every column once in random order, in batches, into the same memory."""
    import torch

    table = [torch.from_numpy(column) for column in columns(ROWS).values()]
    order = torch.randperm(ROWS)
    outputs = [column.new_empty(BATCH) for column in table]

    def gather() -> None:
        for rows in order.split(BATCH)[:-1]:
            for column, output in zip(table, outputs, strict=True):
                torch.index_select(column, 0, rows, out=output)

    return repeated(gather, ROWS // BATCH * BATCH)


def bandwidth() -> Job:
    from benchmarks.limits import copies

    return copies(2 * ROWS * 24, ROWS)


OURS, TF, TORCH, LIMIT = "retrank", "tf.data, shuffle and batch", "torch DataLoader", "limit: reads of random rows"
WORKLOAD = Workload(
    "loader",
    "Loader alone",
    [
        Case(
            "20m",
            "An epoch of 20,000,000 rows of four columns, shuffled, batches of 8,192",
            "rows",
            [
                Contender(OURS, partial(ours, ROWS), "ours", libraries=("torch", "retrank")),
                Contender(TF, partial(tensorflow_data, PART), environment="tfrs", libraries=("tensorflow",)),
                Contender(TORCH, partial(torch_loader, PART)),
                Contender(LIMIT, limit, "limit"),
                Contender("limit: rows read and written once in order", bandwidth, "limit"),
            ],
            [Goal(OURS, TF, rate=20.0), Goal(OURS, TORCH, rate=20.0)],
            note=f"Rates are per row: peers do {PART:,} rows. tf.data shuffles within a window of 100,000.",
        ),
        Case(
            "streaming",
            "An epoch of the same table, streamed from a Parquet file",
            "rows",
            [
                Contender(OURS, partial(streaming, 0), "ours", libraries=("torch", "retrank")),
                Contender(
                    f"{OURS}, shuffled within 1,000,000 rows",
                    partial(streaming, 1_000_000),
                    "ours",
                    libraries=("torch", "retrank"),
                ),
                Contender("limit: the file read at once by polars", decoder, "limit", libraries=("polars",)),
            ],
            note="The limit holds the whole table in memory, which a stream does not.",
        ),
        Case(
            "scaling",
            "The same as the rows grow",
            "rows",
            [
                Contender(f"{OURS}, {rows:,}", partial(ours, rows), "ours", libraries=("torch", "retrank"), size=rows)
                for rows in (200_000, 2_000_000, 20_000_000)
            ],
            grows="rows",
        ),
    ],
    prepare=save_table,
)
