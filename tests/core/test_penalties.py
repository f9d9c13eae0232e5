"""Penalties belong to the step in which they were added, and to nothing else."""

import threading

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from retrank.core.penalties import add_penalty, collecting_penalties


def add(value):
    add_penalty(lambda: torch.tensor(float(value)))


def test_outside_of_a_step_a_penalty_is_neither_kept_nor_computed():
    add_penalty(lambda: pytest.fail("was computed"))
    with collecting_penalties() as penalties:
        pass
    add(1)
    assert penalties.total() == 0


def test_the_total_can_be_read_twice_and_sees_what_is_added_until_the_step_ends():
    with collecting_penalties() as penalties:
        add(1)
        assert penalties.total() == 1
        add(2)
    add(4)
    assert penalties.total() == penalties.total() == 3


def test_a_step_within_a_step_collects_for_itself():
    with collecting_penalties() as outer:
        add(1)
        with collecting_penalties() as inner:
            add(2)
        add(4)
    assert (outer.total(), inner.total()) == (5, 2)


def test_a_step_that_fails_is_over():
    with pytest.raises(KeyError), collecting_penalties() as penalties:
        add(1)
        raise KeyError
    add(2)
    assert penalties.total() == 1


def test_threads_collect_for_themselves():
    barrier, totals = threading.Barrier(4), {}

    def step(number):
        with collecting_penalties() as penalties:
            for _ in range(50):
                barrier.wait()
                add(number)
        totals[number] = penalties.total().item()

    threads = [threading.Thread(target=step, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == {number: 50 * number for number in range(4)}


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_under_gradient_checkpointing_each_penalty_is_counted_once_and_has_its_gradient(use_reentrant):
    weight = torch.tensor([2.0], requires_grad=True)
    calls = []

    def layer(inputs):
        calls.append(torch.is_grad_enabled())
        add_penalty(lambda: 3 * weight.square().sum())
        return inputs * weight

    with collecting_penalties() as penalties:
        hidden = checkpoint(layer, torch.ones(1, requires_grad=True), use_reentrant=use_reentrant)
        output = checkpoint(layer, hidden, use_reentrant=use_reentrant)
    (output.sum() + penalties.total()).backward()
    assert len(calls) == 4  # each ran again in the backward pass
    assert penalties.total() == 2 * 3 * 4
    assert weight.grad == 2 * 2 + 2 * 3 * 2 * 2  # of weight², and of two penalties
