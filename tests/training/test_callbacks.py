import polars as pl
import pytest
import torch
from tests.training.worlds import Line, line_batch, loader, ratings_batch, ratings_model, same_weights

import retrank as rr


class Scripted(rr.Model):
    """A model whose validation loss follows a script, one value an epoch; its weight counts the epochs."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.epoch = torch.nn.Parameter(torch.zeros(1))

    def compute_loss(self, batch, training=False):
        if training:
            return -self.epoch.sum()  # a gradient of -1: with lr 1 the weight grows by 1 an epoch
        return torch.tensor(self.losses[int(self.epoch) - 1])


def run(losses, *callbacks, **kwargs):
    model = Scripted(losses)
    data = loader(line_batch(), batch_size=10)
    history = model.fit(
        data,
        **{
            "optimizer": rr.optim.SGD(lr=1.0),
            "epochs": len(losses),
            "validation": data,
            "callbacks": callbacks,
            "device": "cpu",
            "progress": False,
            **kwargs,
        },
    )
    return model, history


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([5.0, 4.0, 3.0, 2.0], 1, 4, 4),
        ([5.0, 4.0, 4.5, 3.0, 2.0], 1, 3, 2),
        ([5.0, 4.0, 4.5, 3.0, 3.5, 3.5, 1.0], 2, 6, 4),
        ([5.0, 5.0, 5.0, 5.0], 2, 3, 1),
        ([float("nan"), 3.0, float("nan"), float("nan"), 1.0], 2, 4, 2),
    ],
)
def test_early_stopping(losses, patience, epochs, best):
    model, history = run(losses, rr.training.EarlyStopping(patience=patience))
    assert len(history) == epochs
    assert int(model.epoch) == best
    model, history = run(losses, rr.training.EarlyStopping(patience=patience, restore_best=False))
    assert (len(history), int(model.epoch)) == (epochs, epochs)


def test_early_stopping_for_large_values():
    model, history = run([1.0, 3.0, 2.0, 2.0, 9.0], rr.training.EarlyStopping(mode="max", patience=2))
    assert (len(history), int(model.epoch)) == (4, 2)


class Judged(rr.Model):
    """A model whose metrics follow a script, one value an epoch; its weight counts the epochs."""

    def __init__(self, values, *metrics):
        super().__init__()
        self.values = values
        self.epoch = torch.nn.Parameter(torch.zeros(1))
        self.task = rr.tasks.Ranking(torch.nn.MSELoss(), metrics=metrics)

    def compute_loss(self, batch, training=False):
        if training:
            return -self.epoch.sum()
        rows = torch.full((4,), self.values[int(self.epoch) - 1])
        return self.task(labels=torch.tensor([0.0, 1.0, 1.0, 1.0]), predictions=rows)


class Last(rr.metrics.WeightedMean):
    """A metric of one's own that says nothing of its direction."""

    def _values(self, predictions, labels):
        return predictions


class LastSaid(Last):
    larger_is_better = True


def judged(values, metric, callback, **options):
    model = Judged(values, *([] if metric is None else [metric]))
    data = loader(line_batch(), batch_size=10)
    history = model.fit(
        data, optimizer=rr.optim.SGD(lr=1.0), epochs=len(values), validation=data, callbacks=[callback],
        device="cpu", progress=False, **options,
    )  # fmt: skip
    return model, history


@pytest.mark.parametrize(
    ("metric", "monitor", "best"),
    [
        (rr.metrics.BinaryAccuracy(threshold=0.5), "val_accuracy", 2),
        (rr.metrics.MeanAbsoluteError(name="val_error"), "val_val_error", 2),
        (LastSaid("last"), "val_last", 3),
        (None, "val_loss", 2),
    ],
)
def test_the_metric_says_which_values_are_better(tmp_path, metric, monitor, best):
    values = [0.4, 0.75, 2.5, 0.0]
    model, history = judged(values, metric, rr.training.EarlyStopping(monitor, patience=9))
    assert int(model.epoch) == best == history.best(monitor)["epoch"]
    kept = rr.training.BestCheckpoint(tmp_path / "best", monitor)
    model, _ = judged(values, metric, kept)
    assert kept.restore(model)["epoch"] == best


def test_what_the_caller_says_counts_more():
    _, history = judged([1.0, 2.0, 3.0], None, rr.training.EarlyStopping("val_loss", mode="max", patience=1))
    assert len(history) == 3
    assert history.best("val_loss", mode="max")["epoch"] == 3


@pytest.mark.parametrize("metric", [Last("last"), rr.metrics.Calibration(name="last")])
def test_nobody_guesses_which_values_are_better(tmp_path, metric):
    known = r"mode='min' or mode='max'.*'loss'.*'val_last' without a mode.*larger_is_better"
    for callback in (rr.training.EarlyStopping("val_last"), rr.training.BestCheckpoint(tmp_path / "b", "val_last")):
        model = Judged([0.5, 0.6], metric)
        data = loader(line_batch(), batch_size=10)
        with pytest.raises(rr.errors.ConfigError, match=known):
            model.fit(data, optimizer=rr.optim.SGD(lr=1.0), epochs=2, validation=data, callbacks=[callback])
        assert int(model.epoch) == 0  # before the first step
    _, history = judged([0.5, 0.6], metric, rr.training.EarlyStopping("val_last", mode="max"))
    with pytest.raises(rr.errors.ConfigError, match=known):
        history.best("val_last")
    assert history.best("val_last", "max")["epoch"] == 2


def test_names_of_several_tasks_are_found(tmp_path):
    class Two(rr.Model):
        def __init__(self, *metrics):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.first, self.second = (rr.tasks.Ranking(torch.nn.MSELoss(), metrics=[metric]) for metric in metrics)

        def compute_loss(self, batch, training=False):
            rows = self.weight * torch.ones(4)
            labels = torch.tensor([0.0, 1.0, 1.0, 1.0])
            return self.first(labels=labels, predictions=rows) + self.second(labels=labels, predictions=rows)

    data = loader(line_batch(), batch_size=10)
    fit = {"optimizer": rr.optim.SGD(lr=0.1), "epochs": 3, "validation": data, "device": "cpu", "progress": False}
    alike = Two(rr.metrics.MeanSquaredError(), rr.metrics.MeanSquaredError())
    history = alike.fit(data, callbacks=[rr.training.EarlyStopping("val_second.mse")], **fit)
    assert history.best("val_second.mse")["epoch"] == 3
    differing = Two(rr.metrics.MeanSquaredError(name="x"), rr.metrics.BinaryAccuracy(name="x"))
    assert differing.fit(data, callbacks=[rr.training.EarlyStopping("val_second.x")], **fit).best("val_first.x")
    with pytest.raises(rr.errors.ConfigError, match=r"mode='min' or mode='max'"):
        differing.fit(data, callbacks=[rr.training.EarlyStopping("val_x")], **fit)


def test_a_resumed_run_knows_which_values_are_better(tmp_path):
    for epochs in (2, 4):
        model = ratings_model()
        history = model.fit(
            loader(ratings_batch()), optimizer=rr.optim.Adagrad(), epochs=epochs, progress=False,
            validation=loader(ratings_batch()), checkpoint=tmp_path / "checkpoint",
        )  # fmt: skip
    assert history.best("val_loss")["val_loss"] == min(history["val_loss"])


def test_early_stopping_counts_only_validated_epochs():
    losses = [1.0, 5.0, 9.0, 4.0, 9.0, 4.5, 9.0, 4.6, 9.0, 9.0]
    _, history = run(losses, rr.training.EarlyStopping(patience=2), validation_every=2)
    assert len(history) == 8  # validated: 5.0, 4.0, 4.5, 4.6


def test_early_stopping_is_ready_for_another_fit():
    stopping = rr.training.EarlyStopping(patience=1)
    assert len(run([1.0, 2.0, 0.5], stopping)[1]) == 2
    model, history = run([9.0, 8.0, 8.5, 1.0], stopping)
    assert (len(history), int(model.epoch)) == (3, 2)


def test_best_checkpoint_keeps_the_best_epoch(tmp_path):
    best = rr.training.BestCheckpoint(tmp_path / "best")
    model, _ = run([5.0, 2.0, 4.0], best)
    assert int(model.epoch) == 3
    facts = best.restore(model)
    assert int(model.epoch) == 2
    assert (facts["epoch"], facts["val_loss"]) == (2, 2.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: rr.training.EarlyStopping("val_recall"),
        lambda path: rr.training.BestCheckpoint(path, "val_recall"),
    ],
)
def test_an_unknown_monitor_lists_what_there_is(tmp_path, make):
    with pytest.raises(rr.errors.ConfigError, match=r"'loss', .*'val_loss'.*'val_recall'"):
        run([1.0, 2.0], make(tmp_path / "best"))


def test_a_monitor_of_validation_needs_validation():
    with pytest.raises(rr.errors.ConfigError, match="validation"):
        run([1.0, 2.0], rr.training.EarlyStopping("val_loss"), validation=None)
    assert len(run([1.0, 2.0], rr.training.EarlyStopping("loss"), validation=None)[1]) == 2


@pytest.mark.parametrize("arguments", [{"mode": "least"}, {"patience": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(rr.errors.ConfigError, match="EarlyStopping"):
        rr.training.EarlyStopping(**arguments)


def test_csv_log_holds_the_history(tmp_path):
    _, history = run([3.0, 2.0, 1.0], rr.training.CSVLog(tmp_path / "logs" / "run.csv"), validation_every=2)
    written = pl.read_csv(tmp_path / "logs" / "run.csv")
    assert written.columns == history.frame.columns
    assert written["val_loss"].to_list() == [None, 2.0, 1.0]


def test_csv_log_of_a_resumed_run_has_each_epoch_once(tmp_path):
    log = rr.training.CSVLog(tmp_path / "run.csv")
    for epochs in (2, 4):
        model = ratings_model()
        history = model.fit(
            loader(ratings_batch()),
            optimizer=rr.optim.Adagrad(),
            epochs=epochs,
            callbacks=[log],
            checkpoint=tmp_path / "checkpoint",
            progress=False,
        )
    assert pl.read_csv(log.path)["epoch"].to_list() == [1, 2, 3, 4]
    assert history["epoch"] == [1, 2, 3, 4]


@pytest.mark.filterwarnings("default")
def test_tensorboard_log(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run([3.0, 2.0], rr.training.TensorBoardLog(tmp_path))
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("val_loss")] == [(1, 3.0), (2, 2.0)]


def test_hooks_come_in_order_with_the_state_of_the_run():
    seen = []

    class Watch(rr.training.Callback):
        def on_fit_start(self, run):
            seen.append(("start", run.epoch, run.step, run.epochs))

        def on_epoch_end(self, run, row):
            assert run.history.rows[-1] == row
            seen.append(("epoch", run.epoch, run.step))
            if run.epoch == 2:
                run.stop("enough")

        def on_fit_end(self, run):
            seen.append(("end", run.stop_reason))

    Line().fit(
        loader(line_batch()), optimizer=rr.optim.SGD(), epochs=5, callbacks=[Watch()], device="cpu", progress=False
    )
    assert seen == [("start", 0, 0, 5), ("epoch", 1, 3), ("epoch", 2, 6), ("end", "enough")]


def test_weights_are_those_of_the_model_that_saved_them(tmp_path):
    first, second = ratings_model(), ratings_model(seed=8)
    rr.training.save_weights(tmp_path / "weights", first, {"note": "good"})
    assert rr.training.load_weights(tmp_path / "weights", second) == {"note": "good"}
    assert same_weights(first, second)
    with pytest.raises(rr.errors.ConfigError, match="table.weight"):
        rr.training.load_weights(tmp_path / "weights", Line())
