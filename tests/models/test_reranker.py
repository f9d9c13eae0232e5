import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError
from retrank.models.pairs import Candidates, pair_batch
from retrank.models.reranked_lists import standardized
from retrank.models.reranker import Reranker

songs = pl.DataFrame({"song": list("vwxyz"), "genre": ["a", "b", "a", "b", "a"], "year": [1, 2, 3, 4, 5]})
plays = pl.DataFrame(
    {"song": list("vwxyz"), "recent": [["v"], ["w", "x"], [], ["y"], ["z", "v"]], "age": [1, 2, 1, 2, 1]}
)


@pytest.fixture
def space():
    kinds = {
        "song": rr.features.Categorical(),
        "genre": rr.features.Categorical(),
        "year": rr.features.Passthrough(),
        "age": rr.features.Categorical(),
        "recent": rr.features.Recent("song"),
    }
    return rr.FeatureSpace(kinds).fit(plays.join(songs, on="song"))


def build(space, **arguments):
    catalogue = space.catalogue(songs, key="song")
    return Reranker(
        space, ["genre", "year", "age"], candidate_id="song", catalogue=catalogue, recent="recent", **arguments
    )


def lists_of(space, num_lists=4, k=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.stack([torch.randperm(5, generator=draw)[:k] for _ in range(num_lists)])
    scores = torch.randn(num_lists, k, generator=draw).sort(dim=1, descending=True).values
    queries = space.transform(plays[:num_lists], features=["age", "recent"])
    return queries, Candidates(scores, rows)


def test_one_that_stands_out_as_far_as_it_may_is_the_same_where_it_is_not_standard():
    for size in range(2, 200):
        for outlier in (0.7071, -3.0, 0.1):
            values = torch.zeros(size, 1)
            values[size // 2] = outlier
            alone = standardized(values, torch.zeros(size).long())
            is_standard = torch.arange(2 * size) < size
            twice = standardized(values.repeat(2, 1), torch.zeros(2 * size).long(), is_standard)
            assert torch.equal(twice, alone.repeat(2, 1))


def test_standardized_within_lists():
    values = torch.randn(10, 2)
    lists = torch.tensor([0, 0, 0, 2, 2, 2, 2, 5, 3, 3])
    got = standardized(values, lists).numpy()
    for one in set(lists.tolist()):
        own = values.numpy()[lists.numpy() == one]
        expected = (own - own.mean(0)) / own.std(0) if len(own) > 1 else np.zeros_like(own)
        np.testing.assert_allclose(got[lists.numpy() == one], expected, atol=1e-5)


def test_what_is_usual_is_told_by_the_standard_pairs():
    values, lists = torch.randn(12, 2), torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 5, 5, 3, 3])
    is_standard = torch.tensor([1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1]) > 0
    values[3] = torch.tensor([100.0, -100.0])  # far from what is usual
    got = standardized(values, lists, is_standard).numpy()
    for one in set(lists.tolist()):
        own, usual = values.numpy()[lists == one], values.numpy()[(lists == one) & is_standard]
        expected = np.zeros_like(own)
        if len(usual) > 1:
            limit = np.sqrt(len(usual) - 1) + 1e-6
            expected = ((own - usual.mean(0)) / usual.std(0)).clip(-limit, limit)
        np.testing.assert_allclose(got[lists == one], expected, atol=1e-5)
    all_of_them = torch.ones(12, dtype=torch.bool)
    assert torch.equal(standardized(values, lists, all_of_them), standardized(values, lists))
    few = standardized(values[is_standard], lists[is_standard])
    assert torch.equal(standardized(values, lists, is_standard)[is_standard], few)  # to the bit


@given(st.integers(2, 100), st.floats(2**-10, 2**10, width=32), st.floats(-10, 10, width=32))
def test_a_pair_beside_the_standard_ones_is_like_the_standard_one_of_its_number(num_standard, outlier, others):
    """Also at the limit, which a number that differs from all others reaches: rounding decides on which side of it."""
    standard = torch.full((num_standard, 1), others)
    standard[-1] = others + outlier
    values = torch.cat([standard, standard])
    is_standard = torch.arange(len(values)) < num_standard
    one, other = standardized(values, torch.zeros(len(values)).long(), is_standard).split(num_standard)
    assert torch.equal(one, other)


def test_it_starts_at_the_order_of_retrieval(space):
    queries, lists = lists_of(space)
    model = build(space).eval()
    scores = model(pair_batch(queries, model.catalogue.batch, lists)).view(4, 3)
    assert torch.equal(scores.argsort(dim=1, descending=True), torch.arange(3).expand(4, 3))


def test_a_list_gets_the_same_scores_alone_and_among_others(space):
    queries, lists = lists_of(space)
    model = build(space).eval()
    torch.nn.init.normal_(model.correction.linears[-1].weight)
    together = model(pair_batch(queries, model.catalogue.batch, lists)).view(4, 3)
    alone = model(pair_batch(queries[1:2], model.catalogue.batch, Candidates(lists.scores[1:2], lists.rows[1:2])))
    np.testing.assert_allclose(alone.detach(), together[1].detach(), atol=1e-5)


def test_missing_places_do_not_change_a_list(space):
    queries, lists = lists_of(space)
    model = build(space).eval()
    torch.nn.init.normal_(model.correction.linears[-1].weight)
    short = Candidates(lists.scores.clone(), lists.rows.clone())
    short.rows[:, 2], short.scores[:, 2] = -1, -torch.inf
    cut = Candidates(lists.scores[:, :2], lists.rows[:, :2])
    batch = model.catalogue.batch
    np.testing.assert_allclose(
        model(pair_batch(queries, batch, short)).view(4, 3)[:, :2].detach(),
        model(pair_batch(queries, batch, cut)).view(4, 2).detach(),
        atol=1e-5,
    )


def test_it_learns_what_retrieval_does_not_know(space):
    draw = torch.Generator().manual_seed(0)
    num_lists = 200
    rows = torch.stack([torch.randperm(5, generator=draw)[:3] for _ in range(num_lists)])
    positive = (songs["year"].to_torch()[rows]).argmax(dim=1)
    queries = space.transform(plays.sample(num_lists, with_replacement=True, seed=0), features=["age", "recent"])
    scores = torch.randn(num_lists, 3, generator=draw).sort(dim=1, descending=True).values
    lists = queries.merge({"candidates": rows, "retrieval_score": scores, "positive": positive})
    model = build(space, dropout=0.0)
    loader = rr.data.Loader(lists, batch_size=32, shuffle=True)
    before = model.evaluate(loader)["loss"]
    model.fit(loader, optimizer=rr.optim.LazyAdam(lr=0.02), epochs=20, progress=False)
    assert model.evaluate(loader)["loss"] < 0.2 < before


def test_bundle_round_trip(space):
    model = build(space)
    model.co_occurrence.fit(rr.Jagged.from_lists([[2, 3], [2, 3, 4]]))
    again = rr.core.from_config(rr.core.to_config(model), space=space, catalogue=model.catalogue)
    again.load_state_dict(model.state_dict())
    queries, lists = lists_of(space)
    pairs = pair_batch(queries, model.catalogue.batch, lists)
    assert torch.equal(again.eval()(pairs), model.eval()(pairs))


def test_bad_arguments_are_refused(space):
    with pytest.raises(ConfigError, match="'nothing'"):
        Reranker(space, ["nothing"], candidate_id="song")
    with pytest.raises(ConfigError, match="vocabulary of 'genre'"):
        Reranker(space, ["age"], candidate_id="genre", recent="recent")
    taken = rr.FeatureSpace({"song": rr.features.Categorical(), "list": rr.features.Categorical(column="song")})
    with pytest.raises(ConfigError, match="'list'"):
        Reranker(taken.fit(songs), ["list"], candidate_id="song")
    with pytest.raises(ConfigError, match="catalogue"):
        _ = Reranker(space, ["age"], candidate_id="song").query_features


def test_how_many_co_occurrences_are_kept_is_configured_and_survives_growth_and_saving(space):
    lists = rr.Jagged.from_lists([[2, 3, 4, 5, 6]] * 2)
    few, many = build(space, num_neighbors=1), build(space)
    for model in (few, many):
        model.co_occurrence.fit(lists)
    num_ids = space.schema["song"].num_ids
    assert len(few.co_occurrence.neighbors) <= num_ids < len(many.co_occurrence.neighbors)
    again = rr.core.from_config(rr.core.to_config(few), space=space, catalogue=few.catalogue)
    again.load_state_dict(many.state_dict())  # a bundle may hold more
    assert len(again.co_occurrence.neighbors) == len(many.co_occurrence.neighbors)
    again.co_occurrence.grow(num_ids + 3)
    again.co_occurrence.fit(lists)
    assert len(again.co_occurrence.neighbors) <= num_ids + 3


def test_what_a_query_has_in_no_order_is_compared_as_a_whole():
    seen = plays.rename({"recent": "seen"}).with_columns(seen=pl.lit(list("vwxyz") * 20))
    kinds = {"song": rr.features.Categorical(), "genre": rr.features.Categorical(), "seen": rr.features.Seen("song")}
    space = rr.FeatureSpace(kinds).fit(seen.join(songs, on="song"))
    catalogue = space.catalogue(songs, key="song")
    model = Reranker(space, ["genre"], candidate_id="song", catalogue=catalogue, recent="seen").eval()
    torch.nn.init.normal_(list(model.correction.parameters())[-2])
    ids = dict(zip(songs["song"], catalogue.batch["song"].tolist(), strict=True))
    together = [["v", "w"], ["v", "w"], ["x", "y"], ["z"]]
    model.co_occurrence.fit(rr.Jagged.from_lists([[ids[song] for song in songs] for songs in together]))
    few = [["w", *["z"] * 60], [*["z"] * 60, "w"]]  # wherever it stands, it is as much of the whole
    queries = space.transform(pl.DataFrame({"seen": few}), features=["seen"])
    lists = Candidates(torch.zeros(2, 4), torch.arange(4).expand(2, 4))
    scores = model(pair_batch(queries, catalogue.batch, lists, query_features=["seen"])).view(2, 4)
    assert torch.allclose(scores[0], scores[1], atol=1e-6)
    cosines = model.co_occurrence(queries["seen"], torch.tensor([ids["v"], ids["v"]]))
    assert torch.allclose(cosines, torch.full((2, 1), 1 / 61))
