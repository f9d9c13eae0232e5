"""What is measured: each workload returns its contenders, retrank first."""

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, TensorDataset

import retrank as rr

Contenders = dict[str, Callable[[], object]]


def loader(rows: int = 1_000_000, batch_size: int = 8192) -> Contenders:
    """One shuffled epoch over four columns."""
    columns = {f"c{i}": torch.randint(1000, (rows,)) for i in range(4)}
    batches = rr.data.Loader(rr.Batch(columns), batch_size, shuffle=True)
    few = TensorDataset(*(column[: rows // 20] for column in columns.values()))
    plain = DataLoader(few, batch_size, shuffle=True)
    return {
        "retrank": lambda: sum(len(batch) for batch in batches),
        "torch DataLoader, a twentieth of the rows": lambda: sum(len(batch[0]) for batch in plain),
    }


def corpus_evaluation(candidates: int = 100_000, queries: int = 2048, dim: int = 64) -> Contenders:
    """The rank of one positive a query among all candidates."""
    query, corpus = torch.randn(queries, dim), torch.randn(candidates, dim)
    positives = torch.randint(candidates, (queries,))
    metric = rr.metrics.FullCorpusTopK(ks=(10, 100))

    def plain() -> None:
        for start in range(0, queries, 64):
            scores = query[start : start + 64] @ corpus.T
            scores.topk(100, dim=1)

    return {
        "retrank": lambda: metric.update(query, corpus, positives),
        "torch matmul and topk(100), 64 queries at once": plain,
        "the matmul alone": lambda: [query[start : start + 64] @ corpus.T for start in range(0, queries, 64)],
    }


def sparse_adagrad(rows: int = 1_000_000, dim: int = 32, lookups: int = 200_000) -> Contenders:
    """One step of a large table."""
    ids = (torch.rand(lookups).pow(4) * (rows - 2)).long() + 2
    ours = rr.EmbeddingTable(rows, dim)
    optimizer = rr.optim.Adagrad(lr=0.1).build(ours.named_parameters())
    theirs = torch.nn.Embedding(rows, dim, sparse=True)
    plain = torch.optim.Adagrad(theirs.parameters(), lr=0.1)

    def step(table: torch.nn.Module, stepper: torch.optim.Optimizer) -> None:
        stepper.zero_grad(set_to_none=True)
        table(ids).sum().backward()
        stepper.step()

    return {
        "retrank": lambda: step(ours, optimizer),
        "torch, sparse Embedding and Adagrad": lambda: step(theirs, plain),
    }


WORKLOADS = {"loader": loader, "corpus evaluation": corpus_evaluation, "sparse Adagrad step": sparse_adagrad}
