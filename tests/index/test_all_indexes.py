"""What every index promises, exact or not, with the exact one as the judge of all."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from retrank.core.errors import ConfigError, DataError, ShapeError, StorageError
from retrank.core.jagged import Jagged
from retrank.core.manifest import write_manifest
from retrank.index import (
    Exact,
    Faiss,
    Index,
    SearchResult,
    Streaming,
    faiss_search,
    load_index,
    safetensors_stream,
    table_stream,
)
from retrank.index import streaming as streaming_module
from retrank.ops import score_blocks

pytest.importorskip("faiss")
NUM, DIM = 700, 16


@pytest.fixture(scope="module", autouse=True)
def small_limits():
    """Take every path with a few hundred candidates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_blocks, "CPU_SHAPE", (32, 64))
        patch.setattr(streaming_module, "_PIECE_ROWS", 256)
        patch.setattr(faiss_search, "_FEW", 100)
        patch.setattr(faiss_search, "_MAX_OVERFETCH", 128)
        yield


def in_pieces(embeddings, keys):
    def stream():
        first = 0
        for size in (1, 0, 100, 191, 500):
            part = slice(first, first + size)
            yield embeddings[part], None if keys is None else keys[part]
            first += size

    return Streaming(stream)


def from_table(embeddings, keys, folder):
    names = list(range(len(embeddings)) if keys is None else keys)
    table = pl.DataFrame({"embedding": embeddings.double().tolist(), "key": names})
    for part in range(3):
        table[part * 300 : (part + 1) * 300].write_parquet(folder / f"{part}.parquet")
    return Streaming(table_stream(f"{folder}/*.parquet", rows=70))


def from_safetensors(embeddings, keys, folder):
    names = torch.arange(len(embeddings)) if keys is None else torch.as_tensor(keys)
    files = [folder / f"{part}.safetensors" for part in range(2)]
    for part, file in enumerate(files):
        rows = slice(part * 400, (part + 1) * 400)
        save_file({"vectors": embeddings[rows].clone(), "names": names[rows].clone()}, file)
    return Streaming(safetensors_stream(files, embeddings="vectors", keys="names", rows=37))


@dataclass(frozen=True)
class Kind:
    build: object
    recall: float = 1.0
    is_exact: bool = False
    scores_are_true: bool = True
    can: tuple = ("with_added", "with_updated", "without")
    strings: bool = True
    needs_folder: bool = False

    def __call__(self, embeddings, keys, folder):
        return self.build(embeddings, keys, folder) if self.needs_folder else self.build(embeddings, keys)


def faiss(factory, effort=64, rescore=None, **promises):
    return Kind(partial(Faiss, factory=factory, effort=effort, rescore=rescore), **promises)


KINDS = {
    "exact": Kind(Exact, is_exact=True),
    "streaming": Kind(in_pieces, is_exact=True, can=()),
    "streaming table": Kind(from_table, is_exact=True, can=(), needs_folder=True),
    "streaming safetensors": Kind(from_safetensors, is_exact=True, can=(), strings=False, needs_folder=True),
    "flat": faiss("Flat"),
    "ivf all lists": faiss("IVF8,Flat", effort=8),
    "ivf": faiss("IVF8,Flat", effort=4, recall=0.75),
    "ivf of a graph": faiss("IVF8_HNSW4,Flat", effort=4, recall=0.75),
    "hnsw": faiss("HNSW16", recall=0.95, can=("with_added",)),
    "hnsw sq": faiss("HNSW16,SQ8", recall=0.9, scores_are_true=False, can=("with_added",)),
    "sq": faiss("SQ8", recall=0.95, scores_are_true=False),
    "pq": faiss("PQ16x4", recall=0.8, scores_are_true=False),
    "ivf pq": faiss("IVF8,PQ16x4", effort=8, recall=0.8, scores_are_true=False),
    "pq rescored": faiss("PQ8x4", rescore=8, recall=0.95),
    "ivf pq rescored": faiss("IVF8,PQ16x4", effort=8, rescore=4, recall=0.99),
    "hnsw sq rescored": faiss("HNSW16,SQ8", rescore=2, recall=0.95, can=("with_added",)),
}
each_kind = pytest.mark.parametrize("name", KINDS)


def embed(rows, seed=0):
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Build each kind once for the tests that do not change it."""
    built = {}

    def get(name):
        if name not in built:
            built[name] = KINDS[name](embed(NUM), None, tmp_path_factory.mktemp("index"))
        return built[name]

    return get


def draw_lists(rng, num_rows, lengths):
    return [rng.choice(NUM, size=rng.choice(lengths), replace=False).tolist() for _ in range(num_rows)]


RULES = {  # lengths of the exclusions; lengths of the allow-lists, or of the one for all queries
    "none": (None, None),
    "short exclusions": ([0, 1, 3, 40], None),
    "long exclusions": ([0, 300, NUM - 3, NUM], None),
    "own lists": (None, [0, 1, 5, 200, NUM]),
    "own lists and exclusions": ([0, 3, 600], [0, 5, 200, NUM]),
    "one list": (None, 90),
    "one short list and exclusions": ([0, 3, 600], 4),
    "one empty list": (None, 0),
    "a mask": (None, 300),
    "a mask and exclusions": ([0, 3, 600], 300),
}


@each_kind
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", [1, 10, 150])
def test_rules_hold_and_k_are_found_unless_none_is_left(indexes, name, rule, k):
    index, kind, queries = indexes(name), KINDS[name], embed(23, seed=1)
    rng, (lengths, allowed_lengths) = np.random.default_rng(len(rule)), RULES[rule]
    lists, excluded, may = {}, [[]] * 23, [set(range(NUM))] * 23
    if lengths is not None:
        excluded = draw_lists(rng, 23, lengths)
        lists["exclude"] = Jagged.from_lists([row + row[:2] for row in excluded])  # repeats are harmless
    if allowed_lengths is not None:
        own = isinstance(allowed_lengths, list)
        allowed = draw_lists(rng, 23, allowed_lengths) if own else draw_lists(rng, 1, [allowed_lengths])
        lists["allow"] = Jagged.from_lists([row + row[:1] for row in allowed])
        if rule.startswith("a mask"):
            lists["allow"] = torch.zeros(NUM, dtype=torch.bool)
            lists["allow"][allowed[0]] = True
        may = [set(row) for row in (allowed if own else allowed * 23)]
    scores, rows = index.search_rows(queries, k, **lists)
    assert scores.shape == rows.shape == (23, k)
    assert (scores.dtype, rows.dtype) == (torch.float32, torch.int64)
    true_scores = queries.double() @ embed(NUM).double().T
    for query, (left, taken) in enumerate(zip(may, excluded, strict=True)):
        left = left - set(taken)
        num_found = min(k, len(left))
        found = rows[query, :num_found].tolist()
        assert set(found) <= left
        assert len(set(found)) == num_found
        assert (rows[query, num_found:] == -1).all()
        assert (scores[query, num_found:] == -torch.inf).all()
        assert (scores[query, :num_found].diff() <= 0).all()
        if kind.scores_are_true:
            np.testing.assert_allclose(scores[query, :num_found], true_scores[query, found], rtol=1e-4, atol=1e-4)
    judge = indexes("exact")
    if kind.is_exact:
        expected = judge.search_rows(queries, k, **lists)
        assert torch.equal(rows, expected.rows)
        assert torch.equal(scores, expected.scores)
    if rule != "one empty list":
        slack = 0.3 * (kind.recall < 1)  # 23 queries: the first place alone is found or not
        assert index.evaluate(queries, k, judge, **lists) >= kind.recall - slack
        if rule in ("one list", "one short list and exclusions") and kind.scores_are_true:
            assert index.evaluate(queries, k, judge, **lists) == 1.0  # short allow-lists are scored, not searched


@each_kind
def test_recall_is_what_the_kind_promises(indexes, name):
    index, queries = indexes(name), embed(200, seed=2)
    assert index.is_exact == KINDS[name].is_exact
    recall = index.evaluate(queries, 20, indexes("exact"))
    assert KINDS[name].recall <= recall <= 1.0
    rows, best = index.search_rows(queries, 20).rows, (queries @ embed(NUM).T).topk(20).indices
    by_hand = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows.tolist(), best.tolist(), strict=True)])
    assert recall == pytest.approx(by_hand, abs=1e-3)


@each_kind
def test_one_query_gets_what_it_gets_among_others(indexes, name):
    index, queries = indexes(name), embed(40, seed=3)
    exclude = Jagged.from_lists([list(range(row)) for row in range(40)])
    whole = index.search_rows(queries, 12, exclude=exclude)
    for row in (0, 7, 39):
        alone = index.search_rows(queries[row : row + 1], 12, exclude=exclude[row : row + 1])
        assert torch.equal(alone.rows[0], whole.rows[row])
        assert torch.equal(alone.scores[0], whole.scores[row])


@each_kind
def test_threads_that_search_at_once_find_what_one_finds(indexes, name):
    index, queries = indexes(name), embed(32, seed=3)
    exclude, mask = Jagged.from_lists([list(range(row)) for row in range(32)]), torch.arange(NUM) % 3 > 0
    whole = index.search_rows(queries, 12, exclude=exclude, allow=mask)

    def search(row):
        return index.search_rows(queries[row : row + 1], 12, exclude=exclude[row : row + 1], allow=mask)

    with ThreadPoolExecutor(16) as workers:
        for row, found in enumerate(workers.map(search, range(32))):
            assert torch.equal(found.rows[0], whole.rows[row])
            assert torch.equal(found.scores[0], whole.scores[row])


@each_kind
def test_all_candidates_can_be_asked_for(indexes, name):
    rows = indexes(name).search_rows(embed(2, seed=4), NUM).rows
    assert torch.equal(rows.sort(dim=1).values, torch.arange(NUM).expand(2, NUM))


@each_kind
def test_equal_scores_come_in_row_order(name, tmp_path):
    rows = KINDS[name](embed(300).repeat(2, 1), None, tmp_path).search_rows(embed(5, seed=5), 600).rows
    place = torch.empty_like(rows).scatter_(1, rows, torch.arange(600).expand(5, 600))
    assert (place[:, :300] < place[:, 300:]).all()


@each_kind
@pytest.mark.filterwarnings("ignore")
def test_a_collapsed_model_gives_distinct_candidates_with_equal_scores(name, tmp_path):
    index = KINDS[name](torch.ones(300, DIM), None, tmp_path)
    exclude = Jagged.from_lists([[], [0, 1, 2], list(range(300))])
    scores, rows = index.search_rows(torch.ones(3, DIM), 20, exclude=exclude)
    assert (scores[:2] == scores[0, 0]).all()
    assert [len(set(row)) for row in rows.tolist()] == [20, 20, 1]
    assert (rows[0].diff() > 0).all()
    assert (rows[1] > 2).all()
    assert (rows[2] == -1).all()
    if KINDS[name].is_exact:
        assert rows[0].tolist() == list(range(20))
        assert rows[1].tolist() == list(range(3, 23))


@each_kind
@pytest.mark.parametrize("kind_of_key", ["integers", "strings"])
def test_keys_come_out_and_survive_saving(name, kind_of_key, tmp_path):
    is_string = kind_of_key == "strings"
    if is_string and not KINDS[name].strings:
        pytest.skip("tensors hold no strings")
    keys = [(f"ä{row}" if is_string else 10**12 - row) for row in range(NUM)]
    index, queries = KINDS[name](embed(NUM), keys, tmp_path), embed(9, seed=6)
    exclude = Jagged.from_lists([[row] for row in range(9)])
    index.save(tmp_path / "index")
    for other in (index, load_index(tmp_path / "index"), type(index).load(tmp_path / "index")):
        assert type(other) is type(index)
        assert list(other.keys) == keys
        got, expected = (one.search_rows(queries, 5, exclude=exclude) for one in (other, index))
        assert torch.equal(got.rows, expected.rows)
        assert torch.equal(got.scores, expected.scores)
        assert other.search(queries, 5, exclude=exclude).keys.tolist() == [
            [keys[row] for row in line] for line in got.rows.tolist()
        ]
        one_allowed = other.search(queries, 2, allow=Jagged.from_lists([[3]])).keys
        assert one_allowed.tolist() == [[keys[3], None if is_string else -1]] * 9
        assert other.rows([keys[5], keys[0], keys[5]]).tolist() == [5, 0, 5]
        assert other.rows(["nobody"] if is_string else [-7]).tolist() == [-1]
        assert other.rows([]).tolist() == []
        with pytest.raises(DataError, match="keys"):
            other.rows([1] if is_string else ["a"])


@each_kind
def test_half_precision_and_no_queries(indexes, name):
    index, queries = indexes(name), embed(3, seed=7).bfloat16()
    assert torch.equal(index.search_rows(queries, 4).rows, index.search_rows(queries.float(), 4).rows)
    scores, keys = index.search(torch.zeros(0, DIM), 3, exclude=Jagged.empty(0))
    assert scores.shape == keys.shape == (0, 3)


@each_kind
def test_bad_searches_are_refused(indexes, name):
    index, queries = indexes(name), embed(3)
    for k in (0, NUM + 1):
        with pytest.raises(ConfigError, match=rf"k in \[1, {NUM}\], got {k}"):
            index.search_rows(queries, k)
    for bad in (torch.zeros(DIM), torch.zeros(2, DIM + 1), torch.zeros(2, DIM, dtype=torch.float64)):
        with pytest.raises(ShapeError, match="queries"):
            index.search_rows(bad, 1)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(DataError, match="queries, row 1"):
            index.search_rows(torch.tensor([0.0, bad, 1.0])[:, None].expand(3, DIM), 1)
    for mask in (torch.ones(NUM + 1, dtype=torch.bool), torch.ones(NUM)):
        with pytest.raises(ShapeError, match="allow: expected a bool mask"):
            index.search_rows(queries, 1, allow=mask)
    for bad in ([1], "1", 1, [[1.0]]):
        with pytest.raises(ShapeError, match="allow: expected a Jagged"):
            index.search_rows(queries, 1, allow=bad)
    for one, other in zip(
        index.search_rows(queries, 1, allow=[[1, 2]]),
        index.search_rows(queries, 1, allow=Jagged.from_lists([[1, 2]])),
        strict=True,
    ):
        assert torch.equal(one, other)
    for offsets in ([0, 2, 1, 3], [0, 1, 2, 9], [1, 1, 2, 3]):
        for rule in ("exclude", "allow"):
            bad = Jagged.from_lists([[1], [2], [3]])
            bad.offsets.copy_(torch.tensor(offsets))  # behind its back: it refuses them when it is made
            with pytest.raises(ShapeError, match=f"{rule}, row .*offsets that ascend from 0 to 3"):
                index.search_rows(queries, 1, **{rule: bad})
    for rows in ([[0], [], [NUM]], [[0], [], [-1]]):
        for rule in ("exclude", "allow"):
            with pytest.raises(DataError, match=f"{rule}, row 2"):
                index.search_rows(queries, 1, **{rule: Jagged.from_lists(rows)})
    with pytest.raises(ShapeError, match="exclude"):
        index.search_rows(queries, 1, exclude=Jagged.from_lists([[1]]))
    with pytest.raises(ShapeError, match="allow"):
        index.search_rows(queries, 1, allow=Jagged.from_lists([[1], [2]]))


@each_kind
def test_a_damaged_directory_is_refused(indexes, name, tmp_path):
    index = indexes(name)
    index.save(tmp_path / "whole")
    for file in sorted(path.name for path in (tmp_path / "whole").iterdir()):
        index.save(tmp_path / file / "index")
        damaged = tmp_path / file / "index" / file
        damaged.write_bytes(damaged.read_bytes()[:-3])
        with pytest.raises(StorageError, match=file):
            load_index(tmp_path / file / "index")


@each_kind
def test_changes_are_made_or_refused(name, tmp_path):
    kind = KINDS[name]
    old = [f"c{row}" for row in range(NUM)] if kind.strings else list(range(NUM))
    new = [f"new{row}" for row in range(50)] if kind.strings else list(range(NUM, NUM + 50))
    embeddings, keys = embed(NUM), old
    index = kind(embeddings.clone(), old, tmp_path)
    changes = {
        "with_added": lambda: index.with_added(embed(50, seed=8), new),
        "with_updated": lambda: index.with_updated(embed(3, seed=9), [old[600], old[2], old[30]]),
        "without": lambda: index.without([old[4], old[1], old[699]]),
    }
    for change, make in changes.items():
        if change not in kind.can:
            with pytest.raises(ConfigError, match=change):
                make()
            continue
        before, found = index, index.search_rows(embed(3, seed=10), 20)
        index = make()
        assert all(map(torch.equal, before.search_rows(embed(3, seed=10), 20), found))  # the old one is as it was
        if change == "with_added":
            embeddings, keys = torch.cat([embeddings, embed(50, seed=8)]), old + new
        elif change == "with_updated":
            embeddings[[600, 2, 30]] = embed(3, seed=9)
        else:
            kept = [row for row in range(len(embeddings)) if row not in (1, 4, 699)]
            embeddings, keys = embeddings[kept], [keys[row] for row in kept]
        assert list(index.keys) == keys
        judge, queries = Exact(embeddings, keys), embed(30, seed=10)
        exclude = Jagged.from_lists([list(range(row)) for row in range(30)])
        assert index.evaluate(queries, 10, judge, exclude=exclude) >= kind.recall - 0.1 * (kind.recall < 1)
        everyone = index.search_rows(queries, len(embeddings)).rows.sort(dim=1).values
        assert torch.equal(everyone, torch.arange(len(embeddings)).expand(30, -1))
        if kind.scores_are_true:
            scores, rows = index.search_rows(queries, 10)
            np.testing.assert_allclose(scores, (queries @ embeddings.T).gather(1, rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if len(kind.can) == 3])
def test_changed_indexes_survive_saving_and_more_changes(name, tmp_path):
    index = KINDS[name](embed(NUM), None, tmp_path)
    index = index.without(range(0, NUM, 2)).with_added(embed(20, seed=11), range(5000, 5020))
    index.save(tmp_path / "index")
    index = load_index(tmp_path / "index").without([5000, 1]).with_updated(embed(2, seed=12), [3, 5019])
    rows = list(range(3, NUM, 2))
    embeddings, keys = torch.cat([embed(NUM)[rows], embed(20, seed=11)[1:]]), rows + list(range(5001, 5020))
    embeddings[[0, -1]] = embed(2, seed=12)
    assert index.keys.tolist() == keys
    recall = KINDS[name].recall
    assert index.evaluate(embed(50, seed=13), 10, Exact(embeddings, keys)) >= recall - 0.1 * (recall < 1)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.can])
def test_bad_changes_leave_the_index_as_it_was(indexes, name):
    index, queries = indexes(name), embed(4, seed=14)
    before = index.search_rows(queries, 20)
    bad = [
        (DataError, "keys, row 1", lambda: index.with_added(embed(2), [NUM, 3])),
        (DataError, "keys, row 1", lambda: index.with_added(embed(2), [NUM, NUM])),
        (DataError, "expected 2 keys", lambda: index.with_added(embed(2), [NUM])),
        (DataError, "integer keys", lambda: index.with_added(embed(1), ["a"])),
        (ShapeError, "embeddings", lambda: index.with_added(torch.zeros(1, DIM + 1), [NUM])),
        (DataError, "embeddings, row 0", lambda: index.with_added(torch.full((1, DIM), torch.nan), [NUM])),
    ]
    if len(KINDS[name].can) == 3:
        bad += [
            (DataError, "keys, row 1", lambda: index.with_updated(embed(2), [3, NUM])),
            (DataError, "keys, row 1", lambda: index.with_updated(embed(2), [3, 3])),
            (DataError, "expected 2 keys", lambda: index.with_updated(embed(2), [3])),
            (DataError, "keys, row 0", lambda: index.without([NUM])),
            (DataError, "keys, row 1", lambda: index.without([3, 3])),
            (DataError, "at least one candidate", lambda: index.without(range(NUM))),
        ]
        assert index.without([]).num_candidates == NUM
    for error, message, change in bad:
        with pytest.raises(error, match=message):
            change()
    assert index.with_added(torch.zeros(0, DIM), []).num_candidates == NUM
    after = index.search_rows(queries, 20)
    assert torch.equal(before.rows, after.rows)
    assert torch.equal(before.scores, after.scores)
    assert index.num_candidates == len(index.keys) == NUM


class Blind(Index):
    """An index that finds given rows whatever is asked."""

    is_exact = False
    keys = property(lambda self: self.judge.keys)
    num_candidates = property(lambda self: self.judge.num_candidates)

    def __init__(self, judge, rows):
        self.judge, self.rows = judge, torch.tensor(rows)

    def search_rows(self, queries, k, *, exclude=None, allow=None):
        return SearchResult(torch.zeros(self.rows.shape), self.rows)

    def save(self, directory):
        raise NotImplementedError

    @classmethod
    def from_snapshot(cls, snapshot):
        raise NotImplementedError


def test_recall_by_hand():
    judge, queries = Exact(torch.tensor([[4.0], [3.0], [3.0], [2.0], [1.0]])), torch.ones(2, 1)
    for found, recall in [
        ([[0, 1], [0, 1]], 1.0),
        ([[0, 2], [2, 0]], 1.0),  # row 2 ties with row 1
        ([[1, 2], [0, 3]], 0.75),  # both of the first query's reach the score of its last place
        ([[3, 4], [-1, -1]], 0.0),
        ([[0, -1], [4, 3]], 0.25),
    ]:
        assert Blind(judge, found).evaluate(queries, 2, judge) == recall
    exclude = Jagged.from_lists([[0, 1, 2, 3], [0, 1, 2, 3, 4]])  # one candidate is left for one query
    assert Blind(judge, [[4, -1], [-1, -1]]).evaluate(queries, 2, judge, exclude=exclude) == 1.0
    three = torch.ones(3, 1)
    assert repr(Blind(judge, [[0], [0], [4]]).evaluate(three, 1, judge)) == repr(2 / 3)  # not rounded to float32
    with pytest.raises(DataError, match="something to find"):
        Blind(judge, [[-1, -1], [-1, -1]]).evaluate(queries, 2, judge, allow=Jagged.from_lists([[]]))
    with pytest.raises(ConfigError, match="an exact index"):
        judge.evaluate(queries, 2, Blind(judge, [[0, 1]]))
    for other in (Exact(torch.ones(4, 1)), Exact(torch.ones(5, 1), list("abcde"))):
        with pytest.raises(ConfigError, match="same candidates"):
            judge.evaluate(queries, 2, other)


def test_what_no_class_here_writes_is_refused(tmp_path):
    Exact(torch.eye(2)).save(tmp_path / "index")
    with pytest.raises(StorageError, match="load_index"):
        Faiss.load(tmp_path / "index")
    write_manifest(tmp_path / "index", {"format": "retrank.index.magic", "version": 2})
    with pytest.raises(StorageError, match=r"index\.exact.*got 'retrank\.index\.magic'"):
        load_index(tmp_path / "index")
    (tmp_path / "index" / "manifest.json").write_text('{"payload": 3}')
    with pytest.raises(StorageError, match=r"manifest\.json"):
        load_index(tmp_path / "index")
    with pytest.raises(StorageError):
        load_index(tmp_path / "nowhere")
