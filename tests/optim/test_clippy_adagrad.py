import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.optim.clippy_adagrad import ClippyAdagrad

OURS = {
    "learning_rate": "lr",
    "clip_accumulator_update": "clip_accumulator",
    "use_standard_accumulator_update": "accumulate_first",
}


def spec_of(case):
    arguments = dict(case["arguments"]["constructor"])
    assert arguments.pop("export_clipping_factors")  # ours are always in the state
    return ClippyAdagrad(**{OURS.get(name, name): value for name, value in arguments.items()})


def gradient_of(given, shape, *, dense):
    if not isinstance(given, dict):
        return torch.tensor(given)
    ids, values = torch.tensor(given["indices"]), torch.tensor(given["values"])
    if dense:
        return torch.zeros(shape).index_add_(0, ids, values)
    return torch.sparse_coo_tensor(ids[None], values, shape, check_invariants=False)


@pytest.mark.parametrize("dense", [False, True])
@golden("tfrs_clippy_adagrad")
def test_golden(case, dense):
    parameters = [nn.Parameter(torch.tensor(value)) for value in case["inputs"]["variables"]]
    optimizer = spec_of(case).build((str(place), parameter) for place, parameter in enumerate(parameters))
    for step, gradients in enumerate(case["inputs"]["gradients"]):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient_of(gradient, parameter.shape, dense=dense)
        optimizer.step()
        expected = {name: values[step] for name, values in case["expected"].items()}
        for place, parameter in enumerate(parameters):
            state = optimizer.state[parameter]
            for got, name in (
                (parameter.detach(), "variables"),
                (state["accumulator"], "accumulators"),
                (state["clipping_factor"], "clipping_factors"),
            ):
                np.testing.assert_allclose(got, expected[name][place], rtol=1e-4, atol=1e-5)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.2]), st.sampled_from([0.0, 0.01])
)
def test_no_weight_moves_further_than_its_bound(seed, of_weight, of_precondition, absolute):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=6).astype(np.float32) * (rng.random(6) > 0.2)
    gradient = (rng.normal(size=6) * rng.choice([0, 1, 1e3])).astype(np.float32)
    w = nn.Parameter(torch.from_numpy(start.copy()))
    spec = ClippyAdagrad(
        lr=2.0,
        variable_relative_threshold=of_weight,
        accumulator_relative_threshold=of_precondition,
        absolute_threshold=absolute,
    )
    optimizer = spec.build([("w", w)])
    w.grad = torch.from_numpy(gradient)
    optimizer.step()
    precondition = (0.1 + 1e-7) ** -0.5
    bound = of_weight * np.abs(start) + of_precondition * precondition + absolute
    moved = w.detach().numpy() - start
    assert (np.abs(moved) <= bound * (1 + 1e-4) + 1e-6 * np.abs(start)).all()
    factor = optimizer.state[w]["clipping_factor"].item()
    np.testing.assert_allclose(moved, -factor * 2.0 * precondition * gradient, rtol=1e-4, atol=1e-6)
    assert 0 <= factor <= 1


def test_the_state_says_when_nothing_was_clipped():
    table = EmbeddingTable(5, 2)
    optimizer = ClippyAdagrad().build(table.named_parameters())
    table.weight.grad = torch.sparse_coo_tensor(
        torch.zeros(1, 0, dtype=torch.int64), torch.zeros(0, 2), (5, 2), check_invariants=False
    )
    before = table.weight.detach().clone()
    optimizer.step()
    assert torch.equal(table.weight, before)
    assert optimizer.state[table.weight]["clipping_factor"] == 1


def test_a_raised_absolute_threshold_frees_what_starts_at_zero():
    moved = []
    for threshold in (1e-7, 1e-2):
        bias = nn.Parameter(torch.zeros(3))
        optimizer = ClippyAdagrad(lr=0.1, absolute_threshold=threshold).build([("bias", bias)])
        bias.grad = torch.ones(3)
        optimizer.step()
        moved.append(bias.abs().max().item())
    assert moved == pytest.approx([1e-7, 1e-2], rel=1e-3)


def test_every_option_survives_the_config():
    spec = ClippyAdagrad(
        0.2,
        initial_accumulator=0.3,
        variable_relative_threshold=0.4,
        accumulator_relative_threshold=0.5,
        absolute_threshold=0.6,
        eps=0.7,
        accumulate_first=True,
    )
    assert from_config(json.loads(json.dumps(to_config(spec)))) == spec
    spec = ClippyAdagrad(clip_accumulator=True)
    assert from_config(json.loads(json.dumps(to_config(spec)))) == spec
