import numpy as np
import polars as pl
import pytest

import retrank as rr
from retrank.core.errors import ConfigError, DataError, NotFittedError

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
    np.testing.assert_allclose(recent.weights, expected, rtol=1e-6)
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
