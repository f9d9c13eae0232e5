"""A run that is killed and resumed must end as if nothing had happened, to the last bit."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.training.worlds import Line, line_batch, loader, ratings_batch, ratings_model, same_weights

import retrank as rr

STEPS_AN_EPOCH, EPOCHS = 6, 3


class Killed(BaseException):
    """Stands for a process that ends without warning: nothing catches it."""


class Kill(rr.training.Callback):
    """Ends the process at the end of an epoch, before its checkpoint."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run, row):
        if run.epoch == self.epoch:
            raise Killed


def spec(name):
    return {
        "adagrad": rr.optim.Adagrad(lr=0.1),
        "rowwise": rr.optim.RowwiseAdagrad(lr=0.1),
        "lazy_adam": rr.optim.LazyAdam(lr=0.01),
        "composite": rr.optim.Composite([(rr.optim.LazyAdam(lr=0.02), "table.*"), (rr.optim.Adam(lr=0.01), "score.*")]),
    }[name]


def train(
    model, *, optimizer="adagrad", checkpoint=None, every=None, epochs=EPOCHS, streaming=False, callbacks=(), **kwargs
):
    data = ratings_batch()
    batches = loader(data, shuffle=True, seed=9)
    if streaming:
        table = pl.DataFrame({"id": data["id"].numpy(), "label": data["label"].numpy()})
        batches = rr.data.StreamingLoader(
            table,
            lambda piece: rr.Batch(
                {
                    "id": torch.tensor(piece["id"].to_list()),
                    "label": torch.tensor(piece["label"].to_list(), dtype=torch.float32),
                }
            ),
            4,
            shuffle_window=10,
            seed=9,
        )
    arguments = {
        "optimizer": spec(optimizer) if isinstance(optimizer, str) else optimizer,
        "epochs": epochs,
        "validation": loader(data, batch_size=7),
        "schedule": rr.training.linear_decay(2 * STEPS_AN_EPOCH * EPOCHS),
        "callbacks": [rr.training.EarlyStopping(patience=2), *callbacks],
        "clip_norm": 1.0,
        "seed": 4,
        "device": "cpu",
        "checkpoint": checkpoint,
        "checkpoint_every": every,
        "progress": False,
    }
    return model.fit(batches, **{**arguments, **kwargs})


def kill_at(model, step):
    """Let a model die within its training step of this number, from 1."""
    done, original = [], model.train_step

    def train_step(*args, **kwargs):
        losses = original(*args, **kwargs)
        done.append(1)
        if len(done) == step:
            raise Killed
        return losses

    model.train_step = train_step


@pytest.mark.parametrize(
    ("every", "streaming", "steps"),
    [
        (4, False, range(1, STEPS_AN_EPOCH * EPOCHS + 1)),
        (1, False, [1, 2, 6, 7, 18]),
        (None, False, [5, 12, 13]),
        (4, True, [3, 6, 11, 18]),
    ],
)
def test_killed_at_any_step(tmp_path, every, streaming, steps):
    whole = ratings_model()
    expected = train(whole, streaming=streaming)
    for step in steps:
        folder = tmp_path / str(step)
        killed = ratings_model()
        kill_at(killed, step)
        with pytest.raises(Killed):
            train(killed, checkpoint=folder, every=every, streaming=streaming)
        resumed = ratings_model(seed=8)  # weights come from the checkpoint, if there is one
        if not folder.exists():
            resumed = ratings_model()
        assert train(resumed, checkpoint=folder, every=every, streaming=streaming) == expected
        assert same_weights(resumed, whole), step


@pytest.mark.parametrize("optimizer", ["rowwise", "lazy_adam", "composite"])
def test_every_optimizer_continues_to_the_bit(tmp_path, optimizer):
    whole = ratings_model()
    expected = train(whole, optimizer=optimizer)
    killed = ratings_model()
    kill_at(killed, 9)
    with pytest.raises(Killed):
        train(killed, optimizer=optimizer, checkpoint=tmp_path / "run", every=1)
    resumed = ratings_model(seed=8)
    assert train(resumed, optimizer=optimizer, checkpoint=tmp_path / "run", every=1) == expected
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_between_epochs(tmp_path, epoch):
    whole = ratings_model()
    expected = train(whole)
    with pytest.raises(Killed):
        train(ratings_model(), checkpoint=tmp_path / "run", every=5, callbacks=[Kill(epoch)])
    resumed = ratings_model(seed=8)
    assert train(resumed, checkpoint=tmp_path / "run", every=5) == expected
    assert same_weights(resumed, whole)


def test_killed_many_times(tmp_path):
    whole = ratings_model()
    expected = train(whole)
    for _ in range(2 * STEPS_AN_EPOCH * EPOCHS):
        model = ratings_model()
        kill_at(model, 3)
        try:
            history = train(model, checkpoint=tmp_path / "run", every=2)
        except Killed:
            continue
        break
    assert history == expected
    assert same_weights(model, whole)


def test_a_finished_run_returns_at_once_and_can_be_prolonged(tmp_path):
    first = ratings_model()
    expected = train(first, checkpoint=tmp_path / "run")
    again = ratings_model(seed=8)
    kill_at(again, 1)  # not one step may happen
    assert train(again, checkpoint=tmp_path / "run") == expected
    assert same_weights(again, first)
    longer, whole = ratings_model(seed=8), ratings_model()
    assert train(longer, checkpoint=tmp_path / "run", epochs=5) == train(whole, epochs=5)
    assert same_weights(longer, whole)


def test_early_stopping_survives_with_its_best_weights(tmp_path):
    stop = {"callbacks": [rr.training.EarlyStopping("loss", mode="max", patience=2)], "schedule": None}
    whole = ratings_model()
    expected = train(whole, epochs=9, **stop)
    assert len(expected) < 9
    killed = ratings_model()
    kill_at(killed, STEPS_AN_EPOCH + 2)
    with pytest.raises(Killed):
        train(killed, epochs=9, checkpoint=tmp_path / "run", every=1, **stop)
    for _ in range(2):  # the second time it has stopped already
        resumed = ratings_model(seed=8)
        fresh = {**stop, "callbacks": [rr.training.EarlyStopping("loss", mode="max", patience=2)]}
        assert train(resumed, epochs=9, checkpoint=tmp_path / "run", every=1, **fresh) == expected
        assert same_weights(resumed, whole)


def test_resume_false_starts_over(tmp_path):
    train(ratings_model(seed=8), checkpoint=tmp_path / "run")
    model, whole = ratings_model(), ratings_model()
    assert train(model, checkpoint=tmp_path / "run", resume=False) == train(whole)
    assert same_weights(model, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "configuration.seed"),
        ({"clip_norm": None}, "configuration.clip_norm"),
        ({"precision": "bfloat16"}, "configuration.precision"),
        ({"optimizer": rr.optim.Adagrad(lr=0.2)}, "configuration.optimizer"),
        ({"optimizer": rr.optim.RowwiseAdagrad(lr=0.1)}, "configuration.optimizer.type"),
        ({"epochs": 1}, "at least the 2 epochs"),
        ({"schedule": None}, "configuration.schedule"),
        ({"schedule": rr.training.linear_decay(5)}, "configuration.schedule"),
    ],
)
def test_another_configuration_is_refused(tmp_path, change, message):
    train(ratings_model(), epochs=2, checkpoint=tmp_path / "run")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    model = ratings_model(seed=8)
    with pytest.raises(rr.errors.ConfigError, match=message):
        train(model, **{"epochs": 2, "checkpoint": tmp_path / "run", **change})
    assert same_weights(model, ratings_model(seed=8))
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}


def test_another_model_or_loader_is_refused(tmp_path):
    fit = {"optimizer": rr.optim.SGD(), "epochs": 1, "checkpoint": tmp_path / "run", "progress": False}
    Line().fit(loader(line_batch()), **fit)
    with pytest.raises(rr.errors.ConfigError, match="configuration.model.type = 'Line'.*'Ratings'"):
        ratings_model().fit(loader(ratings_batch(10)), **fit)
    with pytest.raises(rr.errors.ConfigError, match="batch_size"):
        Line().fit(loader(line_batch(), batch_size=5), **fit)
    with pytest.raises(rr.errors.ConfigError, match="num_rows"):
        Line().fit(loader(line_batch(11)), **fit)
    with pytest.raises(rr.errors.ConfigError, match="shuffle"):
        Line().fit(loader(line_batch(), shuffle=True), **fit)
    other = line_batch()
    other["y"][5] += 1
    with pytest.raises(rr.errors.ConfigError, match="batches.columns.y"):
        Line().fit(loader(other), **fit)
    with pytest.raises(rr.errors.ConfigError, match="parameters.slope"):
        wider = Line()
        wider.slope = torch.nn.Parameter(torch.zeros(1, 1))
        wider.fit(loader(line_batch()), **fit)
    assert len(Line().fit(loader(line_batch()), **fit)) == 1


def test_another_seed_of_the_order_is_refused(tmp_path):
    fit = {"optimizer": rr.optim.SGD(), "epochs": 1, "checkpoint": tmp_path / "run", "progress": False}
    Line().fit(loader(line_batch(), shuffle=True, seed=1), **fit)
    with pytest.raises(rr.errors.ConfigError, match="batches.seed = 1.*got 2"):
        Line().fit(loader(line_batch(), shuffle=True, seed=2), **fit)


@pytest.mark.parametrize("clip", [1.0, float("inf")])
def test_another_argument_of_the_model_is_refused(tmp_path, clip):
    fit = {"optimizer": rr.optim.SGD(), "epochs": 1, "checkpoint": tmp_path / "run", "progress": False}

    class Scaled(rr.core.Configurable, Line):
        def __init__(self, scale, extra=None):
            super().__init__()
            self.scale, self.extra = scale, extra

    Scaled(clip).fit(loader(line_batch()), **fit)
    assert len(Scaled(clip).fit(loader(line_batch()), **fit)) == 1
    with pytest.raises(rr.errors.ConfigError, match=r"configuration.model.arguments.scale = .*got 2\.5"):
        Scaled(2.5).fit(loader(line_batch()), **fit)
    opaque = {**fit, "checkpoint": tmp_path / "opaque"}  # an argument that cannot be written down
    assert len(Scaled(clip, object()).fit(loader(line_batch()), **opaque)) == 1
    assert len(Scaled(clip, object()).fit(loader(line_batch()), **opaque)) == 1


def test_other_columns_of_a_stream_are_refused(tmp_path):
    fit = {"optimizer": rr.optim.SGD(), "epochs": 1, "checkpoint": tmp_path / "run", "progress": False}

    def stream(table, **options):
        return rr.data.StreamingLoader(table, lambda piece: line_batch(len(piece)), 4, **options)

    table = pl.DataFrame({"x": range(10)})
    Line().fit(stream(table), **fit)
    for other, message in [
        (stream(table, shuffle_window=4), "shuffle_window"),
        (stream(table.rename({"x": "z"})), "batches.columns"),
        (loader(line_batch()), "batches.type"),
    ]:
        with pytest.raises(rr.errors.ConfigError, match=message):
            Line().fit(other, **fit)


def test_a_damaged_checkpoint_is_not_worked_for_in_vain(tmp_path):
    train(ratings_model(), epochs=1, checkpoint=tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    model = ratings_model()
    kill_at(model, 1)  # not one step may happen
    with pytest.raises(rr.errors.StorageError, match="other files"):
        train(model, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_the_best_checkpoint_leaves_other_files_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    model = ratings_model()
    kill_at(model, 1)  # not one step may happen
    with pytest.raises(rr.errors.StorageError, match="other files"):
        train(model, callbacks=[rr.training.BestCheckpoint(tmp_path)])
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"


def test_a_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(rr.errors.ConfigError, match="other files"):
        train(ratings_model(), checkpoint=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damage_is_noticed(tmp_path, name, damage):
    train(ratings_model(), epochs=1, checkpoint=tmp_path / "run")
    file = tmp_path / "run" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flip":
            file.write_bytes(content)
        case "remove":
            file.unlink()
    if (name, damage) == ("manifest.json", "flip"):
        expected: tuple[type[Exception], ...] = (rr.errors.StorageError, rr.errors.ConfigError)
    else:
        expected = (rr.errors.StorageError,)
    with pytest.raises(expected):
        train(ratings_model(), epochs=1, checkpoint=tmp_path / "run")


def test_no_checkpoint_of_a_broken_state(tmp_path):
    data = line_batch(12)
    data["y"][9] = float("nan")
    with pytest.raises(rr.errors.TrainingError, match="step 3"):
        Line().fit(
            loader(data),
            optimizer=rr.optim.SGD(lr=0.1),
            epochs=1,
            checkpoint=tmp_path / "run",
            checkpoint_every=1,
            progress=False,
        )
    state = rr.training.read_checkpoint(tmp_path / "run")
    assert state["step"] == 2
    assert state["model"]["slope"].isfinite().all()


def interrupt_at(model, step, *, during_validation=False):
    """Press Ctrl-C in the middle of a step."""
    done, original = [], model.compute_loss

    def compute_loss(batch, training=False):
        if training != during_validation:
            done.append(1)
            if len(done) == step:
                os.kill(os.getpid(), signal.SIGINT)
        return original(batch, training)

    model.compute_loss = compute_loss


@pytest.mark.parametrize("during_validation", [False, True])
def test_ctrl_c_finishes_the_step_saves_and_raises(tmp_path, capsys, during_validation):
    whole = ratings_model()
    expected = train(whole)
    model = ratings_model()
    interrupt_at(model, 5, during_validation=during_validation)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        train(model, checkpoint=tmp_path / "run", progress=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "call fit again" in interrupt.value.__notes__[0]
    assert "call fit again" not in capsys.readouterr().err  # whoever catches the interrupt says how to go on
    # Validation has 4 batches an epoch: its fifth comes after the second epoch's steps.
    assert rr.training.read_checkpoint(tmp_path / "run")["step"] == (2 * STEPS_AN_EPOCH if during_validation else 5)
    resumed = ratings_model(seed=8)
    assert train(resumed, checkpoint=tmp_path / "run") == expected
    assert same_weights(resumed, whole)


def test_an_interrupt_within_a_step_keeps_the_checkpoint_before(tmp_path):
    model = ratings_model()

    def step(*args, **kwargs):
        raise KeyboardInterrupt

    model.train_step = step
    with pytest.raises(KeyboardInterrupt):
        train(model, checkpoint=tmp_path / "run", every=1)
    assert not (tmp_path / "run").exists()


def test_fit_works_outside_of_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(train(ratings_model())))
    thread.start()
    thread.join()
    assert results == [train(ratings_model())]


SCRIPT = """
    import os, signal, sys
    from tests.training.test_resume import ratings_model, train
    model, folder, step = ratings_model(), sys.argv[1], int(sys.argv[2])
    done, original = [], model.train_step
    def train_step(*args, **kwargs):
        done.append(1)
        if len(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    model.train_step = train_step
    train(model, checkpoint=folder, every=2)
"""


def test_sigkill_in_a_process_of_its_own(tmp_path):
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "run"), "10"],
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"},
        cwd=root,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert rr.training.read_checkpoint(tmp_path / "run")["step"] == 8
    whole, resumed = ratings_model(), ratings_model(seed=8)
    assert train(resumed, checkpoint=tmp_path / "run", every=2) == train(whole)
    assert same_weights(resumed, whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_sigkill_at_any_moment(tmp_path, kills):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed", str(tmp_path), str(kills)],
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"},
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
