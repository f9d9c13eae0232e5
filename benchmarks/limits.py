"""What this machine can do at best: products of matrices, passes over memory, reads of random rows. Plain torch."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.workload import Job, repeated

Work = Callable[[], object]


def best_of(ways: Mapping[str, Work], work: float, *, trials: int = 2) -> Job:
    """Try each way, keep the fastest, and name it in the note."""

    def seconds(way: Work) -> float:
        way()
        times = []
        for _ in range(trials):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
        return min(times)

    name = min(ways, key=lambda name: seconds(ways[name]))
    return repeated(ways[name], work, note=name)


def products(shapes: Sequence[tuple[int, int, int]], work: float, repeats: int = 1) -> Job:
    """Multiply `(m, k)` by `(k, n)` for each shape as a training step does: forward, and for both gradients."""
    parts = []
    for m, k, n in shapes:
        inputs, weights, gradients = torch.randn(m, k), torch.randn(n, k), torch.randn(m, n)
        parts.append((inputs, weights, gradients, torch.empty(m, n), torch.empty(n, k), torch.empty(m, k)))

    def step() -> None:
        for _ in range(repeats):
            for number, (inputs, weights, gradients, outputs, to_weights, to_inputs) in enumerate(parts):
                torch.mm(inputs, weights.T, out=outputs)
                torch.mm(gradients.T, inputs, out=to_weights)
                if number:  # the first layer's inputs are data
                    torch.mm(gradients, weights, out=to_inputs)

    return repeated(step, work)


def copies(num_bytes: float, work: float) -> Job:
    """Copy arrays that no cache holds, until as many bytes are read and written as given."""
    size = 2**27 // 4
    source, target = torch.ones(size), torch.zeros(size)

    def pass_over() -> None:
        left = int(num_bytes) // 8
        while left > 0:
            target[:left].copy_(source[:left])
            left -= size

    return repeated(pass_over, work, note="copy of 128 MiB arrays")


def row_reads(table: Tensor, rows: Tensor, work: float, repeats: int = 1) -> Job:
    """Gather rows of a table in the order given, into one output."""
    output = table.new_empty(len(rows), *table.shape[1:])

    def gather() -> None:
        for _ in range(repeats):
            torch.index_select(table, 0, rows, out=output)

    return repeated(gather, work)


@torch.inference_mode()
def blocked_scores(
    queries: Tensor, candidates: Tensor, block: tuple[int, int], use: Callable[[Tensor], object]
) -> None:
    """Score block by block of queries and candidates into the same memory, and hand each block over."""
    rows, columns = block
    buffer = queries.new_empty(rows * columns)
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        for first in range(0, len(candidates), columns):
            others = candidates[first : first + columns]
            scores = buffer[: len(some) * len(others)].view(len(some), len(others))
            use(torch.mm(some, others.T, out=scores))


@torch.inference_mode()
def softmax_blocks(queries: Tensor, candidates: Tensor, block: tuple[int, int]) -> None:
    """Do the three products and two exponentials of a softmax over candidates and its gradients, block by block."""
    to_queries, to_candidates = torch.zeros_like(queries), torch.zeros_like(candidates)
    rows, columns = block
    buffer = queries.new_empty(rows * columns)
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        for first in range(0, len(candidates), columns):
            others = candidates[first : first + columns]
            scores = torch.mm(some, others.T, out=buffer[: len(some) * len(others)].view(len(some), len(others)))
            scores.exp_().exp_()
            to_queries[start : start + rows].addmm_(scores, others)
            to_candidates[first : first + columns].addmm_(scores.T, some)
