"""Two processes that train together are one process with the whole batch."""

import os
import subprocess
import sys

import pytest
import torch
from tests.tasks import processes
from tests.tasks.processes import OPTIONS, SIZES, inputs, layer

from retrank.sampling import StreamingFrequency
from retrank.tasks import Retrieval

NUM_PROCESSES = len(SIZES)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, processes.__file__, str(rank), str(NUM_PROCESSES), folder / "meeting", folder / f"{rank}"],
            env=environment,
        )
        for rank in range(NUM_PROCESSES)
    ]
    try:
        assert [process.wait(timeout=120) for process in running] == [0] * NUM_PROCESSES
    finally:
        for process in running:
            process.kill()
    return [torch.load(folder / f"{rank}") for rank in range(NUM_PROCESSES)]


def whole_batch():
    """The data of all processes in the order of ranks, and the column of each query's positive."""
    parts = [inputs(rank) for rank in range(NUM_PROCESSES)]
    queries, candidates, ids, log_q, weight = (torch.cat([part[place] for part in parts]) for place in range(5))
    mask, row, column, positives = torch.ones(len(queries), len(candidates), dtype=torch.bool), 0, 0, []
    for part in parts:
        rows, columns = part[5].shape
        mask[row : row + rows, column : column + columns] = part[5]
        positives += range(column, column + rows)
        row, column = row + rows, column + columns
    return queries, candidates, ids, log_q, weight, mask, torch.tensor(positives)


def in_one_process(masked=False, heads=False, **options):
    queries, candidates, ids, log_q, weight, mask, positives = whole_batch()
    rest = [column for column in range(len(candidates)) if column not in positives]
    order = torch.cat([positives, torch.tensor(rest)])  # as one process has them: query i belongs to candidate i
    linear, task = layer(), Retrieval(**options)
    loss = task(
        linear(queries if heads else queries[:, 0]),
        linear(candidates[order]),
        candidate_ids=ids[order],
        log_q=log_q[order] if options.get("log_q") else None,
        weight=weight,
        score_mask=mask[:, order] if masked else None,
    )
    loss.backward()
    return loss.detach(), linear.weight.grad


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "alone"])
def test_the_means_over_processes_are_loss_and_gradient_of_the_whole_batch(results, name):
    loss, gradient = in_one_process(**OPTIONS[name])
    assert gradient.abs().sum() > 0.1
    torch.testing.assert_close(torch.stack([part[name]["loss"] for part in results]).mean(), loss)
    torch.testing.assert_close(torch.stack([part[name]["gradient"] for part in results]).mean(0), gradient)


def test_negatives_of_other_processes_can_be_left_out(results):
    for rank, part in enumerate(results):
        queries, candidates, _, _, weight, _ = inputs(rank)
        expected = Retrieval()(layer()(queries[:, 0]), layer()(candidates), weight=weight)
        torch.testing.assert_close(part["alone"]["loss"], expected.detach())
        assert not torch.allclose(part["plain"]["loss"], expected)


def test_all_processes_learn_the_frequencies_of_the_whole_batch(results):
    _, _, ids, *_ = whole_batch()
    frequency = StreamingFrequency(50)
    for _ in range(2):
        frequency(ids)
    for part in results:
        for name, value in frequency.state_dict().items():
            assert torch.equal(part["estimate"][f"log_q.{name}"], value)


def test_an_evaluation_in_one_process_waits_for_no_other(results):
    queries, candidates, ids, *_ = inputs(0)
    task = Retrieval(log_q=StreamingFrequency(50))
    task.load_state_dict({name: value for name, value in results[0]["estimate"].items() if name != "evaluation"})
    expected = task.eval()(queries[:, 0], candidates, candidate_ids=ids)
    torch.testing.assert_close(results[0]["estimate"]["evaluation"], expected)


def test_collectives_keep_the_order_of_ranks(results):
    queries = whole_batch()[0]
    for part in results:
        assert part["collect"]["sizes"] == [(5, 0), (2, 1)]
        assert torch.equal(part["collect"]["rows"], queries)
        assert part["collect"]["numbers"].tolist() == [0, 1, 2, 3, 4, 10, 11]
