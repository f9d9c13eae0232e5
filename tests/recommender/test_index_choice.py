"""A recommender of many candidates searches lists of codes, says so, and keeps every other promise."""

import polars as pl
import pytest
import torch
from tests.recommender.comparison import same_lists

import retrank as rr
from retrank.core.errors import RetrankWarning
from retrank.index import choice
from retrank.recommender import index_choice

pytest.importorskip("faiss")

USERS, SONGS, DIM = 60, 3_000, 16


class Ranker(rr.core.Configurable, rr.Model):
    """How much more retrieval likes a candidate than those of the standard list."""

    features = (rr.models.RETRIEVAL_SCORE, rr.models.IS_STANDARD)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        scores = batch[rr.models.RETRIEVAL_SCORE]
        return self.weight * (scores - scores[batch[rr.models.IS_STANDARD].bool()].mean())

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


def make_tables():
    g = torch.Generator().manual_seed(0)
    songs = pl.DataFrame({"song": [f"s{row}" for row in range(SONGS)], "year": torch.rand(SONGS, generator=g).numpy()})
    plays = pl.DataFrame(
        {
            "user": [f"u{user}" for user in range(USERS) for _ in range(10)],
            "song": [f"s{row}" for row in torch.randint(SONGS, (USERS * 10,), generator=g).tolist()],
        }
    )
    return songs, plays


def make_model(space):
    """Songs and users in clusters, as training would make them."""
    model = rr.models.MatrixFactorization(
        space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=DIM, space=space
    )
    g = torch.Generator().manual_seed(1)
    centres = torch.randn(30, DIM, generator=g)
    with torch.no_grad():
        for table in model.modules():
            if isinstance(table, rr.embeddings.EmbeddingTable) and table.dim == DIM:  # no biases
                rows = centres[torch.randint(30, (table.num_ids,), generator=g)]
                table.weight.copy_(rows + 0.2 * torch.randn(table.num_ids, DIM, generator=g))
    return model


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(index_choice, "LEAST_LISTED", 1_000)


def build(ranking=None, **arguments):
    songs, plays = make_tables()
    kinds = {"user": rr.features.Categorical(), "song": rr.features.Categorical(), "year": rr.features.Passthrough()}
    space = rr.FeatureSpace(kinds).fit(songs.with_columns(user=pl.Series([f"u{row % USERS}" for row in range(SONGS)])))
    return rr.Recommender(
        make_model(space), space=space, catalogue=songs, history=plays, ranking=ranking, num_retrieved=50,
        progress=False, **arguments,
    )  # fmt: skip


@pytest.fixture(scope="module")
def listed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_choice, "LEAST_LISTED", 1_000)
        return build()


@pytest.fixture(scope="module")
def exact():
    return build()


def everyone():
    return [f"u{user}" for user in range(USERS)]


def test_the_card_says_what_was_chosen_and_how_much_it_finds(listed):
    facts = listed.card.facts["index"]
    assert isinstance(listed.index, rr.index.Faiss)
    assert facts["factory"] == "IVF64,SQ8"
    assert facts["queries"] == USERS
    assert min(facts["recall@10"], facts["recall@100"]) >= 0.98
    sentence = index_choice.index_sentence(listed.card)
    assert sentence.startswith(f"Candidates are searched in {facts['effort']} lists of IVF64,SQ8: recall@10 ")
    assert "'recall@10'" in listed.card.to_markdown()


def test_few_candidates_are_searched_exactly_without_a_word(exact):
    assert isinstance(exact.index, rr.index.Exact)
    assert exact.card == rr.recommender.Card("A recommender")
    assert index_choice.index_sentence(exact.card) == ""


def test_lists_are_nearly_those_of_the_exact_index_and_scores_are_equal_to_the_bit(listed, exact):
    found, best = (one.recommend_many(everyone(), 10) for one in (listed, exact))
    both = found.join(best, on=["user", "song"])
    assert len(found) == len(best) == 10 * USERS
    assert len(both) >= 0.97 * len(best)
    assert both["score"].equals(both["score_right"])


def test_conditions_that_leave_five_of_all_leave_five(listed, exact):
    five = exact.candidates["song"].sample(5, seed=1)
    for rules in ({"allow": five.to_list()}, {"where": pl.col("song").is_in(five.implode())}):
        arguments = {"k": 10, "exclude_seen": False, **rules}
        found, best = (one.recommend_many(everyone(), **arguments) for one in (listed, exact))
        assert same_lists(found, best)
        assert len(found) == 5 * USERS


def test_one_and_many_agree(listed):
    many = listed.recommend_many(everyone(), 20)
    for key, lists in many.group_by("user"):
        alone = listed.recommend(key[0], 20)
        assert alone["song"].to_list() == lists["song"].to_list()
        assert alone["score"].to_list() == lists["score"].to_list()


def test_a_score_does_not_depend_on_how_many_are_asked_for(listed):
    served = build(Ranker(), index=listed.index.with_rescore(1))  # a longer search finds other best ones
    scores = {}
    for k in (5, 50, 120):
        for user, song, score in served.recommend_many(everyone(), k).select("user", "song", "score").rows():
            assert scores.setdefault((user, song), score) == score


def test_a_bundle_restores_it(listed, tmp_path):
    listed.save(tmp_path / "bundle")
    loaded = rr.Recommender.load(tmp_path / "bundle")
    assert isinstance(loaded.index, rr.index.Faiss)
    assert loaded.card == listed.card
    assert same_lists(loaded.recommend_many(everyone(), 20), listed.recommend_many(everyone(), 20))


def test_candidates_come_and_go(listed):
    more = listed.with_candidates(listed.candidates.head(1).with_columns(song=pl.lit("new")))
    assert more.recommend("u1", 5, allow=["new", "s3"], exclude_seen=False).height == 2
    best = listed.recommend("u1", 3)["song"].to_list()
    less = more.without_candidates(best[:2])
    assert less.recommend("u1", 1)["song"].to_list() == best[2:]
    assert isinstance(less.index, rr.index.Faiss)


def test_an_index_of_ones_own_wins(few_are_many, listed, exact):
    own = rr.index.Exact(exact.retrieval.embed_candidates(exact.catalogue.batch), exact.catalogue.keys)
    given = build(index=own)
    assert given.index is own
    assert "index" not in given.card.facts


def test_an_update_keeps_it_and_measures_anew(few_are_many, listed, exact):
    news = pl.DataFrame({"user": ["u1", "u2"] * 20, "song": [f"s{row}" for row in range(40)]})
    updated = rr.update(listed, news, epochs=1)
    assert isinstance(updated.index, rr.index.Faiss)
    judge = rr.index.Exact(updated.retrieval.embed_candidates(updated.catalogue.batch), updated.catalogue.keys)
    assert updated.card.facts["index"]["recall@10"] >= 0.98
    assert updated.index.evaluate(updated.retrieval.query_embeddings(queries_of(updated)), 10, judge) >= 0.97
    assert updated.card.facts["updates"]
    assert isinstance(rr.update(exact, news, epochs=1).index, rr.index.Exact)


def queries_of(recommender):
    return recommender.space.transform(pl.DataFrame({"user": everyone()}), features=["user"])


def test_what_lists_do_not_find_is_searched_exactly_and_the_card_forgets(few_are_many, listed, monkeypatch):
    monkeypatch.setattr(choice, "_RECALL", 1.1)
    with pytest.warns(RetrankWarning, match="3,000 candidates are searched exactly"):
        served = build(card=listed.card)
    assert isinstance(served.index, rr.index.Exact)
    assert "index" not in served.card.facts
