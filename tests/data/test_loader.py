import json
from itertools import islice

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retrank as rr


def columns(num_rows):
    lists = [list(range(row, row + row % 3)) for row in range(num_rows)]
    return rr.Batch({"x": torch.arange(num_rows), "tags": rr.Jagged.from_lists(lists)})


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


@settings(max_examples=60)
@given(
    num_rows=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 3),
)
def test_an_epoch_holds_every_row_once(num_rows, batch_size, shuffle, drop_last, seed):
    if drop_last and batch_size > num_rows:
        with pytest.raises(rr.errors.ConfigError, match="batch_size"):
            rr.data.Loader(columns(num_rows), batch_size, drop_last=True)
        return
    loader = rr.data.Loader(columns(num_rows), batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    for _ in range(2):
        batches = list(loader)
        rows = [row for rows in xs(batches) for row in rows]
        assert len(batches) == len(loader)
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert len(set(rows)) == len(rows)
        assert len(rows) == (num_rows // batch_size * batch_size if drop_last else num_rows)
        if not shuffle:
            assert rows == list(range(len(rows)))
        for batch in batches:  # columns stay aligned
            assert batch["tags"].to_lists() == [list(range(row, row + row % 3)) for row in batch["x"].tolist()]


def test_order_depends_on_seed_and_epoch_only():
    def epochs(seed):
        loader = rr.data.Loader(columns(50), 8, shuffle=True, seed=seed)
        return [xs(loader) for _ in range(3)]

    torch.manual_seed(0)
    first = epochs(1)
    torch.manual_seed(9)
    assert epochs(1) == first
    assert epochs(2) != first
    assert first[0] != first[1] != first[2]


def test_unshuffled_batches_are_views():
    data = columns(10)
    batch = next(iter(rr.data.Loader(data, 4)))
    assert batch["x"].data_ptr() == data["x"].data_ptr()


@settings(max_examples=60)
@given(num_rows=st.integers(1, 30), batch_size=st.integers(1, 8), shuffle=st.booleans(), data=st.data())
def test_resuming_gives_exactly_the_remaining_batches(num_rows, batch_size, shuffle, data):
    def fresh():
        return rr.data.Loader(columns(num_rows), batch_size, shuffle=shuffle, seed=5)

    reference = fresh()
    epochs = [xs(reference) for _ in range(3)]
    epoch, stop = data.draw(st.integers(0, 1)), data.draw(st.integers(0, len(epochs[0])))
    interrupted = fresh()
    for _ in range(epoch):
        list(interrupted)
    assert xs(islice(interrupted, stop)) == epochs[epoch][:stop]
    state = interrupted.state_dict()
    assert state == {"epoch": epoch, "batch": stop}
    resumed = fresh()
    resumed.load_state_dict(state)
    assert xs(resumed) == epochs[epoch][stop:]
    assert resumed.state_dict() == {"epoch": epoch + 1, "batch": 0}
    assert xs(resumed) == epochs[epoch + 1]


def test_an_epoch_left_early_is_over():
    loader, reference = (rr.data.Loader(columns(20), 4, shuffle=True) for _ in range(2))
    epochs = [xs(reference) for _ in range(2)]
    next(iter(loader))
    assert xs(loader) == epochs[1]


def test_two_iterators_do_not_disturb_each_other():
    loader = rr.data.Loader(columns(9), 4, shuffle=True)
    assert [a["x"].tolist() for a, _ in zip(loader, loader, strict=True)] == xs(
        rr.data.Loader(columns(9), 4, shuffle=True)
    )


def test_is_batches():
    assert isinstance(rr.data.Loader(columns(1), 1), rr.data.Batches)


def test_device():
    batch = next(iter(rr.data.Loader(columns(4), 2, device="cpu")))
    assert batch.device == torch.device("cpu")


def test_bad_arguments():
    with pytest.raises(rr.errors.ConfigError, match="batch_size"):
        rr.data.Loader(columns(3), 0)
    with pytest.raises(rr.errors.DataError, match="at least one row"):
        rr.data.Loader(rr.Batch({"x": torch.empty(0)}), 2)
    loader = rr.data.Loader(columns(3), 1)
    for state in ({}, {"epoch": 0}, {"epoch": -1, "batch": 0}, {"epoch": 0, "batch": 4}, {"epoch": 0.5, "batch": 0}):
        with pytest.raises(rr.errors.ConfigError, match="loader state"):
            loader.load_state_dict(state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_batches_reach_the_gpu_whole_and_in_order(home):
    wanted = xs(rr.data.Loader(columns(50_000), 512, shuffle=True))
    loader = rr.data.Loader(columns(50_000).to(home), 512, shuffle=True, device="cuda")
    batches = list(loader)
    assert {batch.device.type for batch in batches} == {"cuda"}
    assert xs(batches) == wanted
    assert [b["tags"].lengths().tolist() for b in batches] == [[row % 3 for row in rows] for rows in wanted]


@pytest.mark.parametrize("size", [4.0, "4", None, 0, -1])
def test_a_batch_size_is_an_integer_above_zero(size):
    with pytest.raises(rr.errors.ConfigError, match=f"batch_size.*integer of at least 1.*{size!r}"):
        rr.data.Loader(columns(10), size)
    with pytest.raises(rr.errors.ConfigError, match="batch_size.*integer of at least 1"):
        rr.data.StreamingLoader(pl.DataFrame({"x": range(10)}), lambda piece: columns(len(piece)), size)


def test_a_description_tells_other_batches_apart():
    x = torch.arange(5000.0)
    words = rr.Jagged.from_lengths(torch.arange(5000), torch.ones(5000, dtype=torch.int64))

    def describe(size=8, x=x, words=words, **options):
        return rr.data.Loader(rr.Batch({"x": x, "words": words}), size, **options).describe()

    assert describe() == describe(x=x.clone(), seed=9) == json.loads(json.dumps(describe()))
    last, first, flipped = x.clone(), x.clone(), x.flip(0)
    last[-1], first[0] = -1, -1
    others = [
        describe(9),
        describe(shuffle=True),
        describe(shuffle=True, seed=1),
        describe(drop_last=True),
        describe(x=last),
        describe(x=first),
        describe(x=flipped),
        describe(x=x.double()),
        describe(x=x.bfloat16()),
        describe(x=x[:, None]),
        describe(words=rr.Jagged(words.values + 1, words.offsets)),
        describe(words=rr.Jagged(words.values, words.offsets, torch.ones(5000))),
    ]
    assert all(one != other for place, one in enumerate([describe(), *others]) for other in others[place:])
