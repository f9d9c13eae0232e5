"""Bundles of earlier versions still load and answer alike; `write_v0.py` wrote the first, with the code of then."""

import json
from pathlib import Path

import pytest

import retrank as rr

WRITTEN = Path(__file__).parent / "v0"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())


@pytest.mark.parametrize("name", ["two_stage", "faiss"])
def test_a_bundle_still_loads_and_answers_alike(name):
    recommender = rr.Recommender.load(WRITTEN / name)
    for user, expected in zip(("u3", "u7", "nobody"), EXPECTED[name], strict=True):
        found = recommender.recommend({"user": user}, k=5).select("song", "score", "stage").rows()
        assert [row[0] for row in found] == [row[0] for row in expected]
        assert [row[1] for row in found] == pytest.approx([row[1] for row in expected], rel=1e-4)
        assert [row[2] for row in found] == [row[2] for row in expected]


@pytest.mark.parametrize(
    ("name", "arguments", "today"),
    [
        ("retrank.layers.product.Product", {}, rr.layers.HadamardProduct),
        ("retrank.layers.product.Slice", {"start": 1}, rr.layers.Slice),
        (
            "retrank.layers.two_stream.TwoStream",
            {"widths": [2, 2], "first_units": [4], "second_units": [4]},
            rr.layers.TwoStreamMLP,
        ),
    ],
)
def test_types_of_other_names_still_load(name, arguments, today):
    built = rr.core.from_config({"type": name, "arguments": arguments})
    assert type(built) is today
    assert rr.core.to_config(built)["type"] == f"retrank.layers.{today.__name__}"


def test_a_ranking_model_from_before_there_was_a_base_score_answers_alike():
    written = WRITTEN.parent / "before_base_score"
    recommender = rr.Recommender.load(written / "dcn")
    expected = json.loads((written / "expected.json").read_text())
    found = recommender.recommend_many(["u1", "u2"], k=5).select("user", "song", "score").rows()
    assert [row[:2] for row in found] == [tuple(row[:2]) for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=1e-4)
