import pytest
import torch
from tests.conformance import LossCase, LossConformance, TaskConformance
from torch import nn

import retrank as rr
from retrank import sampling, tasks


def drawn(seed):
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


RATED = rr.Batch(
    {
        "label": torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0]),
        "prediction": torch.linspace(-1, 1, 6),
        "weight": torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0, 0.5]),
    }
)
PAIRS = rr.Batch(
    {"query": drawn(0), "candidate": drawn(1), "movie_id": torch.tensor([2, 3, 2, 4, 5, 6]), "weight": RATED["weight"]}
)
MORE = drawn(2)  # negatives of every query, also of one alone
COUNTS = list(range(12, 0, -1))


def rank(task, batch):
    return task(labels=batch["label"], predictions=batch["prediction"], weight=batch["weight"])


def retrieve(task, batch):
    queries, ids = batch["query"], batch["movie_id"]
    candidates = torch.cat([batch["candidate"], MORE.to(queries)])
    columns = torch.cat([ids, torch.arange(7, 13, device=ids.device)])
    log_q = torch.linspace(-3, -1, len(columns), device=ids.device) if task.log_q is True else None
    task.update_metrics(queries.detach(), candidates.detach(), torch.arange(len(ids), device=ids.device))
    return task(queries, candidates, candidate_ids=columns, log_q=log_q, weight=batch["weight"])


def correct(module, batch):
    scores = batch["query"] @ torch.cat([batch["candidate"], MORE.to(batch["query"])]).T
    positives = torch.arange(len(scores), device=scores.device)
    if isinstance(module, tasks.HardNegativeMining):
        scores, positives = module(scores, positives)
    elif isinstance(module, tasks.RemoveAccidentalHits):
        more = torch.arange(7, 13, device=scores.device)
        scores = module(scores, torch.cat([batch["movie_id"], more]), positives)
    else:
        scores = module(scores, torch.linspace(0.1, 0.9, scores.shape[1], device=scores.device))
    return rr.losses.softmax_cross_entropy(scores, positives)


def score(scorer, batch):
    torch.nn.init.normal_((table := rr.EmbeddingTable(14, dim=4)).weight)
    inputs = batch["query"] if scorer.sampled_softmax else {name: batch[name] for name in ("query", "candidate")}
    output = scorer(inputs, features=batch, table=table.to(batch.device), training=True)
    return rr.losses.cross_entropy(output.scores, output.valid_negatives, batch["weight"])


def ranking(build):
    return LossCase(build, rank, RATED, ("prediction",))


def retrieval(build):
    return LossCase(build, retrieve, PAIRS, ("query", "candidate"))


def correction(build):
    return LossCase(build, correct, PAIRS, ("query", "candidate"))


def scorer(*samplers, **options):
    leaves = ("query",) if options.get("sampled_softmax") else ("query", "candidate")
    return LossCase(
        lambda: tasks.RetrievalScorer([build() for build in samplers], candidate_id="movie_id", **options),
        score,
        PAIRS,
        leaves,
    )


def metrics():
    return [rr.metrics.FullCorpusTopK(ks=(1, 3))]


def learned():
    return sampling.StreamingFrequency(64)


def counted():
    return sampling.InBatch(counts=COUNTS)


TASKS = {
    "binary": ranking(lambda: tasks.Ranking(metrics=rr.metrics.binary_metrics())),
    "squared": ranking(lambda: tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])),
    "softmax": retrieval(lambda: tasks.Retrieval(metrics=metrics())),
    "summed": retrieval(lambda: tasks.Retrieval(loss=nn.CrossEntropyLoss(), reduction="sum", metrics=metrics())),
    "corrected": retrieval(
        lambda: tasks.Retrieval(
            temperature=0.5, remove_accidental_hits=True, log_q=True, num_hard_negatives=2, metrics=metrics()
        )
    ),
    "learned": retrieval(lambda: tasks.Retrieval(log_q=learned(), metrics=metrics())),
    "symmetric": retrieval(lambda: tasks.Retrieval(symmetric=True, remove_accidental_hits=True, metrics=metrics())),
}
OTHERS = {
    "hard_negatives": correction(lambda: tasks.HardNegativeMining(2)),
    "accidental_hits": correction(tasks.RemoveAccidentalHits),
    "probability": correction(tasks.SamplingProbabilityCorrection),
    "in_batch": scorer(sampling.InBatch),
    "in_batch_counted": scorer(counted, log_q=True, temperature=0.5),
    "in_batch_learned": scorer(lambda: sampling.InBatch(frequency=learned()), log_q=True),
    "cross_batch": scorer(sampling.InBatch, lambda: sampling.CrossBatch(8)),
    "uniform": scorer(lambda: sampling.Uniform(6), log_q=True, false_negative_score=-50.0),
    "popularity": scorer(lambda: sampling.Popularity(6), log_q=True, downscore_false_negatives=False),
    "mixed": scorer(counted, lambda: sampling.Popularity(3, counts=COUNTS), log_q=True),
    "sampled_softmax": scorer(lambda: sampling.Uniform(6), sampled_softmax=True, cache_queries=True),
}


class TestTasks(TaskConformance):
    @pytest.fixture(params=TASKS.values(), ids=TASKS.keys())
    def case(self, request):
        return request.param


class TestCorrectionsAndTheScorer(LossConformance):
    @pytest.fixture(params=OTHERS.values(), ids=OTHERS.keys())
    def case(self, request):
        return request.param
