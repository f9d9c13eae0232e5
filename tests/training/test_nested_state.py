import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(torch.tensor)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.integers(0, 9) | st.sampled_from(["tensor", "tuple", "float", "dict", "x.y"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@given(TREES)
def test_round_trip_through_json(tree):
    structure, tensors = rr.training.flatten(tree)
    assert equal(rr.training.unflatten(json.loads(json.dumps(structure, allow_nan=False)), tensors), tree)


def test_similar_paths_stay_apart():
    tree = {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}, 1: torch.full((1,), 2.0), "1": torch.full((1,), 3.0)}
    structure, tensors = rr.training.flatten(tree)
    assert equal(rr.training.unflatten(structure, tensors), tree)


def test_shared_tensors_are_stored_once_and_views_apart():
    whole = torch.arange(6.0)
    tree = {"one": whole, "two": whole, "part": whole[:2], "other": whole[2:4]}
    structure, tensors = rr.training.flatten(tree)
    assert len(tensors) == 3
    assert tensors["part"].untyped_storage().nbytes() == 8
    assert equal(rr.training.unflatten(structure, tensors), tree)


def test_the_state_of_torch_optimizers_survives(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], betas=(0.8, 0.9))
    weight.sum().backward()
    optimizer.step()
    rr.training.write_checkpoint(tmp_path / "run", optimizer.state_dict(), {})
    assert equal(rr.training.read_checkpoint(tmp_path / "run"), optimizer.state_dict())


def test_what_cannot_be_stored_is_named():
    with pytest.raises(rr.errors.ConfigError, match=r"state 'a\.1'.*|got set"):
        rr.training.flatten({"a": [1, {2}]})


def test_a_missing_tensor_is_damage():
    structure, _ = rr.training.flatten({"a": torch.ones(1)})
    with pytest.raises(rr.errors.StorageError, match="'a'"):
        rr.training.unflatten(structure, {})
