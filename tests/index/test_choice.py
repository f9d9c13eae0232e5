"""The index that a catalogue gets by its size: as good as it says, and under the same rules as the exact one."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.core.errors import DataError, RetrankWarning
from retrank.core.jagged import Jagged
from retrank.index import Exact, Faiss
from retrank.index.choice import choose_index

pytest.importorskip("faiss")

N, DIM = 3_000, 16


def clusters(rows, seed):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(40, DIM, generator=torch.Generator().manual_seed(7))
    return centres[torch.randint(40, (rows,), generator=g)] + 0.2 * torch.randn(rows, DIM, generator=g)


EMBEDDINGS, QUERIES = clusters(N, 0), clusters(200, 1)
KEYS = [f"c{row}" for row in range(N)]


def choose(embeddings=EMBEDDINGS, queries=QUERIES, least=1_000):
    return choose_index(embeddings, KEYS[: len(embeddings)], lambda: queries, least_listed=least)


@pytest.fixture(scope="module")
def choice():
    return choose()


def test_few_candidates_are_indexed_exactly_and_nothing_is_measured():
    def sample():
        raise AssertionError("called")

    chosen = choose_index(EMBEDDINGS, KEYS, sample, least_listed=N + 1)
    assert isinstance(chosen.index, Exact)
    assert chosen.facts is None


def test_the_facts_are_those_of_the_index(choice):
    facts, judge = choice.facts, Exact(EMBEDDINGS, KEYS)
    assert isinstance(choice.index, Faiss)
    assert (facts["kind"], facts["factory"], facts["queries"]) == ("Faiss", "IVF64,SQ8", 200)
    assert (facts["effort"], facts["rescore"]) == (choice.index.effort, choice.index.rescore)
    for k in (10, 100):
        found = choice.index.search_rows(QUERIES, k).rows.tolist()
        best = (QUERIES.double() @ EMBEDDINGS.double().T).topk(k).indices.tolist()
        recall = sum(len(set(one) & set(other)) for one, other in zip(found, best, strict=True)) / (k * len(QUERIES))
        assert facts[f"recall@{k}"] == pytest.approx(recall, abs=1e-4)
        assert recall >= 0.98
    less = choice.index.with_effort(max(1, choice.index.effort // 2))
    assert min(less.evaluate(QUERIES, k, judge) for k in (10, 100)) < 0.98  # and no more lists than it takes


def test_the_same_arguments_give_the_same_index(choice, tmp_path):
    again = choose()
    assert again.facts == choice.facts
    choice.index.save(tmp_path / "one")
    again.index.save(tmp_path / "other")
    one, other = ((tmp_path / name / "index.faiss").read_bytes() for name in ("one", "other"))
    assert one == other


@pytest.mark.parametrize(
    ("embeddings", "queries", "reason"),
    [
        (torch.randn(N, DIM, generator=torch.Generator().manual_seed(3)), QUERIES, "an eighth of the lists"),
        (EMBEDDINGS, torch.empty(0, 1), "no known query"),
    ],
)
def test_what_lists_would_not_find_is_searched_exactly_with_a_warning(embeddings, queries, reason):
    with pytest.warns(RetrankWarning, match=f"3,000 candidates are searched exactly, as .*{reason}"):
        chosen = choose(embeddings, queries)
    assert isinstance(chosen.index, Exact)
    assert chosen.facts is None


def test_without_faiss_the_index_is_exact_and_a_warning_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.warns(RetrankWarning, match=r"not installed; install it with: pip install \"retrank\[ann\]\""):
        assert isinstance(choose().index, Exact)


def test_bad_embeddings_are_refused():
    broken = EMBEDDINGS.clone()
    broken[5, 3] = torch.nan
    with pytest.raises(DataError, match="embeddings, row 5"):
        choose(broken)


@given(st.data())
@settings(max_examples=40)
def test_rules_hold_and_no_list_is_short(choice, data):
    seed = data.draw(st.integers(0, 2**31))
    g = torch.Generator().manual_seed(seed)
    share = data.draw(st.sampled_from([0.001, 0.01, 0.1, 0.4, 0.9, 1.0]))
    allowed = torch.rand(N, generator=g) < share
    if data.draw(st.booleans()):  # nothing near the queries is allowed
        near = (QUERIES[:9] @ EMBEDDINGS.T).topk(data.draw(st.sampled_from([100, 2_000]))).indices.flatten()
        allowed[near] = False
    lengths = data.draw(st.lists(st.sampled_from([0, 1, 50, 1_500]), min_size=9, max_size=9))
    excluded = [torch.randperm(N, generator=g)[:length].tolist() for length in lengths]
    own = Jagged.from_lists([allowed.nonzero()[:, 0].tolist()] * 9)
    k = data.draw(st.sampled_from([1, 10, 100, 700]))
    judge = Exact(EMBEDDINGS)
    for allow in (allowed, own, None):
        rules = {"exclude": Jagged.from_lists(excluded), "allow": allow}
        found, best = choice.index.search_rows(QUERIES[:9], k, **rules), judge.search_rows(QUERIES[:9], k, **rules)
        assert torch.equal(found.rows >= 0, best.rows >= 0)  # as long as the exact list
        lists = [row[row >= 0].tolist() for row in found.rows]
        again = judge.search_rows(QUERIES[:9], k, exclude=excluded, allow=Jagged.from_lists(lists))
        assert torch.equal(found.scores, again.scores)  # to the bit, in the order of exact search
        assert torch.equal(found.rows, again.rows)
        if allow is not None and int(allowed.sum()) <= 1_000:  # few are all scored
            assert torch.equal(found.rows, best.rows)


def test_a_filter_costs_little_recall(choice):
    judge, generator = Exact(EMBEDDINGS, KEYS), torch.Generator().manual_seed(0)
    for share in (0.7, 0.4):
        allowed = torch.rand(N, generator=generator) < share
        assert choice.index.evaluate(QUERIES, 10, judge, allow=allowed) >= 0.97


def test_one_query_alone_finds_what_it_finds_among_others(choice):
    index = choice.index.with_effort(1)
    together = index.search_rows(QUERIES, 20)
    for number in range(len(QUERIES)):
        alone = index.search_rows(QUERIES[number : number + 1], 20)
        assert torch.equal(alone.scores[0], together.scores[number])
        assert torch.equal(alone.rows[0], together.rows[number])
