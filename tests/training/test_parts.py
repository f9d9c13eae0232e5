"""The small parts: history, sums, clipping, devices, progress, interrupts."""

import os
import signal

import numpy as np
import polars as pl
import pytest
import torch
from tests.training.worlds import Line, line_batch, loader, ratings_batch, ratings_model
from torch import nn

import retrank as rr
from retrank.training.device import autocast, model_device
from retrank.training.epoch_sums import EpochSums
from retrank.training.interrupts import Interrupts
from retrank.training.progress import Progress


def test_history_is_a_table_and_compares_by_its_numbers():
    rows = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.0, "val_loss": 2.0}, {"epoch": 3, "loss": 1.0}]
    history = rr.training.TrainingHistory([dict(row) for row in rows], seconds=[1.0, 2.0, 3.0])
    assert history == rr.training.TrainingHistory(rows, seconds=[9.0] * 3)
    assert history != rr.training.TrainingHistory(rows[:2])
    assert history["val_loss"] == [2.0]
    assert history.best("loss")["epoch"] == 2
    assert history.best("loss", mode="max")["epoch"] == 1
    assert history.frame.equals(
        pl.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 1.0, 1.0], "val_loss": [None, 2.0, None]})
    )
    for read in (lambda: history["auc"], lambda: history.best("auc")):
        with pytest.raises(rr.errors.ConfigError, match="'loss'"):
            read()
    assert repr(history) == "TrainingHistory(epoch=3, loss=1)"


def scalars(loss, regularization=0.0):
    values = {"loss": loss, "regularization_loss": regularization, "total_loss": loss + regularization}
    return {name: torch.tensor(value) for name, value in values.items()}


def test_sums_weight_by_rows_in_double_precision():
    sums, rng = EpochSums(torch.device("cpu")), np.random.default_rng(0)
    losses, rows = rng.random(500).astype(np.float32), rng.integers(1, 100, size=500)
    for loss, count in zip(losses, rows, strict=True):
        sums.add(scalars(float(loss), 0.5), int(count))
    expected = np.average(losses.astype(np.float64), weights=rows)
    assert sums.averages()["loss"] == pytest.approx(expected, rel=1e-12)
    assert sums.averages()["regularization_loss"] == 0.5


def test_sums_remember_the_first_bad_step():
    sums = EpochSums(torch.device("cpu"))
    sums.check(epoch=1)
    for step, loss in enumerate([1.0, float("inf"), 1.0, float("nan")], start=1):
        sums.add(scalars(loss), 1, step)
    with pytest.raises(rr.errors.TrainingError, match="step 2 in epoch 7"):
        sums.check(epoch=7)


def test_no_rows_is_an_error():
    with pytest.raises(rr.errors.DataError, match="no batches"):
        EpochSums(torch.device("cpu")).averages()


@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_clipping_counts_rows_that_occur_twice_as_one(max_norm):
    def gradients(sparse):
        torch.manual_seed(0)
        table, dense = nn.Embedding(5, 3, sparse=sparse), nn.Linear(3, 1)
        dense(table(torch.tensor([1, 1, 4]))).square().sum().backward()
        return [table.weight, dense.weight, dense.bias]

    sparse, plain = gradients(True), gradients(False)
    expected = torch.nn.utils.clip_grad_norm_(plain, max_norm)
    torch.testing.assert_close(rr.training.clip_gradients(sparse, max_norm), expected)
    for ours, theirs in zip(sparse, plain, strict=True):
        gradient = ours.grad.to_dense() if ours.grad.is_sparse else ours.grad
        torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-6)


def test_clipping_of_nothing_and_of_zero():
    weight = nn.Parameter(torch.ones(2))
    assert rr.training.clip_gradients([weight], 1.0) == 0
    weight.grad = torch.zeros(2)
    assert rr.training.clip_gradients([weight], 1.0) == 0
    assert torch.equal(weight.grad, torch.zeros(2))


def test_devices():
    assert rr.training.resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert rr.training.resolve_device(torch.device("cpu")).type == "cpu"
    assert model_device(nn.ReLU()).type == "cpu"
    assert model_device(nn.BatchNorm1d(2, affine=False).to("meta")).type == "meta"
    with pytest.raises(rr.errors.ConfigError, match="float16"):
        autocast(torch.device("cpu"), "float16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_cuda_where_there_is_none():
    with pytest.raises(rr.errors.ConfigError, match="CUDA"):
        rr.training.resolve_device("cuda")


def fit(model, batch, **kwargs):
    return model.fit(loader(batch), **{"optimizer": rr.optim.SGD(lr=0.1), "epochs": 2, "device": "cpu", **kwargs})


def test_progress_is_one_line_an_epoch(capsys):
    fit(ratings_model(), ratings_batch(), validation=loader(ratings_batch()))
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert first.startswith("epoch 1/2  loss ")
    for part in ("total_loss", "rmse", "val_rmse", "examples/s", "left 0:00:"):
        assert part in first
    assert second.startswith("epoch 2/2  loss ")


def test_progress_leaves_out_penalties_that_are_zero(capsys):
    fit(Line(), line_batch())
    assert "regularization" not in capsys.readouterr().err


def test_progress_false_is_silent(capsys):
    model = ratings_model()
    fit(model, ratings_batch(), progress=False)
    model.evaluate(loader(ratings_batch()))
    model.predict(loader(ratings_batch()))
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_moves_and_ends_in_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(Progress.advance.__globals__, "_REFRESH_SECONDS", 0.0)
    fit(Line(), line_batch())
    err = capsys.readouterr().err
    assert "epoch 2/2" in err
    assert "loss" in err
    assert "\x1b[" in err  # the bar draws over itself


def test_progress_of_an_unknown_number_of_rows(capsys):
    with Progress(enabled=True, epochs=1, num_rows=None) as progress:
        progress.begin("epoch 1/1")
        progress.advance(10)
        progress.end({"epoch": 1, "loss": 0.5, "regularization_loss": 0.0, "total_loss": 0.5}, 2.0)
    assert capsys.readouterr().err.startswith("epoch 1/1  loss 0.5  ")


def test_interrupts_wait_for_a_check():
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.check()
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
        interrupts.check()
    assert reached


def test_the_second_interrupt_does_not_wait():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second Ctrl-C was swallowed")


def test_an_unchecked_interrupt_is_not_lost():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
