import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from retrank.core.errors import ConfigError, DataError, MissingExtraError, ShapeError, StorageError
from retrank.core.jagged import Jagged
from retrank.core.manifest import write_manifest
from retrank.index import Exact, Faiss
from retrank.index.faiss_structure import Structure

faiss = pytest.importorskip("faiss")


def clusters(rows, num_clusters=20, dim=16, spread=0.3):
    centres = torch.randn(num_clusters, dim, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(rows, dim, generator=torch.Generator().manual_seed(2))
    return centres[torch.arange(rows) % num_clusters] + spread * noise


def test_more_effort_finds_more():
    embeddings, queries = torch.randn(3000, 16), torch.randn(100, 16)
    judge = Exact(embeddings)
    index = Faiss(embeddings, factory="IVF32,Flat", effort=1)
    recalls = [index.with_effort(effort).evaluate(queries, 10, judge) for effort in (1, 4, 16, 32, 1000)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.6
    assert recalls[-2:] == [1.0, 1.0]
    with pytest.raises(ConfigError, match="effort >= 1, got 0"):
        index.with_effort(0)
    assert index.effort == 1


def test_a_graph_finds_neighbours_without_looking_at_all():
    embeddings = clusters(3000)
    assert Faiss(embeddings).evaluate(clusters(60), 10, Exact(embeddings)) > 0.9


@pytest.mark.parametrize("factory", ["IVF16,Flat", "HNSW16", "IVF16,PQ8x4"])
def test_where_the_lists_searched_hold_too_few_the_others_are_searched(factory):
    embeddings = clusters(800)
    index = Faiss(embeddings, factory=factory, effort=1)
    query = embeddings[:1]
    near = (embeddings @ query[0]).topk(700).indices
    far = sorted(set(range(800)) - set(near.tolist()))
    for rules in ({"exclude": Jagged.from_lists([near.tolist()])}, {"allow": Jagged.from_lists([far])}):
        scores, rows = index.search_rows(query, 150, **rules)
        assert sorted(rows[0, :100].tolist()) == far
        assert (rows[0, 100:] == -1).all()
        assert scores[0, :100].isfinite().all()


@pytest.mark.parametrize("factory", ["IVF16,Flat", "HNSW16"])
def test_thousands_of_exclusions_hold(factory):
    embeddings = clusters(4000)
    index, rng = Faiss(embeddings, factory=factory, effort=16), np.random.default_rng(0)
    excluded = [rng.permutation(4000)[:length].tolist() for length in (0, 5, 1024, 1025, 3995, 4000)]
    rows = index.search_rows(embeddings[:6], 10, exclude=Jagged.from_lists(excluded)).rows
    for row, taken in zip(rows.tolist(), excluded, strict=True):
        found = [place for place in row if place >= 0]
        assert len(set(found)) == len(found) == min(10, 4000 - len(taken))
        assert not set(found) & set(taken)


@pytest.mark.usefixtures("with_and_without_kernels")
@pytest.mark.parametrize(
    ("factory", "rescore"),
    [("Flat", None), ("IVF8,Flat", None), ("IVF8_HNSW4,Flat", None), ("HNSW16", None), ("PQ8x4", 4), ("HNSW16,SQ8", 2)],
)
def test_scores_are_those_of_exact_to_the_bit(factory, rescore):
    embeddings, queries = torch.randn(700, 48), torch.randn(40, 48)
    index, exact = Faiss(embeddings, factory=factory, effort=8, rescore=rescore), Exact(embeddings)
    if "HNSW16" not in factory:  # a graph cannot lose any
        embeddings[3:5] = torch.randn(2, 48)
        index, exact = (one.with_updated(embeddings[3:5], [3, 4]).without([0, 77, 699]) for one in (index, exact))
    index, exact = (one.with_added(torch.randn(9, 48, generator=seeded()), range(1000, 1009)) for one in (index, exact))
    exclude = Jagged.from_lists([list(range(row)) for row in range(40)])
    for rules in ({}, {"exclude": exclude}, {"allow": torch.arange(index.num_candidates) % 2 > 0}):
        scores, rows = index.search_rows(queries, 60, **rules)
        lists = Jagged(rows.flatten(), torch.arange(0, rows.numel() + 1, 60))
        expected = exact.search_rows(queries, 60, allow=lists)
        assert torch.equal(scores, expected.scores)
        assert torch.equal(rows, expected.rows)


def seeded():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("factory", ["SQ8", "PQ8x4", "IVF8,PQ8x4", "IVF8,SQ8", "HNSW16,SQ8", "HNSW16", "IVF8,Flat"])
def test_equal_vectors_have_equal_scores_whatever_faiss_makes_of_them(factory, monkeypatch):
    embeddings = torch.randn(150, 16).repeat(2, 1)
    index = Faiss(embeddings, factory=factory, effort=8)
    expected = index.search_rows(torch.randn(5, 16, generator=seeded()), 300)
    assert torch.equal(expected.scores[:, ::2], expected.scores[:, 1::2])  # each vector occurs twice

    def found_in_another_order(self, vectors, depth, effort, allowed):
        return torch.stack([torch.randperm(300) for _ in vectors])

    monkeypatch.setattr(Structure, "find", found_in_another_order)
    found = index.search_rows(torch.randn(5, 16, generator=seeded()), 300)
    assert all(map(torch.equal, found, expected))


def test_what_ties_for_the_last_place_comes_in_row_order():
    embeddings = torch.ones(600, 8)
    embeddings[:590] = 0.5
    for factory in ("Flat", "HNSW16"):
        found = Faiss(embeddings, factory=factory).search_rows(torch.ones(1, 8), 4).rows
        assert found.tolist() == [[590, 591, 592, 593]]


@pytest.mark.parametrize("factory", ["PQ8x4", "IVF16,PQ8x4"])
def test_rescoring_finds_more_and_its_scores_are_those_of_the_embeddings(factory):
    embeddings, queries = clusters(3000), clusters(100)
    judge = Exact(embeddings)
    index = Faiss(embeddings.clone(), factory=factory, effort=16, rescore=1)
    recalls = []
    for rescore in (None, 1, 4, 16, 10**6):
        index = index.with_rescore(rescore)
        recalls.append(index.evaluate(queries, 10, judge))
        scores, rows = index.search_rows(queries, 10)
        true_scores = torch.from_numpy(queries.double().numpy() @ embeddings.double().numpy().T).gather(1, rows)
        assert torch.allclose(scores.double(), true_scores, rtol=1e-5, atol=1e-5) == (rescore is not None)
        assert (scores.diff() <= 0).all()
    assert recalls[0] == pytest.approx(recalls[1], abs=0.02)  # the same, but where equal codes tie for the last place
    assert recalls[1] < 0.7
    assert recalls[1] < recalls[2] < recalls[3]
    assert recalls[4] == 1.0


def test_rescoring_scores_short_lists_of_allowed_candidates_exactly():
    embeddings = clusters(3000)
    index, judge = Faiss(embeddings, factory="PQ4x4", rescore=1), Exact(embeddings)
    rng = np.random.default_rng(0)
    own = Jagged.from_lists([rng.permutation(3000)[:length].tolist() for length in (20, 300, 1024)])
    shared = Jagged.from_lists([rng.permutation(3000)[:500].tolist()])
    for allow in (own, shared):
        assert index.evaluate(embeddings[:3], 10, judge, allow=allow) == 1.0
    assert index.evaluate(embeddings[:3], 10, judge) < 0.9


def test_the_embeddings_to_rescore_by_are_the_indexs_own():
    embeddings = clusters(500)
    index = Faiss(embeddings, factory="PQ8x4", rescore=500)
    before, changed = index.search_rows(clusters(5), 10), torch.randn(1, 16)
    embeddings.zero_()
    assert torch.equal(index.search_rows(clusters(5), 10).scores, before.scores)
    index = index.with_updated(changed, [7])
    changed.zero_()
    assert torch.equal(index.search_rows(clusters(5), 500).rows.sort(dim=1).values, torch.arange(500).expand(5, 500))
    assert not torch.equal(
        index.search_rows(clusters(5), 500, allow=Jagged.from_lists([[7]])).scores[:, 0], torch.zeros(5)
    )


def test_rescoring_is_saved_and_can_be_turned_off_and_on(tmp_path):
    embeddings, queries = clusters(500), clusters(9)
    built = Faiss(embeddings, factory="IVF4,PQ8x4", rescore=8)
    built.save(tmp_path / "index")
    index = Faiss.load(tmp_path / "index")
    assert index.rescore == 8
    expected = built.search_rows(queries, 10)
    assert torch.equal(index.search_rows(queries, 10).scores, expected.scores)
    index = index.with_rescore(None)
    assert not torch.equal(index.search_rows(queries, 10).scores, expected.scores)
    index.save(tmp_path / "codes")
    index = Faiss.load(tmp_path / "codes")
    assert index.rescore is None
    index = index.with_rescore(8)
    assert torch.equal(index.search_rows(queries, 10).scores, expected.scores)
    save_file({"embeddings": embeddings[1:]}, tmp_path / "index" / "embeddings.safetensors")
    write_manifest(tmp_path / "index", {"format": "retrank.index.faiss", "version": 2})
    with pytest.raises(StorageError, match="500 embeddings"):
        Faiss.load(tmp_path / "index")


@pytest.mark.parametrize("factory", ["HNSW16", "IVF4,Flat", "Flat"])
def test_scores_that_are_exact_already_are_not_rescored(factory):
    with pytest.raises(ConfigError, match=rf"codes \(PQ or SQ\) to rescore, got '{factory}'"):
        Faiss(torch.randn(100, 16), factory=factory, rescore=4)


def test_bad_rescoring_is_refused():
    with pytest.raises(ConfigError, match="rescore >= 1 or None, got 0"):
        Faiss(torch.randn(100, 16), factory="SQ8", rescore=0)
    index = Faiss(torch.randn(100, 16), factory="SQ8")
    with pytest.raises(ConfigError, match=r"codes alone.*Faiss\(rescore=\.\.\.\)"):
        index.with_rescore(4)
    assert index.with_rescore(None).rescore is None


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("magic", "could not parse"),
        ("IVF5000,Flat", "training points"),
        ("PQ5", "multiple of the number of subquantizers"),
        ("PQ8", "training points"),
        ("OPQ8,PQ8", "OPQ8"),
        ("PQ8x4fs", "IVF256,PQ16"),
        ("HNSW16,PQ8x4", "IVF256,PQ16"),
        ("NSG16", "NSG16"),
    ],
)
def test_structures_that_are_not_supported_or_do_not_fit(factory, message):
    with pytest.raises(ConfigError, match=message):
        Faiss(torch.randn(100, 16), factory=factory)


def test_bad_embeddings_are_refused():
    with pytest.raises(ShapeError, match="at least one candidate"):
        Faiss(torch.zeros(0, 4))
    with pytest.raises(ShapeError, match="float64"):
        Faiss(torch.zeros(3, 4, dtype=torch.float64))
    with pytest.raises(DataError, match="embeddings, row 1"):
        Faiss(torch.tensor([[0.0], [torch.nan]]))
    with pytest.raises(DataError, match="distinct keys"):
        Faiss(torch.zeros(2, 4), ["a", "a"])
    with pytest.raises(DataError, match="finite scores"):
        Faiss(torch.full((2, 1), 1e30), factory="Flat").search_rows(torch.full((1, 1), 1e30), 1)


@pytest.mark.parametrize("num_candidates", [1, 2, 5])
@pytest.mark.parametrize("factory", ["HNSW32", "Flat", "IVF1,Flat"])
def test_tiny_catalogues(num_candidates, factory):
    embeddings = torch.arange(1.0, num_candidates + 1)[:, None]
    rows = Faiss(embeddings, factory=factory).search_rows(torch.ones(1, 1), num_candidates).rows
    assert rows.tolist() == [list(range(num_candidates))[::-1]]


def test_graphs_refuse_what_they_cannot_do():
    index = Faiss(torch.randn(30, 4), factory="HNSW8")
    with pytest.raises(ConfigError, match=r"Faiss\.without.*'HNSW8', a graph"):
        index.without([1])
    with pytest.raises(ConfigError, match=r"Faiss\.with_updated.*'HNSW8', a graph"):
        index.with_updated(torch.randn(1, 4), [1])


def test_without_faiss_the_message_says_what_to_install(monkeypatch, tmp_path):
    Faiss(torch.randn(30, 4)).save(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "faiss", None)
    for make in (lambda: Faiss(torch.randn(30, 4)), lambda: Faiss.load(tmp_path / "index")):
        with pytest.raises(MissingExtraError, match=r"retrank\[ann\]"):
            make()


def test_settings_survive_saving_and_other_indexes_of_faiss_are_refused(tmp_path):
    Faiss(torch.randn(300, 4), factory="IVF8,Flat", effort=3).save(tmp_path / "index")
    index = Faiss.load(tmp_path / "index")
    assert index.effort == 3
    with pytest.raises(ConfigError, match=r"Faiss\.search"):
        index.search_rows(torch.randn(1, 4), 301)
    payload = {"format": "retrank.index.faiss", "version": 2}
    foreign = faiss.IndexFlatL2(4)
    foreign.add(np.zeros((300, 4), dtype=np.float32))
    faiss.write_index(foreign, str(tmp_path / "index" / "index.faiss"))
    write_manifest(tmp_path / "index", payload)
    with pytest.raises(StorageError, match="another index"):
        Faiss.load(tmp_path / "index")
    (tmp_path / "index" / "index.faiss").write_bytes(b"hello")
    write_manifest(tmp_path / "index", payload)
    with pytest.raises(StorageError, match="not recognized"):
        Faiss.load(tmp_path / "index")
