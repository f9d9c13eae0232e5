import polars as pl
import pytest
import torch

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.recommender import mine_lists

songs = pl.DataFrame({"song": [f"s{i}" for i in range(12)]})
train = pl.DataFrame({"user": ["a", "a", "a", "b", "b", "c"], "song": ["s0", "s1", "s2", "s3", "s4", "s5"]})
later = pl.DataFrame({"user": ["a", "b", "b"], "song": ["s2", "s4", "elsewhere"]})


@pytest.fixture
def parts():
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()})
    space.fit(train)
    catalogue = space.catalogue(songs, key="song")
    model = rr.models.MatrixFactorization(
        space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4, catalogue=catalogue
    )
    return model, space, catalogue


def test_lists_hold_the_positive_and_nothing_else_the_query_has(parts):
    lists = mine_lists(*parts, later, train, features=["user"], k=10)
    assert len(lists) == 2
    keys = parts[2].keys
    for user, positive, row, place in zip("ab", ["s2", "s4"], lists["candidates"], lists["positive"], strict=True):
        found = [keys[i] for i in row if i >= 0]
        assert keys[row[place]] == positive
        others = set(train.filter(user=user)["song"]) - {positive}
        assert not others & set(found)
    assert torch.equal(lists["user"], parts[1].transform(later[:2])["user"])
    assert (lists["retrieval_score"].diff(dim=1).nan_to_num(0) <= 0).all()


def test_lists_that_miss_their_positive_are_dropped(parts):
    few = [len(mine_lists(*parts, train, train, features=["user"], k=k)) for k in (4, 12)]
    assert 0 < few[0] < few[1] == len(train)


def test_no_query_features_are_needed(parts):
    lists = mine_lists(*parts, later, train, features=[], k=10)
    assert lists.names == ("candidates", "retrieval_score", "positive")
    space, catalogue = parts[1], parts[2]
    model = rr.models.Reranker(space, ["song"], candidate_id="song", catalogue=catalogue)
    assert model.query_features == []
    model.fit(rr.data.Loader(lists, 2), optimizer=rr.optim.LazyAdam(lr=0.01), epochs=1, progress=False)


def test_a_draw_is_repeatable(parts):
    one, other = (
        mine_lists(*parts, train, train, features=["user"], k=10, max_lists=3, seed=s)["candidates"] for s in (1, 1)
    )
    assert torch.equal(one, other)
    assert len(one) == 3


def test_bad_input_is_refused(parts):
    with pytest.raises(ConfigError, match="k in"):
        mine_lists(*parts, later, train, features=["user"], k=13)
    with pytest.raises(DataError, match="positive"):
        mine_lists(*parts, later[2:], train, features=["user"], k=5)
    with pytest.raises(DataError, match="'song'"):
        mine_lists(*parts, later.drop("song"), train, features=["user"], k=5)
