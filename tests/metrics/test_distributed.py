import multiprocessing
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from retrank.metrics import AUC, NDCG, CatalogueCoverage, GroupedAUC, merged_across_processes

ROWS = [(4, 12), (8, 0)]
"""Rows that the two processes see, in two rounds."""


def filled(num_rows, rank):
    """Metrics that have counted what one process sees."""
    generator = torch.Generator().manual_seed(rank)
    predictions, labels = torch.rand(num_rows, generator=generator), torch.arange(num_rows) % 2
    auc, grouped, ndcg, coverage = AUC(), GroupedAUC(), NDCG(2), CatalogueCoverage(40)
    if num_rows:
        auc.update(predictions, labels)
        grouped.update(predictions, labels, groups=torch.arange(num_rows) // 4)
        ndcg.update(predictions.view(-1, 4), labels.view(-1, 4))
        coverage.update(torch.arange(num_rows).view(-1, 4) + 10 * rank)
    return [auc, grouped, ndcg, coverage]


def expected(num_rows):
    totals = filled(num_rows[0], 0)
    for total, other in zip(totals, filled(num_rows[1], 1), strict=True):
        total.merge(other)
    return [(total.num_rows, total.compute()) for total in totals]


def work(rank, folder):
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    try:
        for rows in ROWS:
            metrics = filled(rows[rank], rank)
            before = [metric.num_rows for metric in metrics]
            for metric, (num_rows, value) in zip(metrics, expected(rows), strict=True):
                merged = merged_across_processes(metric)
                assert merged.num_rows == num_rows
                torch.testing.assert_close(merged.compute(), value, rtol=1e-12, atol=0)
            assert [metric.num_rows for metric in metrics] == before
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
def test_two_processes_agree_on_all_rows(tmp_path):
    other = multiprocessing.get_context("spawn").Process(target=work, args=(1, str(tmp_path)))
    other.start()
    try:
        work(0, str(tmp_path))
        other.join(60)
        assert other.exitcode == 0
    finally:
        other.kill()
        other.join()


def test_one_process_gets_a_copy():
    metric = filled(12, 1)[0]
    merged = merged_across_processes(metric)
    assert merged.compute() == metric.compute()
    merged.update(torch.rand(4), torch.tensor([0, 1, 0, 1]))
    assert metric.num_rows == 12
