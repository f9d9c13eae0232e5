import numpy as np
import pytest
import torch
from torch import nn

from retrank.optim.adagrad import Adagrad
from retrank.optim.ftrl import FTRL

STEPS = 30
SETTINGS = [
    {},
    {"l1": 0.3},
    {"l2": 0.5},
    {"l1": 0.1, "l2": 0.2, "beta": 1.0},
    {"l1": 0.1, "beta": 0.5, "initial_accumulator": 0.0},
]


def gradients(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(STEPS, *shape)).astype(np.float32)


def minimizers(start, gradients, rates, *, initial_accumulator=0.1, l1=0.0, l2=0.0, beta=0.0):
    """The paper's argmin, from the whole history of each step, one coordinate at a time."""
    path = np.zeros(gradients.shape)
    for place in np.ndindex(*start.shape):
        history, w, pull_sum = [], float(start[place]), 0.0
        for step, rate in enumerate(rates):
            g = float(gradients[(step, *place)])
            history.append([g, None, w])
            total = (np.sqrt(initial_accumulator + sum(past[0] ** 2 for past in history)) + beta) / rate
            history[-1][1] = total - pull_sum
            pull_sum = total
            # d/dw of the smooth part at w is slope + (pull_sum + 2 l2) w
            slope = sum(g for g, _, _ in history) - sum(pull * at for _, pull, at in history)
            w = 0.0 if abs(slope) <= l1 else -(slope - np.sign(slope) * l1) / (pull_sum + 2 * l2)
            path[(step, *place)] = w
    return path


def run(spec, start, gradients, rates=None):
    w = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = spec.build([("w", w)])
    path = []
    for step, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        w.grad = torch.from_numpy(gradient)
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("from_zero", [True, False])
def test_against_the_argmin(settings, from_zero):
    start = np.zeros((2, 3), np.float32) if from_zero else gradients((2, 3), seed=5)[0]
    steps = gradients((2, 3))
    expected = minimizers(start, steps, [0.2] * STEPS, **settings)
    got = run(FTRL(0.2, **settings), start, steps)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    if settings.get("l1") and from_zero:
        assert 0 < (got == 0).mean() < 1


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_from_zero_it_is_keras(settings):
    """Keras' update with learning_rate_power -0.5 and without shrinkage."""
    options = {"initial_accumulator": 0.1, "l1": 0.0, "l2": 0.0, "beta": 0.0} | settings
    steps, rate = gradients((4,)), 0.2
    w, linear, accumulator = np.zeros(4), np.zeros(4), np.full(4, options["initial_accumulator"])
    path = []
    for g in steps.astype(np.float64):
        l2 = options["l2"] + options["beta"] / (2 * rate)
        new = accumulator + g**2
        linear += g - (new**0.5 - accumulator**0.5) / rate * w
        quadratic = new**0.5 / rate + 2 * l2
        w = (np.clip(linear, -options["l1"], options["l1"]) - linear) / quadratic
        accumulator = new
        path.append(w)
    np.testing.assert_allclose(run(FTRL(rate, **settings), np.zeros(4, np.float32), steps), path, rtol=1e-4, atol=1e-5)


def test_without_penalties_it_is_adagrad_from_any_start_and_for_any_schedule():
    start, steps = gradients((5,), seed=1)[0] * 3, gradients((5,))
    rates = [0.3 / (1 + step) if step % 2 else 0.1 for step in range(STEPS)]
    expected = run(Adagrad(eps=0.01), start, steps, rates)
    np.testing.assert_allclose(run(FTRL(beta=0.01), start, steps, rates), expected, rtol=1e-3, atol=1e-5)


def test_a_schedule_against_the_argmin():
    start, steps = gradients((5,), seed=1)[0], gradients((5,))
    rates = [0.5 * 0.9**step for step in range(STEPS)]
    expected = minimizers(start, steps, rates, l1=0.05, l2=0.1)
    np.testing.assert_allclose(run(FTRL(l1=0.05, l2=0.1), start, steps, rates), expected, rtol=1e-4, atol=1e-5)


def test_warm_up_from_a_rate_of_zero():
    start, steps = np.ones(3, np.float32), gradients((3,))
    rates = [0.0, 0.0] + [0.1] * (STEPS - 2)
    got = run(FTRL(l1=0.1), start, steps, rates)
    assert (got[:2] == 1).all()
    np.testing.assert_array_equal(got[2:], run(FTRL(0.1, l1=0.1), start, steps[2:]))


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
def test_row_sparse_updates_each_row_by_itself(settings):
    rng = np.random.default_rng(2)
    start = rng.normal(size=(6, 2)).astype(np.float32)
    w = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = FTRL(0.2, **settings).build([("w", w)])
    of_row = {row: [] for row in range(6)}
    for _ in range(STEPS):
        ids, values = rng.integers(0, 5, size=4), rng.normal(size=(4, 2)).astype(np.float32)
        w.grad = torch.sparse_coo_tensor(
            torch.from_numpy(ids)[None], torch.from_numpy(values), (6, 2), check_invariants=False
        )
        optimizer.step()
        for row in set(ids.tolist()):
            of_row[row].append(values[ids == row].astype(np.float64).sum(axis=0))
    for row, own in of_row.items():
        expected = start[row] if not own else minimizers(start[row], np.array(own), [0.2] * len(own), **settings)[-1]
        np.testing.assert_allclose(w.detach()[row], expected, rtol=1e-4, atol=1e-5)


def test_a_number_without_dimensions():
    w = nn.Parameter(torch.tensor(1.0))
    optimizer = FTRL(0.1).build([("w", w)])
    w.grad = torch.tensor(1.0)
    optimizer.step()
    assert w.item() == pytest.approx(1 - 0.1 / 1.1**0.5)
