"""`retrank similar`."""

import json

import polars as pl
import pytest
from tests.command_line import retrank

import retrank as rr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    plays = pl.DataFrame({"user": [i % 7 for i in range(60)], "song": [i * 5 % 13 for i in range(60)]})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    schema = space.schema
    model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
    songs = pl.DataFrame({"song": list(range(13)), "year": list(range(13))})
    folder = tmp_path_factory.mktemp("similar") / "bundle"
    rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays).save(folder)
    return folder


def test_similar_candidates_are_those_of_python(bundle):
    found = json.loads(retrank("similar", bundle, "3", "-k", "4", "--where", "year > 5", "--json").stdout)
    expected = rr.Recommender.load(bundle).similar(3, 4, where=pl.col("year") > 5)
    assert found == {"song": 3, "similar": expected.to_dicts()}
    assert "like song 3" in retrank("similar", bundle, "3").stdout


@pytest.mark.parametrize("key", ["99", "abc"])
def test_keys_that_are_no_candidates_are_refused(bundle, key):
    result = retrank("similar", bundle, key)
    assert result.returncode == 2
    assert "song" in result.stderr or "candidate" in result.stderr
