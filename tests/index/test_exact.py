import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden

from retrank.core.errors import ConfigError, DataError, ShapeError, StorageError
from retrank.core.jagged import Jagged
from retrank.core.manifest import write_manifest
from retrank.index import Exact
from retrank.ops import score_blocks

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


@pytest.fixture(scope="module", autouse=True)
def many_blocks():
    """Cut a few hundred candidates into many blocks, as hundred thousands are in earnest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_blocks, "CPU_SHAPE", (32, 320))
        yield


def slow_search(queries, candidates, k, exclude=None, allow=None):
    """Score in float64 (exact for multiples of 1/64) and sort by score, then row."""
    scores = np.asarray(queries, dtype=np.float64) @ np.asarray(candidates, dtype=np.float64).T
    found_scores, found_rows = [], []
    for row, values in enumerate(scores):
        keep = set(range(len(values))) if allow is None else set(allow[row])
        keep -= set() if exclude is None else set(exclude[row])
        order = sorted(keep, key=lambda c: (-values[c], c))[:k]
        missing = k - len(order)
        found_scores.append([values[c] for c in order] + [-np.inf] * missing)
        found_rows.append(order + [-1] * missing)
    return np.array(found_scores), np.array(found_rows).reshape(len(scores), k)


def ties(rng, rows, dim):
    return (rng.integers(-2, 3, size=(rows, dim)) / 4).astype(np.float32)


def draw_lists(rng, num_rows, num_candidates):
    return [rng.integers(num_candidates, size=rng.choice([0, 1, 3, 40, 400])).tolist() for _ in range(num_rows)]


@settings(max_examples=60)
@given(st.integers(0, 70), st.integers(1, 1300), st.integers(1, 5), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_search_is_the_full_sort_with_ties_in_row_order(num_queries, num_candidates, dim, seed, exclude, allow):
    rng = np.random.default_rng(seed)
    queries, candidates = ties(rng, num_queries, dim), ties(rng, num_candidates, dim)
    k = int(rng.integers(1, min(num_candidates, 150) + 1))
    excluded = draw_lists(rng, num_queries, num_candidates) if exclude else None
    allowed = draw_lists(rng, num_queries, num_candidates) if allow else None
    expected_scores, expected_rows = slow_search(queries, candidates, k, excluded, allowed)
    scores, rows = Exact(torch.from_numpy(candidates)).search_rows(
        torch.from_numpy(queries),
        k,
        exclude=None if excluded is None else Jagged.from_lists(excluded),
        allow=None if allowed is None else Jagged.from_lists(allowed),
    )
    assert np.array_equal(rows.numpy(), expected_rows)
    assert np.array_equal(scores.numpy(), expected_scores.reshape(scores.shape))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("num_candidates", [5, 1682, 2500])
@pytest.mark.parametrize("dim", [1, 3, 16, 33, 64, 128])
def test_a_result_does_not_depend_on_the_batch(dim, num_candidates, threads):
    torch.manual_seed(num_candidates + dim)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        index, queries, k = Exact(torch.randn(num_candidates, dim)), torch.randn(101, dim), min(20, num_candidates)
        whole = index.search_rows(queries, k)
        for first, last in [(0, 1), (1, 3), (40, 43), (50, 57), (30, 61), (64, 96), (67, 100), (100, 101)]:
            part = index.search_rows(queries[first:last], k)
            assert torch.equal(part.scores, whole.scores[first:last])
            assert torch.equal(part.rows, whole.rows[first:last])
        shuffled = torch.randperm(101)
        assert torch.equal(index.search_rows(queries[shuffled], k).scores, whole.scores[shuffled])
    finally:
        torch.set_num_threads(before)


def test_copies_of_a_candidate_come_in_row_order_in_every_block():
    torch.manual_seed(1)
    index = Exact(torch.randn(17).expand(2500, 17))
    assert torch.equal(index.search_rows(torch.randn(3, 17), 2500).rows, torch.arange(2500).expand(3, 2500))


@golden(
    "tfrs_factorized_top_k",
    without=(
        *("brute_force_k_too_large", "brute_force_exclusions_too_large"),
        *("streaming_small_corpus", "streaming_exclusions_too_many"),
    ),
)
def test_agrees_with_tfrs(case):
    inputs, expected = case["inputs"], case["expected"]
    keys = inputs.get("identifiers")
    index = Exact(torch.tensor(inputs["candidates"]), keys)
    exclude = None
    if "exclusions" in inputs:
        exclude = Jagged.from_lists([[keys.index(key) for key in row] for row in inputs["exclusions"]])
    k = case["arguments"]["call"].get("k", case["arguments"]["constructor"]["k"])
    scores, found = index.search(torch.tensor(inputs["queries"]), k, exclude=exclude)
    np.testing.assert_allclose(scores, expected["scores"], rtol=1e-5, atol=1e-6)
    assert found.tolist() == expected["identifiers"]


@golden("tfrs_factorized_top_k", "brute_force_k_too_large", "streaming_small_corpus")
def test_k_beyond_the_corpus_is_an_error_as_in_brute_force_and_keras_rs(case):
    index, k = Exact(torch.tensor(case["inputs"]["candidates"])), case["arguments"]["constructor"]["k"]
    with pytest.raises(ConfigError, match=rf"k in \[1, 4\], got {k}"):
        index.search(torch.tensor(case["inputs"]["queries"]), k)
    if "error" not in case["expected"]:  # Streaming returns all 4
        scores, rows = index.search(torch.tensor(case["inputs"]["queries"]), 4)
        assert rows.tolist() == case["expected"]["identifiers"]
        np.testing.assert_allclose(scores, case["expected"]["scores"], rtol=1e-5, atol=1e-6)


@golden("tfrs_factorized_top_k", "streaming_exclusions_too_many")
def test_what_is_excluded_never_fills_the_places_that_are_left(case):
    index = Exact(torch.tensor(case["inputs"]["candidates"]))
    queries, exclude = torch.tensor(case["inputs"]["queries"]), Jagged.from_lists(case["inputs"]["exclusions"])
    scores, rows = index.search_rows(queries, 3, exclude=exclude)
    assert rows.tolist() == [[2, 3, -1], [1, 0, -1]]
    np.testing.assert_allclose(scores[:, :2], np.array(case["expected"]["scores"])[:, :2], rtol=1e-5)
    assert (scores[:, 2] == -torch.inf).all()


@golden("tfrs_factorized_top_k", "brute_force_exclusions_too_large")
def test_many_exclusions_leave_what_remains_instead_of_an_error(case):
    assert case["expected"] == {"error": "ValueError"}
    index = Exact(torch.tensor(case["inputs"]["candidates"]))
    queries, exclude = torch.tensor(case["inputs"]["queries"]), Jagged.from_lists(case["inputs"]["exclusions"])
    _, rows = index.search_rows(queries, 4, exclude=exclude)
    assert (rows[:, :2] >= 3).all()
    assert (rows[:, 2:] == -1).all()


@golden("krs_retrieval")
def test_agrees_with_keras_rs(case):
    inputs, k = case["inputs"], case["arguments"]["constructor"]["k"]
    updated = "updated_" if "updated_candidate_embeddings" in inputs else ""
    keys = inputs.get(f"{updated}candidate_ids")
    index = Exact(torch.tensor(inputs[f"{updated}candidate_embeddings"]), keys)
    if "error" in case["expected"]:
        with pytest.raises(ConfigError):
            index.search(torch.tensor(inputs["inputs"]), k)
        return
    scores, found = index.search(torch.tensor(inputs["inputs"]), k)
    assert found.tolist() == case["expected"]["ids"]
    if "scores" in case["expected"]:
        np.testing.assert_allclose(scores, case["expected"]["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "keys",
    [["b", "ä", "", "d"], pl.Series(["b", "ä", "", "d"]), np.array(["b", "ä", "", "d"])],
    ids=["list", "polars", "numpy"],
)
def test_string_keys(keys, tmp_path):
    index = Exact(torch.tensor([[1.0], [2.0], [3.0], [-1.0]]), keys)
    for candidate_index in (index, saved_and_loaded(index, tmp_path)):
        found = candidate_index.search(torch.tensor([[1.0], [-1.0]]), 4, exclude=Jagged.from_lists([[1], [3, 0]])).keys
        assert found.tolist() == [["", "b", "d", None], ["ä", "", None, None]]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_integer_keys(dtype, tmp_path):
    index = Exact(torch.tensor([[1.0], [2.0], [3.0]]), np.array([30, 10, 20], dtype=dtype))
    for candidate_index in (index, saved_and_loaded(index, tmp_path)):
        assert candidate_index.keys.dtype == torch.int64
        found = candidate_index.search(torch.tensor([[1.0]]), 3, exclude=Jagged.from_lists([[1]])).keys
        assert found.tolist() == [[20, 30, -1]]


def test_without_keys_the_row_is_the_key():
    assert Exact(torch.tensor([[1.0], [2.0]])).search(torch.tensor([[1.0]]), 2).keys.tolist() == [[1, 0]]


def test_a_directory_with_brackets_in_its_name(tmp_path):
    Exact(torch.eye(2), ["a", "b"]).save(tmp_path / "in[de*x")
    assert Exact.load(tmp_path / "in[de*x").keys.tolist() == ["a", "b"]


def saved_and_loaded(index, tmp_path):
    index.save(tmp_path / "index")
    return Exact.load(tmp_path / "index")


def test_a_loaded_index_gives_the_same_bits(tmp_path):
    torch.manual_seed(0)
    index, queries = Exact(torch.randn(3000, 24)), torch.randn(40, 24)
    expected, got = index.search_rows(queries, 50), saved_and_loaded(index, tmp_path).search_rows(queries, 50)
    assert torch.equal(got.rows, expected.rows)
    assert torch.equal(got.scores, expected.scores)
    assert index.is_exact


def test_a_damaged_or_foreign_directory_is_refused(tmp_path):
    index = Exact(torch.randn(30, 4), [f"key {row}" for row in range(30)])
    with pytest.raises(StorageError):
        Exact.load(tmp_path / "nowhere")
    for file in ("index.safetensors", "keys.parquet"):
        index.save(tmp_path / "index")
        path = tmp_path / "index" / file
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(StorageError, match=file):
            Exact.load(tmp_path / "index")
    index.save(tmp_path / "index")
    payload = json.loads((tmp_path / "index" / "manifest.json").read_text())["payload"]
    write_manifest(tmp_path / "index", {**payload, "version": 99})
    with pytest.raises(StorageError, match="99"):
        Exact.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "b", "a"], "keys, row 2: expected distinct keys, got 'a' again"),
        ([1, 2, 2], "keys, row 2"),
        (["a", None, "b"], "keys, row 1: expected no nulls"),
        (["a", "b"], "expected 3 keys, got 2"),
        ([1.0, 2.0, 3.0], "all integers or all strings"),
    ],
)
def test_bad_keys(keys, message):
    with pytest.raises(DataError, match=message):
        Exact(torch.zeros(3, 1), keys)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_refused_by_row(bad):
    embeddings = torch.zeros(4, 2)
    index = Exact(embeddings)
    embeddings = embeddings.clone()
    embeddings[2, 1] = bad
    with pytest.raises(DataError, match="embeddings, row 2"):
        Exact(embeddings)
    with pytest.raises(DataError, match="queries, row 2"):
        index.search_rows(embeddings, 1)


@pytest.mark.parametrize("num_queries", [0, 1, 33, 70])
@pytest.mark.parametrize("num_allowed", [0, 1, 40, 1200])
def test_one_allow_list_can_hold_for_all_queries(num_queries, num_allowed):
    rng = np.random.default_rng(num_queries + num_allowed)
    queries, candidates = ties(rng, num_queries, 3), ties(rng, 1200, 3)
    allowed, excluded = rng.integers(1200, size=num_allowed).tolist(), draw_lists(rng, num_queries, 1200)
    expected_scores, expected_rows = slow_search(queries, candidates, 50, excluded, [allowed] * num_queries)
    scores, rows = Exact(torch.from_numpy(candidates)).search_rows(
        torch.from_numpy(queries), 50, exclude=Jagged.from_lists(excluded), allow=Jagged.from_lists([allowed])
    )
    assert np.array_equal(rows.numpy(), expected_rows)
    assert np.array_equal(scores.numpy(), expected_scores.reshape(scores.shape))


def test_bad_searches():
    index = Exact(torch.zeros(3, 2))
    for k in (0, 4):
        with pytest.raises(ConfigError, match=rf"k in \[1, 3\], got {k}"):
            index.search_rows(torch.zeros(1, 2), k)
    with pytest.raises(ShapeError, match="queries"):
        index.search_rows(torch.zeros(2), 1)
    with pytest.raises(DataError, match="exclude, row 1"):
        index.search_rows(torch.zeros(2, 2), 1, exclude=Jagged.from_lists([[0], [7]]))
    with pytest.raises(DataError, match="allow, row 0"):
        index.search_rows(torch.zeros(2, 2), 1, allow=Jagged.from_lists([[0, 3]]))
    with pytest.raises(ShapeError, match="allow"):
        index.search_rows(torch.zeros(3, 2), 1, allow=Jagged.from_lists([[0], [1]]))
    assert index.search_rows(torch.zeros(0, 2), 2).rows.shape == (0, 2)


def test_the_index_does_not_follow_later_changes_of_the_embeddings():
    embeddings = torch.tensor([[1.0], [2.0]], requires_grad=True)
    index = Exact(embeddings)
    with torch.no_grad():
        embeddings[0] = 9.0
    scores = index.search_rows(torch.ones(1, 1, requires_grad=True), 2).scores
    assert scores.tolist() == [[2.0, 1.0]]
    assert not scores.requires_grad
