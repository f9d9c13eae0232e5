import math

import numpy as np
import polars as pl
import pytest
import torch

import retrank as rr
from retrank.core.errors import ConfigError, DataError, NotFittedError
from retrank.core.jagged import Jagged

views = pl.DataFrame(
    {"film": ["a", "b", "b", "c", "c", "c"], "recent": [[], ["a"], ["a", "b"], ["z"], ["c", "b", "a"], ["a", "a"]]}
)


def fitted(**arguments):
    kinds = {"recent": rr.features.Recent("film", **arguments), "film": rr.features.Categorical()}
    return rr.FeatureSpace(kinds).fit(views)


def test_ids_are_those_of_the_other_feature():
    space = fitted()
    batch = space.transform(views)
    film = {key: int(i) for key, i in zip(views["film"], batch["film"], strict=True)}
    assert batch["recent"].to_lists() == [[film.get(key, 1) for key in row] for row in views["recent"]]
    assert space.schema["recent"].num_ids == space.schema["film"].num_ids
    assert space.schema["recent"].is_jagged


def test_older_keys_weigh_less_and_long_lists_lose_their_beginning():
    recent = fitted(length=2, decay=0.5).transform(views)["recent"]
    assert [len(row) for row in recent.to_lists()] == [0, 1, 2, 1, 2, 2]
    expected = [1, np.exp(-0.5), 1, 1, np.exp(-0.5), 1, np.exp(-0.5), 1]
    np.testing.assert_allclose(recent.weights, expected, rtol=1e-6, atol=1e-30)
    full = fitted().transform(views)["recent"]
    assert recent.to_lists() == [row[-2:] for row in full.to_lists()]


def test_with_a_power_old_keys_fade_ever_more_slowly():
    recent = fitted(decay=0.5, power=2).transform(views)["recent"]
    assert [len(row) for row in recent.to_lists()] == [0, 1, 2, 1, 3, 2]
    later = np.array([2, 1, 0])
    np.testing.assert_allclose(recent.weights[4:7], np.exp(-0.5 * later) / (1 + later) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(fitted(power=0.0).transform(views)["recent"].weights, np.ones(9))


def test_a_list_alone_has_the_weights_that_it_has_among_others():
    space = fitted(decay=0.3, power=0.75)
    together = space.transform(views)["recent"]
    for row in range(len(views)):
        alone = space.transform(views[row])["recent"]
        np.testing.assert_array_equal(
            alone.weights, together.weights[together.offsets[row] : together.offsets[row + 1]]
        )


def test_growing_and_saving_keep_them_together(tmp_path):
    space = fitted(decay=0.1, power=0.5)
    space.grow(pl.DataFrame({"film": ["z"]}), features=["film"])
    assert space.transform(views)["recent"].to_lists()[3] == [space.schema["film"].num_ids - 1]
    space.save(tmp_path / "space")
    again = rr.FeatureSpace.load(tmp_path / "space").transform(views)["recent"]
    assert again.to_lists() == space.transform(views)["recent"].to_lists()
    np.testing.assert_array_equal(again.weights, space.transform(views)["recent"].weights)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="'nothing'"):
        rr.FeatureSpace({"recent": rr.features.Recent("nothing")})
    with pytest.raises(ConfigError, match="'year'"):
        rr.FeatureSpace({"recent": rr.features.Recent("year"), "year": rr.features.Passthrough()})
    with pytest.raises(ConfigError, match="decay"):
        rr.features.Recent("film", decay=-1)
    with pytest.raises(ConfigError, match="power"):
        rr.features.Recent("film", power=-1)
    with pytest.raises(ConfigError, match="length"):
        rr.features.Recent("film", length=0)
    with pytest.raises(DataError, match="'recent'"):
        fitted().transform(pl.DataFrame({"film": ["a"], "recent": ["a"]}))
    with pytest.raises(DataError, match=r"'recent'.*row 1"):
        fitted().transform(pl.DataFrame({"film": ["a", "b"], "recent": [["a"], None]}))
    with pytest.raises(NotFittedError):
        rr.features.Recent("film").transform(views["recent"], "recent")


@pytest.mark.parametrize(("decay", "power"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.75), (0.3, 0.5)])
def test_weights_are_the_same_alone_and_among_others_whatever_came_before(decay, power):
    generator = torch.Generator().manual_seed(0)
    kind = rr.features.Recent("film", decay=decay, power=power)
    for longest in (3, 7, 50, 20, 400):
        lengths = torch.randint(0, longest + 1, (30,), generator=generator)
        many = kind.weighted(Jagged.from_lengths(torch.zeros(int(lengths.sum()), dtype=torch.int64), lengths))
        fresh = rr.features.Recent("film", decay=decay, power=power)
        for row, length in enumerate(lengths.tolist()):
            ids = Jagged.from_lengths(torch.zeros(length, dtype=torch.int64), torch.tensor([length]))
            expected = [math.exp(-decay * n) / (1 + n) ** power for n in range(length - 1, -1, -1)]
            assert torch.equal(kind.weighted(ids).weights, many[row : row + 1].weights)
            assert torch.equal(fresh.weighted(ids).weights, many[row : row + 1].weights)
            np.testing.assert_allclose(many[row : row + 1].weights, expected, rtol=1e-6, atol=1e-30)


def test_weights_made_in_a_request_may_be_trained_with():
    kind = rr.features.Recent("film", power=0.75)
    ids = Jagged.from_lengths(torch.zeros(3, dtype=torch.int64), torch.tensor([3]))
    with torch.inference_mode():
        kind.weighted(ids)
    scale = torch.ones(3, requires_grad=True)
    (kind.weighted(ids).weights * scale).sum().backward()
    assert scale.grad is not None
