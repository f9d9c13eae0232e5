"""Without other processes, nothing is exchanged; with them, see the tests of tasks."""

import torch

from retrank.core import gather_rows, gather_sizes, process_rank, world_size


def test_one_process_is_alone():
    rows = torch.arange(3.0, requires_grad=True)
    assert (world_size(), process_rank()) == (1, 0)
    assert gather_sizes(3, 0, device=rows.device) == [(3, 0)]
    assert gather_rows(rows, [3]) is rows
