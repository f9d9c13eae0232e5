"""What `state_dict` returned and was changed since: it is refused in words, before anything has been loaded."""

import copy

import pytest
import torch
from tests.optim.learners import DIM, ROWS, SPECS, STATES, TORCHS, everything, learner, named, same

from retrank.core.errors import ConfigError, RetrankError
from retrank.optim.adagrad import Adagrad
from retrank.optim.composite import Composite
from retrank.optim.lazy_adam import LazyAdam


def without(saved, *keys):
    for key in keys[:-1]:
        saved = saved[key]
    saved.pop(keys[-1])


def put(saved, value, *keys):
    for key in keys[:-1]:
        saved = saved[key]
    saved[keys[-1]] = value


def first_slot(saved):
    return next(name for name, value in saved["state"][1].items() if torch.is_tensor(value) and value.ndim)


CHANGES = {
    "no state": lambda saved: without(saved, "state"),
    "no groups": lambda saved: without(saved, "param_groups"),
    "groups that are none": lambda saved: put(saved, 3, "param_groups"),
    "a group more": lambda saved: saved["param_groups"].append(copy.deepcopy(saved["param_groups"][0])),
    "a group that is none": lambda saved: put(saved, "group", "param_groups", 0),
    "no parameters": lambda saved: without(saved, "param_groups", 0, "params"),
    "a parameter less": lambda saved: saved["param_groups"][0]["params"].pop(),
    "a parameter twice": lambda saved: put(saved, [0, 1, 1], "param_groups", 0, "params"),
    "parameters that are none": lambda saved: put(saved, [0, [1], 2], "param_groups", 0, "params"),
    "names of fewer": lambda saved: put(saved, ["first"], "param_groups", 0, "param_names"),
    "no learning rate": lambda saved: without(saved, "param_groups", 0, "lr"),
    "a negative learning rate": lambda saved: put(saved, -0.1, "param_groups", 0, "lr"),
    "a learning rate in words": lambda saved: put(saved, "fast", "param_groups", 0, "lr"),
    "the state of a stranger": lambda saved: put(saved, saved["state"][0], "state", 7),
    "a state that is none": lambda saved: put(saved, [1, 2], "state", 1),
    "a tensor less": lambda saved: without(saved, "state", 1, first_slot(saved)),
    "a tensor more": lambda saved: put(saved, torch.zeros(ROWS, DIM), "state", 1, "other"),
    "a name that is none": lambda saved: put(saved, torch.zeros(ROWS, DIM), "state", 1, 4),
    **{
        f"a tensor with {change}": lambda saved, change=change: put(
            saved, STATES[change](saved["state"][1][first_slot(saved)]), "state", 1, first_slot(saved)
        )
        for change in STATES
        if change not in ("not contiguous", "one number shown many times", "on another device", "nothing")
    },
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("spec", [*SPECS, *TORCHS, Composite([(LazyAdam(lr=0.1), "*")])], ids=named)
def test_a_saved_state_that_does_not_fit_is_refused_before_anything_is_loaded(spec):
    optimizer, _ = learner(spec, is_sparse=False)
    kept = optimizer.state_dict()
    again, parameters = learner(spec, 1, is_sparse=False)
    before = everything(again, parameters)
    for change, make in CHANGES.items():
        saved = copy.deepcopy(kept)
        make(saved)
        if saved["state"].get(1) == {} if "state" in saved else False:
            continue  # all that there was is gone: the state of a parameter that has taken no step
        with pytest.raises(RetrankError, match="load_state_dict|settings|lr"):
            again.load_state_dict(saved)
        assert same(before, everything(again, parameters)), change
    again.load_state_dict(kept)
    again.step()


@pytest.mark.parametrize(
    "saved", [None, [], 3, {}, {"state": [], "param_groups": []}, {"state": {}, "param_groups": {}}]
)
def test_what_is_no_saved_state_is_refused(saved):
    optimizer, _ = learner(Adagrad())
    with pytest.raises(ConfigError, match="load_state_dict of an optimizer: expected a dict"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_saved_state_in_another_layout_is_loaded_as_numbers(spec):
    optimizer, parameters = learner(spec)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        for name, kept in state.items():
            if torch.is_tensor(kept) and kept.ndim:
                state[name] = kept.t().contiguous().t()
    again, others = learner(spec, 0)
    again.load_state_dict(saved)
    for parameter, other in zip(parameters.values(), others.values(), strict=True):
        other.data.copy_(parameter.data)
    optimizer.step()
    again.step()
    assert same(everything(optimizer, parameters), everything(again, others))
