import gc
import threading
import time
from itertools import islice

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.data.background import background
from retrank.data.source import ROWS_PER_FRAME, Source


def batch(piece):
    return rr.Batch({"x": torch.from_numpy(piece["x"].to_numpy(writable=True))})


def stream(num_rows, batch_size, **options):
    return rr.data.StreamingLoader(pl.DataFrame({"x": range(num_rows)}), batch, batch_size, **options)


def xs(batches):
    return [b["x"].tolist() for b in batches]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "retrank-background"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


class SmallPieces(Source):
    """Reads 7 rows at a time, whatever is asked, and may not know its length."""

    def __init__(self, num_rows, knows_rows=True):
        self.inner, self.knows_rows = rr.data.source(pl.DataFrame({"x": range(num_rows)})), knows_rows

    @property
    def columns(self):
        return self.inner.columns

    @property
    def num_rows(self):
        if not self.knows_rows:
            raise rr.errors.ConfigError("a known number of rows", "a stream", "SmallPieces", "count them")
        return self.inner.num_rows

    def frame(self, columns=None):
        return self.inner.frame(columns)

    def frames(self, rows=ROWS_PER_FRAME, columns=None, *, shard=(0, 1), start=0):
        return self.inner.frames(7, columns, shard=shard, start=start)


@settings(max_examples=60)
@given(
    num_rows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    window=st.integers(0, 25),
    count=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_shards_hold_every_row_once_and_do_not_depend_on_the_pieces(num_rows, batch_size, window, count, seed):
    rows = []
    for index in range(count):
        if num_rows * (index + 1) // count == num_rows * index // count:
            continue
        options = {"shuffle_window": window, "seed": seed, "shard": (index, count)}
        loader = stream(num_rows, batch_size, **options)
        batches = xs(loader)
        assert len(batches) == len(loader)
        assert all(len(b) == batch_size for b in batches[:-1])
        assert xs(rr.data.StreamingLoader(SmallPieces(num_rows), batch, batch_size, **options)) == batches
        rows += [row for b in batches for row in b]
    assert sorted(rows) == list(range(num_rows))
    if window == 0:
        assert rows == sorted(rows)


@settings(max_examples=60)
@given(
    num_rows=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    window=st.integers(0, 25),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_resuming_gives_exactly_the_remaining_batches(num_rows, batch_size, window, drop_last, data):
    def fresh():
        return stream(num_rows, batch_size, shuffle_window=window, drop_last=drop_last and batch_size <= num_rows)

    reference = fresh()
    epochs = [xs(reference) for _ in range(3)]
    epoch, stop = data.draw(st.integers(0, 1)), data.draw(st.integers(0, len(epochs[0])))
    interrupted = fresh()
    for _ in range(epoch):
        list(interrupted)
    assert xs(islice(interrupted, stop)) == epochs[epoch][:stop]
    resumed = fresh()
    resumed.load_state_dict(interrupted.state_dict())
    assert xs(resumed) == epochs[epoch][stop:]
    assert xs(resumed) == epochs[epoch + 1]


def test_resuming_does_not_read_what_was_used():
    read = []

    def watched(piece):
        read.extend(piece["x"].to_list())
        return batch(piece)

    loader = rr.data.StreamingLoader(SmallPieces(1000), watched, 10, shuffle_window=50)
    loader.load_state_dict({"epoch": 0, "batch": 90})
    assert sum(map(len, xs(loader))) == 100
    assert min(read) >= 900 - 50


def test_seed_and_epoch_decide_the_order():
    one, same, other = (stream(200, 16, shuffle_window=64, seed=seed) for seed in (1, 1, 2))
    first, second = xs(one), xs(one)
    assert (xs(same), xs(same)) == (first, second)
    assert first != second
    assert xs(other) != first


def test_a_window_moves_rows_but_not_far():
    order = [row for rows in xs(stream(2000, 10, shuffle_window=100)) for row in rows]
    distance = [abs(place - row) for place, row in enumerate(order)]
    assert sum(distance) / len(distance) > 20
    assert max(distance) < 100


def test_files_stream_like_frames(tmp_path):
    table = pl.DataFrame({"x": range(500)})
    table[:300].write_parquet(tmp_path / "1.parquet", row_group_size=64)
    table[300:].write_parquet(tmp_path / "2.parquet", row_group_size=64)
    loader = rr.data.StreamingLoader(f"{tmp_path}/*.parquet", batch, 32, shuffle_window=90, seed=4)
    assert loader.num_rows == 500
    assert xs(loader) == xs(stream(500, 32, shuffle_window=90, seed=4))
    assert isinstance(loader, rr.data.Batches)


@pytest.mark.parametrize("window", [0, 20])
def test_an_error_in_the_thread_reaches_the_consumer(window):
    def fails(piece):
        if piece["x"][0] >= 49:
            raise KeyError("no such feature")
        return batch(piece)

    loader = rr.data.StreamingLoader(SmallPieces(100), fails, 7, shuffle_window=window)
    seen = []
    with pytest.raises(KeyError, match="no such feature"):
        for b in loader:
            seen.extend(b["x"].tolist())
    assert set(seen) <= set(range(49))
    if window == 0:
        assert seen == list(range(49))  # everything before the error arrived


def test_a_damaged_file_is_named_while_streaming(tmp_path):
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 10_001 + "one\n")
    with pytest.raises(rr.errors.DataError, match=r"a\.csv"):
        list(rr.data.StreamingLoader(tmp_path / "a.csv", batch, 100))


@pytest.mark.parametrize("how", ["break", "close", "forget", "raise"])
def test_abandoned_iterators_stop_their_thread(how):
    loader = rr.data.StreamingLoader(SmallPieces(100_000), batch, 3)
    iterator = iter(loader)
    next(iterator)
    assert len(threads()) == 1
    match how:
        case "break":
            for _ in loader:
                break
            iterator.close()
        case "close":
            iterator.close()
        case "forget":
            del iterator
            gc.collect()
        case "raise":
            with pytest.raises(ZeroDivisionError):
                iterator.throw(ZeroDivisionError())
    assert threads() == []


def test_the_thread_works_only_a_little_ahead():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    iterator = background(items(), capacity=3)
    next(iterator)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 5  # one taken, three waiting, one in hand
    iterator.close()


def test_unknown_length():
    loader = rr.data.StreamingLoader(SmallPieces(10, knows_rows=False), batch, 4)
    with pytest.raises(rr.errors.ConfigError, match="count them"):
        len(loader)


def test_bad_arguments_and_tables():
    for options in ({"batch_size": 0}, {"batch_size": 1, "shuffle_window": -1}, {"batch_size": 1, "shard": (2, 2)}):
        with pytest.raises(rr.errors.ConfigError):
            stream(5, **options)
    for loader in (stream(0, 2), stream(3, 4, drop_last=True), stream(1, 1, shard=(0, 2))):
        with pytest.raises(rr.errors.DataError, match="at least"):
            list(loader)
    shrinks = rr.data.StreamingLoader(pl.DataFrame({"x": range(5)}), lambda piece: batch(piece[1:]), 2)
    with pytest.raises(rr.errors.DataError, match="transform"):
        list(shrinks)
    with pytest.raises(rr.errors.ConfigError, match="loader state"):
        stream(5, 2).load_state_dict({"epoch": 1})
    with pytest.raises(rr.errors.ConfigError, match="loader state"):
        stream(5, 2).load_state_dict({"epoch": 1, "batch": 4})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_reach_the_gpu_whole_and_in_order():
    wanted = xs(stream(50_000, 512, shuffle_window=4096))
    batches = list(stream(50_000, 512, shuffle_window=4096, device="cuda"))
    assert {b.device.type for b in batches} == {"cuda"}
    assert xs(batches) == wanted
