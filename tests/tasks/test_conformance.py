import pytest
import torch
from tests.conformance import TaskCase, TaskConformance
from torch import nn

import retrank as rr

LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
PREDICTIONS = torch.linspace(-1, 1, 6).requires_grad_()
WEIGHT = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0, 0.5])
QUERIES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
CANDIDATES = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
IDS = torch.tensor([2, 3, 2, 4, 5, 6])


def rank(task, n):
    return task(labels=LABELS[:n], predictions=PREDICTIONS[:n], weight=WEIGHT[:n])


def retrieve(task, n):
    positives = torch.arange(n)
    task.update_metrics(QUERIES[:n].detach(), CANDIDATES.detach(), positives)
    return task(QUERIES[:n], CANDIDATES, positives=positives, candidate_ids=IDS, log_q=log_q(task), weight=WEIGHT[:n])


def log_q(task):
    return torch.full((6,), 0.1).log() if task.log_q else None


METRICS = [rr.metrics.FullCorpusTopK(ks=(1, 3))]
CASES = {
    "binary": TaskCase(lambda: rr.tasks.Ranking(metrics=rr.metrics.binary_metrics()), rank, (PREDICTIONS,)),
    "squared": TaskCase(
        lambda: rr.tasks.Ranking(nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]), rank, (PREDICTIONS,)
    ),
    "softmax": TaskCase(lambda: rr.tasks.Retrieval(metrics=METRICS), retrieve, (QUERIES, CANDIDATES)),
    "corrected": TaskCase(
        lambda: rr.tasks.Retrieval(
            temperature=0.5,
            remove_accidental_hits=True,
            log_q=True,
            num_hard_negatives=2,
            metrics=[rr.metrics.FullCorpusTopK(ks=(2,))],
        ),
        retrieve,
        (QUERIES, CANDIDATES),
    ),
}


class TestTasks(TaskConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        for metric in METRICS:
            metric.reset()
        return request.param
