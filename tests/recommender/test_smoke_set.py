"""The smoke set: a bundle that answers otherwise than when it was saved is found out."""

import json
from datetime import date

import polars as pl
import pytest
import torch
from tests.recommender.song_world import KINDS, serve

import retrank as rr
from retrank.core.manifest import MANIFEST, parse_manifest, write_manifest
from retrank.core.tensor_files import parse_tensors, write_tensors
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.smoke_set import SMOKE_FILE, _is_same, check_smoke_set


def entries_of(bundle):
    found = json.loads((bundle / SMOKE_FILE).read_text())
    assert found["retrank"] == rr.__version__
    return found["requests"]


def rewritten(bundle, file, content):
    """Replace a file, and the manifest as if it had always been so."""
    payload = parse_manifest((bundle / MANIFEST).read_bytes(), "").payload
    (bundle / file).write_bytes(content)
    write_manifest(bundle, payload)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_request_is_asked_again(kind, tmp_path):
    serve(kind).save(tmp_path / "bundle")
    asked = [entry["request"] for entry in entries_of(tmp_path / "bundle")]
    assert 15 <= len(asked) <= 25
    for name in ("allow", "deny", "where", "history"):
        assert any(name in request for request in asked), name
    known = {request["query"].get("user") for request in asked}
    assert {"u0", "nobody", None} <= known
    loaded = rr.Recommender.load(tmp_path / "bundle", checks_answers=True)
    for entry in entries_of(tmp_path / "bundle"):
        (answer,) = loaded.answer([rr.recommender.Request(**entry["request"])])
        assert answer.keys == entry["keys"]
        assert answer.scores == entry["scores"]


@pytest.mark.parametrize("weights", ["retrieval.safetensors", "ranking.safetensors"])
def test_other_weights_are_found_out(weights, tmp_path):
    bundle = tmp_path / "bundle"
    serve("reranker").save(bundle)
    tensors = parse_tensors((bundle / weights).read_bytes(), "")
    changed = {
        name: tensor + torch.linspace(0, 1, tensor.numel()).view_as(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    write_tensors(tmp_path / "changed", changed)
    rewritten(bundle, weights, (tmp_path / "changed").read_bytes())
    rr.Recommender.load(bundle)
    with pytest.raises(rr.errors.StorageError, match=r"smoke.json, request 0: expected the list as when"):
        rr.Recommender.load(bundle, checks_answers=True)


def test_a_bundle_without_it_can_be_loaded(tmp_path):
    bundle = tmp_path / "bundle"
    serve("baseline").save(bundle)
    payload = parse_manifest((bundle / MANIFEST).read_bytes(), "").payload
    (bundle / SMOKE_FILE).unlink()
    write_manifest(bundle, payload)
    rr.Recommender.load(bundle, checks_answers=True)


@pytest.mark.parametrize(
    "content", [b"{}", b"[1]", b'{"retrank": "1", "requests": [{"request": {"query": 1}, "keys": [], "scores": []}]}',
                b'{"retrank": "1", "requests": [{"request": {"query": {}, "size": 1}, "keys": [], "scores": []}]}']
)  # fmt: skip
def test_a_damaged_one_is_an_error_of_storage(content, tmp_path):
    serve("baseline").save(tmp_path / "bundle")
    rewritten(tmp_path / "bundle", SMOKE_FILE, content)
    with pytest.raises(rr.errors.StorageError, match="smoke.json"):
        rr.Recommender.load(tmp_path / "bundle", checks_answers=True)


def answer(keys, scores):
    return RankedList(list(keys), scores, [0] * len(keys), "retrieval", [1.0] * len(keys))


def test_rounding_is_no_other_answer():
    assert _is_same(["a", "b"], [2.0, 1.0], answer("ab", [2.0 + 1e-5, 1.0]))
    assert not _is_same(["a", "b"], [2.0, 1.0], answer("ab", [2.1, 1.0]))
    assert not _is_same(["a", "b"], [2.0, 1.0], answer("ba", [2.0, 1.0]))
    assert not _is_same(["a", "b"], [2.0, 1.0], answer("a", [2.0]))
    assert _is_same(["a", "b"], [1.0, 1.0], answer("ba", [1.0, 1.0]))  # as good as each other
    assert _is_same(["a", "b"], [2.0, 1.0], answer("ac", [2.0, 1.0]))  # b and c at the end of the list
    assert not _is_same(["a", "b"], [2.0, 1.0], answer("cb", [2.0, 1.0]))
    assert _is_same([], [], answer("", []))
    assert _is_same(["a"], [1e6], answer("a", [1e6 + 50]))


def test_keys_and_features_that_json_has_not(tmp_path):
    plays = pl.DataFrame(
        {"user": [1, 1, 2, 0], "song": [3, 4, 3, 5], "day": [date(2020, 1, day) for day in (1, 2, 3, 4)]}
    )
    songs = pl.DataFrame({"song": [3, 4, 5], "it's": ["a'b", None, "c"], 'a "b"': [1, None, 3]})
    baseline = rr.baselines.ItemKNN().fit(plays, query="user", candidate="song", time="day")
    recommender = rr.Recommender(baseline, catalogue=songs, history=plays, time="day")
    recommender.save(tmp_path / "bundle")
    entries = entries_of(tmp_path / "bundle")
    assert {"query": {"user": 3}} in [entry["request"] for entry in entries]  # the first that is nobody's
    assert any("a''b" in entry["request"].get("where", "") for entry in entries)
    check_smoke_set(recommender._contents(), {"retrank": "1", "requests": entries}, "here")
