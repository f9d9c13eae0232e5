"""What an optimizer must not step with: it is refused in words, for all parameters, before anything has changed."""

import pytest
import torch
from tests.optim.learners import DIM, ROWS, SPECS, STATES, TORCHS, everything, learner, named, same, sparse
from torch import nn

from retrank.core.errors import ConfigError, DataError, RetrankError, ShapeError
from retrank.optim.adagrad import Adagrad
from retrank.optim.composite import Composite
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.torch_specs import SGD, Adam

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def refused(optimizer, parameters, error, message):
    before = everything(optimizer, parameters)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert same(before, everything(optimizer, parameters))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("change", STATES)
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_state_of_another_form_stops_the_step_of_all_parameters(spec, change):
    optimizer, parameters = learner(spec, is_sparse=len(change) % 2 == 0)
    state = optimizer.state[parameters["middle"]]
    name = next(name for name, kept in state.items() if isinstance(kept, torch.Tensor))
    state[name] = STATES[change](state[name])
    if change == "not contiguous" and state[name].is_contiguous():
        pytest.skip("a column is contiguous in any case")
    expected = rf"parameter 'middle': expected a contiguous torch.float32 of shape \(8, [13]\) on cpu as '{name}'"
    refused(optimizer, parameters, RetrankError, expected)
    del state[name]
    if state:  # else it is as before the first step
        refused(optimizer, parameters, RetrankError, "parameter 'middle'")


def test_slots_of_different_lengths_are_no_growth():
    optimizer, parameters = learner(LazyAdam())
    state = optimizer.state[parameters["last"]]
    state["square"] = state["square"][:5].clone()
    refused(optimizer, parameters, ShapeError, "parameter 'last'.*as 'square'")


@pytest.mark.parametrize("step", [-1, 2.0, float("nan"), None, "2", True, 2**70, torch.tensor(2)])
def test_a_number_of_steps_that_cannot_be_is_refused(step):
    optimizer, parameters = learner(LazyAdam())
    optimizer.state[parameters["middle"]]["step"] = step
    refused(optimizer, parameters, DataError, "parameter 'middle'.*whole number of steps")
    saved = optimizer.state_dict()
    again, others = learner(LazyAdam())
    before = everything(again, others)
    with pytest.raises(DataError, match="parameter 'middle'.*whole number of steps"):
        again.load_state_dict(saved)
    assert same(before, everything(again, others))


@pytest.mark.parametrize("num_steps", [0, 2])
@pytest.mark.parametrize("spec", [*SPECS, SGD(lr=0.1)], ids=named)
def test_a_gradient_of_rows_that_are_not_there_stops_the_step_of_all_parameters(spec, num_steps):
    optimizer, parameters = learner(spec, num_steps)
    for ids in ([3, ROWS], [-1, 2], [2**40, 1], [-(2**63), 0], [2**63 - 1]):
        parameters["middle"].grad = sparse(ids)
        refused(optimizer, parameters, DataError, r"parameter 'middle': expected a gradient of rows in \[0, 8\)")


def test_a_composite_is_stopped_by_any_of_its_parts():
    spec = Composite([(Adagrad(lr=0.1), "first"), (LazyAdam(lr=0.1), "middle"), (Adam(lr=0.1), "last")])
    for name, bad in (("first", sparse([ROWS])), ("middle", sparse([-1])), ("last", sparse([1]))):
        optimizer, parameters = learner(spec, is_sparse=False)
        parameters[name].grad = bad
        refused(optimizer, parameters, RetrankError, f"parameter '{name}'")


@pytest.mark.parametrize("spec", [*SPECS, *TORCHS], ids=named)
def test_a_gradient_of_another_form_is_refused(spec):
    forms = [
        torch.zeros(ROWS + 1, DIM),
        torch.zeros(ROWS, DIM, 1),
        sparse([1], num_rows=ROWS - 1),
        sparse([1], dim=DIM + 1),
    ]
    for gradient in forms:
        optimizer, parameters = learner(spec, is_sparse=False)
        other = nn.Parameter(torch.zeros(gradient.shape))
        other.grad = gradient
        parameter = parameters["middle"]
        parameter.grad, weights = None, parameter.data
        parameter.data = other.data
        parameter.grad = gradient
        parameter.data = weights  # as after loading, or growing by hand
        refused(optimizer, parameters, RetrankError, "parameter 'middle'")


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_gradients_and_parameters_of_other_kinds_are_refused(spec):
    complex_one = nn.Parameter(torch.zeros(4, 2, dtype=torch.complex64))
    complex_one.grad = torch.ones(4, 2, dtype=torch.complex64)
    spread = nn.Parameter(torch.zeros(1, 2).expand(4, 2))
    spread.grad = torch.ones(4, 2)
    for parameter, message in ((complex_one, "real floating-point"), (spread, "in memory of their own")):
        with pytest.raises(ConfigError, match=message):
            step_once(spec, parameter)
    matrix = nn.Parameter(torch.zeros(4, 4))
    matrix.grad = torch.eye(4).to_sparse()
    with pytest.raises(ShapeError, match="2 sparse and 0 dense"):
        step_once(spec, matrix)


def step_once(spec, parameter):
    spec.build([("w", parameter)]).step()


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_learning_rate_that_cannot_be_is_refused_at_the_step(spec):
    optimizer, parameters = learner(spec)
    for lr in (float("nan"), -1.0, float("inf"), "0.1", None, [0.1], {}):
        optimizer.param_groups[0]["lr"] = lr
        refused(optimizer, parameters, ConfigError, "lr")


@pytest.mark.parametrize("spec", [*SPECS, *TORCHS], ids=named)
def test_a_parameter_is_given_once(spec):
    parameter = nn.Parameter(torch.zeros(2))
    with pytest.raises(ConfigError, match="the same one as 'a' and 'b'"):
        spec.build([("a", parameter), ("b", parameter)])
