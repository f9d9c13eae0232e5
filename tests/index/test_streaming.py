import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.golden import golden

from retrank.core.errors import ConfigError, DataError, ShapeError, StorageError
from retrank.core.jagged import Jagged
from retrank.index import Exact, Streaming, safetensors_stream, table_stream
from retrank.index import streaming as streaming_module
from retrank.ops import score_blocks

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@pytest.fixture(scope="module", autouse=True)
def many_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_blocks, "CPU_SHAPE", (32, 32))
        patch.setattr(streaming_module, "_PIECE_ROWS", 512)
        patch.setattr(streaming_module, "_PART_ROWS", 150)
        yield


class Pieces:
    """A stream that counts its passes."""

    def __init__(self, embeddings, keys=None, size=100):
        self.embeddings, self.keys, self.size, self.num_passes = embeddings, keys, size, 0

    def __call__(self):
        self.num_passes += 1
        for first in range(0, len(self.embeddings), self.size):
            part = slice(first, first + self.size)
            yield self.embeddings[part], None if self.keys is None else self.keys[part]


@golden(
    "tfrs_factorized_top_k",
    *("streaming_indices", "streaming_string_ids", "streaming_exclusions", "streaming_exclusions_too_many"),
)
def test_agrees_with_tfrs(case):
    inputs, expected, arguments = case["inputs"], case["expected"], case["arguments"]
    keys, k = inputs.get("identifiers"), arguments["constructor"]["k"]
    stream = Pieces(torch.tensor(inputs["candidates"]), keys, arguments["index"]["dataset_batch_size"])
    index, exclude = Streaming(stream), None
    if "exclusions" in inputs:
        lists = [row if keys is None else index.rows(row).tolist() for row in inputs["exclusions"]]
        exclude = Jagged.from_lists(lists)
    scores, found = index.search(torch.tensor(inputs["queries"]), k, exclude=exclude)
    if case["name"] == "streaming_exclusions_too_many":  # there an excluded candidate comes back in the last place
        assert found.tolist() == [[2, 3, -1], [1, 0, -1]]
        assert (scores[:, 2] == -torch.inf).all()
        scores, expected = scores[:, :2], {"scores": np.array(expected["scores"])[:, :2]}
    else:
        assert found.tolist() == expected["identifiers"]
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-6)


@golden("tfrs_factorized_top_k", "streaming_small_corpus")
def test_a_small_corpus_is_returned_whole_when_asked_for_whole(case):
    inputs, expected = case["inputs"], case["expected"]
    index, queries = Streaming(Pieces(torch.tensor(inputs["candidates"]), size=3)), torch.tensor(inputs["queries"])
    with pytest.raises(ConfigError, match=r"k in \[1, 4\], got 6"):  # there: 4 results for k=6
        index.search(queries, 6)
    scores, rows = index.search_rows(queries, 4)
    assert rows.tolist() == expected["identifiers"]
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 70), st.integers(1, 600), st.integers(1, 5), st.integers(1, 700), st.integers(0, 10**6))
def test_the_very_results_of_exact(num_queries, num_candidates, dim, size, seed):
    rng = np.random.default_rng(seed)
    candidates = torch.from_numpy((rng.integers(-2, 3, size=(num_candidates, dim)) / 4).astype(np.float32))
    queries = torch.from_numpy(rng.normal(size=(num_queries, dim)).astype(np.float32))
    lists = [rng.integers(num_candidates, size=rng.choice([0, 3, 300])).tolist() for _ in range(num_queries)]
    k, exclude = int(rng.integers(1, num_candidates + 1)), Jagged.from_lists(lists)
    expected = Exact(candidates).search_rows(queries, k, exclude=exclude)
    got = Streaming(Pieces(candidates, size=size)).search_rows(queries, k, exclude=exclude)
    assert torch.equal(got.rows, expected.rows)
    assert torch.equal(got.scores, expected.scores)


def test_one_pass_serves_all_queries():
    stream = Pieces(torch.randn(1000, 4))
    index = Streaming(stream)
    assert stream.num_passes == 1
    index.search_rows(torch.randn(500, 4), 10)
    assert stream.num_passes == 2
    index.search_rows(torch.zeros(0, 4), 10)
    assert stream.num_passes == 2


def test_a_stream_that_changes_is_noticed():
    stream = Pieces(torch.randn(300, 4))
    index, all_embeddings = Streaming(stream), stream.embeddings
    for changed in (all_embeddings[:299], torch.cat([all_embeddings, all_embeddings]), all_embeddings[:0]):
        stream.embeddings = changed
        with pytest.raises(DataError, match="300 candidates, as before"):
            index.search_rows(torch.randn(2, 4), 10)
    stream.embeddings = all_embeddings[:, :3]
    with pytest.raises(ShapeError, match="width 4"):
        index.search_rows(torch.randn(2, 4), 10)


def test_bad_streams_are_refused():
    good = torch.randn(300, 4)
    broken = good.clone()
    broken[217, 2] = torch.nan
    with pytest.raises(DataError, match="embeddings, row 217"):
        Streaming(Pieces(broken))
    with pytest.raises(DataError, match="at least one candidate"):
        Streaming(Pieces(good[:0]))
    with pytest.raises(ShapeError, match="width 4, got 3"):
        Streaming(lambda: [(good, None), (good[:, :3], None)])
    with pytest.raises(ShapeError, match="float64"):
        Streaming(lambda: [(good.double(), None)])
    with pytest.raises(DataError, match="distinct keys, got 7 again"):
        Streaming(Pieces(good, [*range(299), 7]))
    with pytest.raises(DataError, match="one kind"):
        Streaming(lambda: [(good[:1], ["a"]), (good[1:2], [1])])
    with pytest.raises(DataError, match="one kind"):
        Streaming(lambda: [(good[:1], [1]), (good[1:2], None)])


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.List(pl.Float32), pl.Array(pl.Float32, 3), pl.List(pl.Int8)])
def test_tables_of_lists(dtype):
    rows = [[1, 2, 3], [4, 5, 6], [0, -1, 0]]
    table = pl.DataFrame({"song": ["x", "y", "z"], "vector": pl.Series(rows, dtype=dtype)})
    index = Streaming(table_stream(table, embedding="vector", key="song", rows=2))
    assert index.search(torch.tensor([[1.0, 0.0, 0.0]]), 3).keys.tolist() == [["y", "x", "z"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0], None, [2.0]], "column 'embedding', row 1"),
        ([[1.0, 2.0], [1.0, 2.0], [2.0]], "row 2: expected 2 numbers, got 1"),
        ([[1.0, 2.0], [1.0, 2.0], [2.0, None]], "column 'embedding', row 2"),
        ([["a"], ["b"], ["c"]], "lists of numbers"),
        ([1.0, 2.0, 3.0], "lists of numbers"),
    ],
)
def test_bad_tables_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        Streaming(table_stream(pl.DataFrame({"key": [1, 2, 3], "embedding": rows})))


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="'vector'"):
        table_stream(pl.DataFrame({"key": [1], "embedding": [[1.0]]}), embedding="vector")
    save_file({"embeddings": torch.ones(3, 2)}, tmp_path / "some.safetensors")
    assert Streaming(safetensors_stream(tmp_path / "some.safetensors")).keys.tolist() == [0, 1, 2]
    with pytest.raises(StorageError, match=r"some\.safetensors"):
        Streaming(safetensors_stream(tmp_path / "some.safetensors", keys="names"))
    with pytest.raises(StorageError, match="nowhere"):
        Streaming(safetensors_stream(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="at least one file"):
        safetensors_stream([])


def test_it_is_saved_in_parts_that_any_tool_can_read(tmp_path):
    embeddings, keys = torch.randn(400, 3), [f"c{row}" for row in range(400)]
    Streaming(Pieces(embeddings, keys)).save(tmp_path / "in[dex")
    parts = sorted((tmp_path / "in[dex").glob("*.parquet"))
    tables = [pl.read_parquet(part, glob=False) for part in parts]
    assert [len(table) for table in tables] == [150, 150, 100]
    assert pl.concat(tables)["key"].to_list() == keys
    index = Streaming.load(tmp_path / "in[dex")
    index.save(tmp_path / "in[dex")  # onto what it reads from
    again = Streaming.load(tmp_path / "in[dex").search_rows(torch.eye(3), 400)
    assert torch.equal(again.scores, Exact(embeddings).search_rows(torch.eye(3), 400).scores)
