"""One of several processes that train together; `test_processes.py` starts them.

The command line: rank, number of processes, the file in which they meet, and where the results go.
"""

import sys

import torch
import torch.distributed as dist

from retrank.core.collectives import gather_rows, gather_sizes
from retrank.sampling import StreamingFrequency
from retrank.tasks import Retrieval

SIZES = (5, 2)  # queries of each process
EXTRA = (1, 3)  # further candidates of each process
OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "given log_q": {"log_q": True, "temperature": 0.5},
    "hits": {"remove_accidental_hits": True, "num_hard_negatives": 3},
    "symmetric": {"symmetric": True, "remove_accidental_hits": True, "log_q": True},
    "masked": {"symmetric": True, "masked": True},
    "heads": {"heads": True, "symmetric": True},
    "alone": {"cross_device_negatives": False},
}


def inputs(rank):
    """The data of one process, `(queries, candidates, ids, log_q, weight, mask)`."""
    generator = torch.Generator().manual_seed(rank)
    rows, columns = SIZES[rank], SIZES[rank] + EXTRA[rank]
    return (
        torch.randn(rows, 2, 4, generator=generator, dtype=torch.float64),
        torch.randn(columns, 4, generator=generator, dtype=torch.float64),
        torch.randint(4, (columns,), generator=generator),
        -3 * torch.rand(columns, generator=generator, dtype=torch.float64),
        torch.rand(rows, generator=generator, dtype=torch.float64),
        torch.rand(rows, columns, generator=generator) < 0.7,
    )


def layer():
    """The weights that all processes share."""
    linear = torch.nn.Linear(4, 3, bias=False, dtype=torch.float64)
    linear.weight.data = torch.arange(12, dtype=torch.float64).view(3, 4).cos()
    return linear


def train(rank, masked=False, heads=False, **options):
    """Return the loss of one process and the gradient of its weights."""
    linear, task = layer(), Retrieval(**options)
    queries, candidates, ids, log_q, weight, mask = inputs(rank)
    loss = task(
        linear(queries if heads else queries[:, 0]),
        linear(candidates),
        candidate_ids=ids,
        log_q=log_q if options.get("log_q") else None,
        weight=weight,
        score_mask=mask if masked else None,
    )
    loss.backward()
    return {"loss": loss.detach(), "gradient": linear.weight.grad}


def estimate(rank):
    """Return the state of a frequency estimator after two steps, and the loss of an evaluation."""
    task = Retrieval(log_q=StreamingFrequency(50))
    queries, candidates, ids, *_ = inputs(rank)
    for _ in range(2):
        task(queries[:, 0], candidates, candidate_ids=ids)
    loss = task.eval()(queries[:, 0], candidates, candidate_ids=ids) if rank == 0 else torch.zeros(())
    return {**task.state_dict(), "evaluation": loss}


def collect(rank):
    """Return what the collectives give."""
    queries = inputs(rank)[0]
    return {
        "sizes": gather_sizes(len(queries), rank, device=queries.device),
        "rows": gather_rows(queries, SIZES),
        "numbers": gather_rows(torch.arange(SIZES[rank]) + 10 * rank, SIZES),
    }


def main():
    """Meet the other processes, work, and write the results down."""
    rank, size, meeting, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    results = {name: train(rank, **options) for name, options in OPTIONS.items()}
    torch.save({**results, "estimate": estimate(rank), "collect": collect(rank)}, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
