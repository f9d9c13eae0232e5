import math

import numpy as np
import polars as pl
import pytest
import torch
from tests.golden import golden
from tests.training.worlds import Line, Ratings, line_batch, loader, ratings_batch, ratings_model, same_weights
from torch import nn

import retrank as rr


class Dense(rr.Model):
    """The Keras stack of a golden case."""

    def __init__(self, layers, weights):
        super().__init__()
        self.layers = nn.ModuleList()
        for place, layer in enumerate(layers):
            kernel, bias = weights[2 * place], weights[2 * place + 1]
            dense = rr.layers.MLP(
                len(kernel),
                [layer["units"]],
                final_activation=nn.ReLU() if layer.get("activation") == "relu" else None,
                l2=layer.get("l2", 0.0),
            )
            dense.linears[0].weight.data = torch.tensor(kernel).T.contiguous()
            dense.linears[0].bias.data = torch.tensor(bias)
            self.layers.append(dense)
        self.task = rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])

    def compute_loss(self, batch, training=False):
        hidden = batch["x"]
        for layer in self.layers:
            hidden = layer(hidden)
        return self.task(labels=batch["y"], predictions=hidden)

    def weights(self):
        for layer in self.layers:
            yield layer.linears[0].weight.detach().T.numpy()
            yield layer.linears[0].bias.detach().numpy()


@golden("tfrs_model_train_step")
def test_steps_match_tfrs(case):
    def run(step, values):
        rr.training.reset_metrics(model)
        batch = rr.Batch({"x": torch.tensor(values["x"]), "y": torch.tensor(values["y"])})
        losses = {name: float(value) for name, value in step(batch).items()}
        return {**rr.training.metric_results(model), **losses}

    arguments = case["arguments"]["constructor"]
    model = Dense(arguments["layers"], case["inputs"]["weights"])
    optimizer = rr.optim.SGD(lr=arguments["optimizer"]["learning_rate"]).build(model.named_parameters())
    expected = case["expected"]
    for batch, results, weights in zip(
        case["inputs"]["train_batches"],
        expected["train_step_results"],
        expected["weights_after_each_step"],
        strict=True,
    ):
        assert run(lambda batch: model.train_step(batch, optimizer), batch) == pytest.approx(results, rel=1e-5)
        for ours, theirs in zip(model.weights(), weights, strict=True):
            np.testing.assert_allclose(ours, np.array(theirs), rtol=1e-4, atol=1e-5)
    before = [weight.copy() for weight in model.weights()]
    assert run(model.test_step, case["inputs"]["test_batch"]) == pytest.approx(expected["test_step_result"], rel=1e-5)
    for ours, theirs in zip(model.weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_epoch_losses_are_averages_over_rows_not_the_last_batch():
    # Batches of 4, 4 and 2 rows with constant errors 1, 2 and 5: squares 1, 4 and 25.
    class Constant(rr.Model):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))

        def compute_loss(self, batch, training=False):
            return ((batch["error"] + self.shift) ** 2).mean()

    errors = rr.Batch({"error": torch.tensor([1.0] * 4 + [2.0] * 4 + [5.0] * 2)})
    history = Constant().fit(loader(errors), optimizer=rr.optim.SGD(lr=0.0), epochs=1, progress=False)
    assert history["loss"] == [pytest.approx((4 * 1 + 4 * 4 + 2 * 25) / 10)]
    assert Constant().evaluate(loader(errors))["loss"] == pytest.approx((4 * 1 + 4 * 4 + 2 * 25) / 10)


class Penalised(rr.Model):
    """A weight that only its penalty moves, and penalties in places where layers may stand."""

    class Squared(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(value))

        def regularization(self):
            return self.weight.square()

    def __init__(self):
        super().__init__()
        self.first = self.Squared(1.0)
        self.again = self.first  # one layer under two names has one penalty
        self.stack = nn.Sequential(nn.Identity(), nn.ModuleDict({"deep": self.Squared(2.0)}))

    def compute_loss(self, batch, training=False):
        return batch["error"].mean() + 0 * self.first.weight


def test_penalties_are_collected_from_layers_wherever_they_stand():
    model = Penalised()
    assert model.regularization_loss().item() == 1 + 4
    results = model.evaluate(loader(rr.Batch({"error": torch.tensor([1.0, 3.0])})))
    assert results == {"loss": 2, "regularization_loss": 5, "total_loss": 7}


def test_all_three_losses_of_an_epoch_are_averages_over_rows_of_weights_that_move():
    # Batches of 4, 4 and 2 rows. A step of 0.25 halves both weights, and so quarters a penalty of 5.
    errors = rr.Batch({"error": torch.tensor([1.0] * 4 + [2.0] * 4 + [5.0] * 2)})
    history = Penalised().fit(
        loader(errors), optimizer=rr.optim.SGD(lr=0.25), epochs=1, validation=loader(errors), progress=False
    )
    [row] = history.rows
    penalties, mean = (5, 5 / 4, 5 / 16), (4 * 1 + 4 * 2 + 2 * 5) / 10
    penalty = np.average(penalties, weights=(4, 4, 2))
    assert [row["loss"], row["regularization_loss"], row["total_loss"]] == pytest.approx(
        [mean, penalty, mean + penalty]
    )
    after = [row["val_loss"], row["val_regularization_loss"], row["val_total_loss"]]
    assert after == pytest.approx([mean, 5 / 64, mean + 5 / 64])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(rr.optim.SGD(), "table.*")], r"no part for \['score\."),
        ([(rr.optim.SGD(), "*"), (rr.optim.Adagrad(), "table.*")], "'table.weight' in parts 0 and 1"),
    ],
)
def test_optimizers_that_share_or_forget_weights_are_refused_before_the_first_step(parts, message):
    model, before = ratings_model(), ratings_model()
    with pytest.raises(rr.errors.ConfigError, match=message):
        model.fit(loader(ratings_batch()), optimizer=rr.optim.Composite(parts), epochs=1, device="cpu", progress=False)
    assert same_weights(model, before)


def test_each_optimizer_moves_its_own_weights():
    model, before = ratings_model(), ratings_model()
    parts = [(rr.optim.SGD(lr=0.0), "table.*"), (rr.optim.SGD(lr=0.1), "score.*")]
    model.fit(loader(ratings_batch()), optimizer=rr.optim.Composite(parts), epochs=1, device="cpu", progress=False)
    assert same_weights(model.table, before.table)
    assert not any(torch.equal(a, b) for a, b in zip(model.score.parameters(), before.score.parameters(), strict=True))


def test_fit_learns_and_reports_metrics_of_tasks():
    model, data = ratings_model(), ratings_batch(200)
    history = model.fit(
        loader(data, shuffle=True),
        optimizer=rr.optim.Adagrad(lr=0.1),
        epochs=10,
        validation=loader(data),
        device="cpu",
        progress=False,
    )
    assert list(history.rows[0]) == [
        "epoch",
        *("loss", "regularization_loss", "total_loss", "rmse", "label_mean"),
        *("val_rmse", "val_label_mean", "val_loss", "val_regularization_loss", "val_total_loss"),
    ]
    assert history["val_loss"][-1] < 0.25 * data["label"].var().item()
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    for row in history:
        assert row["total_loss"] == pytest.approx(row["loss"] + row["regularization_loss"], rel=1e-6)
        assert row["val_rmse"] == pytest.approx(math.sqrt(row["val_loss"]), rel=1e-5)
        assert row["label_mean"] == pytest.approx(data["label"].mean().item(), rel=1e-6)
    assert history.frame.shape == (10, 11)
    assert len(history.seconds) == 10


def test_evaluate_changes_nothing_and_restores_modes():
    model, data = ratings_model(), ratings_batch()
    model.table.eval()  # frozen by the user, and so it must stay
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = model.evaluate(loader(data)), model.evaluate(loader(data, batch_size=5))
    assert first == pytest.approx(second, rel=1e-5)  # no dropout, and batches do not matter
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert model.score.training
    assert not model.table.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_between_epochs_does_not_break_training_metrics():
    model, data = ratings_model(), ratings_batch()
    model.evaluate(loader(data))
    model.predict(loader(data))
    history = model.fit(loader(data), optimizer=rr.optim.SGD(lr=0.0), epochs=2, validation=loader(data), progress=False)
    assert history["label_mean"] == pytest.approx([data["label"].mean().item()] * 2)


def test_hooks_of_evaluation_end_even_on_errors():
    class Hooked(Line):
        calls = ()

        def begin_evaluation(self):
            self.calls += ("begin",)

        def end_evaluation(self):
            self.calls += ("end",)

        def compute_loss(self, batch, training=False):
            if not training and "fail" in self.calls:
                raise ZeroDivisionError
            return super().compute_loss(batch, training)

    model = Hooked()
    model.fit(loader(line_batch()), optimizer=rr.optim.SGD(), epochs=1, validation=loader(line_batch()), progress=False)
    assert model.calls == ("begin", "end")
    model.calls = ("fail",)
    with pytest.raises(ZeroDivisionError):
        model.evaluate(loader(line_batch()))
    assert model.calls == ("fail", "begin", "end")
    assert model.training


def test_predict_concatenates_on_cpu_in_order():
    model = Line(dropout=0.9)
    model.slope.data.fill_(2.0)
    data = line_batch(11)
    assert torch.equal(model.predict(loader(data)), 2 * data["x"])
    assert torch.equal(model.predict(loader(data[:1])), 2 * data["x"][:1])


def test_predict_refuses_what_is_not_a_tensor():
    class Pair(Line):
        def forward(self, batch):
            return batch["x"], batch["y"]

    with pytest.raises(rr.errors.ConfigError, match=r"Pair\.forward"):
        Pair().predict(loader(line_batch()))


@pytest.mark.parametrize("loss", [torch.zeros(3), 1.5])
def test_a_loss_that_is_no_scalar_is_refused(loss):
    class Wrong(Line):
        def compute_loss(self, batch, training=False):
            return loss

    with pytest.raises(rr.errors.ShapeError, match=r"Wrong\.compute_loss"):
        Wrong().fit(loader(line_batch()), optimizer=rr.optim.SGD(), epochs=1, progress=False)


def test_a_model_without_a_loss_cannot_be_built():
    class Nothing(rr.Model):
        pass

    with pytest.raises(TypeError, match="compute_loss"):
        Nothing()


def test_same_seed_same_result_and_global_random_state_untouched():
    def train(seed):
        model = Line(dropout=0.5)
        torch.rand(seed + 1)  # the caller's random state must not matter
        state = torch.get_rng_state()
        history = model.fit(
            loader(line_batch()), optimizer=rr.optim.SGD(lr=0.1), epochs=2, seed=seed, device="cpu", progress=False
        )
        assert torch.equal(state, torch.get_rng_state())
        return history, model.slope.item()

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_lazy_layers_get_their_width_and_the_loader_stays_where_it_is():
    class Lazy(rr.Model):
        def __init__(self):
            super().__init__()
            self.score = rr.layers.MLP(None, [3, 1])

        def compute_loss(self, batch, training=False):
            return self.score(batch["x"].unsqueeze(1)).mean()

    model, data = Lazy(), loader(line_batch(), shuffle=True)
    history = model.fit(data, optimizer=rr.optim.Adam(lr=0.01), epochs=1, progress=False)
    assert model.score.linears[0].weight.shape == (3, 1)
    assert len(history) == 1
    assert data.state_dict() == {"epoch": 1, "batch": 0}
    assert math.isfinite(Lazy().evaluate(data)["loss"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_and_epoch(bad):
    data = line_batch(12)
    data["y"][9] = bad  # in the third batch of 4
    with pytest.raises(rr.errors.TrainingError, match="step 3 in epoch 1"):
        Line().fit(loader(data), optimizer=rr.optim.SGD(lr=0.1), epochs=2, progress=False)
    assert not math.isfinite(Line().evaluate(loader(data))["loss"])  # an evaluation tells the truth instead


def test_clip_norm_bounds_the_step():
    model = Line()
    model.fit(
        loader(line_batch(), batch_size=10),
        optimizer=rr.optim.SGD(lr=1.0),
        epochs=1,
        clip_norm=0.25,
        device="cpu",
        progress=False,
    )
    assert model.slope.item() == pytest.approx(0.25)


def test_schedule_steps_once_a_step():
    rates = []

    class Watch(Line):
        def train_step(self, batch, optimizer, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])
            return super().train_step(batch, optimizer, **kwargs)

    Watch().fit(
        loader(line_batch()),
        optimizer=rr.optim.SGD(lr=0.8),
        epochs=2,
        schedule=rr.training.linear_decay(4),
        progress=False,
    )
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    with pytest.raises(rr.errors.ConfigError, match="num_steps"):
        rr.training.linear_decay(0)


def test_validation_every_keeps_the_last_epoch():
    history = Line().fit(
        loader(line_batch()),
        optimizer=rr.optim.SGD(lr=0.1),
        epochs=5,
        validation=loader(line_batch()),
        validation_every=2,
        progress=False,
    )
    assert [row["epoch"] for row in history if "val_loss" in row] == [2, 4, 5]
    assert history.frame["val_loss"].null_count() == 2


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    seen = []

    class Watch(Ratings):
        def forward(self, batch):
            output = super().forward(batch)
            seen.append(output.dtype)
            return output

    torch.manual_seed(0)
    model, data = Watch(), ratings_batch(200)
    history = model.fit(
        loader(data, 20),
        optimizer=rr.optim.Adagrad(lr=0.1),
        epochs=5,
        precision="bfloat16",
        device="cpu",
        progress=False,
    )
    assert set(seen) == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert history["loss"][-1] < history["loss"][0]


def test_metrics_of_one_name_are_told_apart_by_their_task():
    class Two(rr.Model):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.first, self.second = (
                rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()]) for _ in range(2)
            )

        def compute_loss(self, batch, training=False):
            outputs = batch["x"] * self.weight
            return self.first(labels=batch["y"], predictions=outputs) + self.second(
                labels=batch["x"], predictions=outputs
            )

    results = Two().evaluate(loader(line_batch()))
    assert results["second.rmse"] == 0
    assert results["first.rmse"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 2.5}, "an integer above 0 for epochs"),
        ({"checkpoint_every": 5}, "checkpoint"),
        ({"validation_every": 0}, "validation_every"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"precision": "float8"}, "precision"),
        ({"device": "abacus"}, "device"),
        ({"epochs": "3"}, "an integer above 0 for epochs"),
        ({"clip_norm": "1"}, "a number above 0 for clip_norm"),
        ({"optimizer": rr.optim.Adagrad}, r"optimizer.*the class Adagrad.*rr\.optim\.Adagrad\(lr"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)}, "optimizer of fit.*a SGD"),
        ({"optimizer": "adam"}, "optimizer of fit.*'adam'"),
        ({"callbacks": rr.training.EarlyStopping("loss")}, "callbacks.*sequence.*a EarlyStopping.*list"),
        ({"callbacks": [rr.training.EarlyStopping]}, "the class EarlyStopping"),
        ({"callbacks": rr.training.EarlyStopping}, "the class EarlyStopping"),
        ({"schedule": "cosine"}, "schedule.*'cosine'.*linear_decay"),
        ({"schedule": lambda optimizer: 0.1}, "schedule.*float"),
        ({"schedule": lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)}, "schedule"),
    ],
)
def test_bad_arguments_of_fit(arguments, message):
    with pytest.raises(rr.errors.ConfigError, match=message):
        Line().fit(loader(line_batch()), **{"optimizer": rr.optim.SGD(), "epochs": 1, "progress": False, **arguments})


@pytest.mark.parametrize(
    "data", [pl.DataFrame({"x": [1.0], "y": [3.0]}), line_batch(), [line_batch()], nn.Linear(1, 1), None, "x.parquet"]
)
def test_data_that_is_no_loader_is_refused(data):
    fit = {"optimizer": rr.optim.SGD(), "epochs": 1, "progress": False}
    kind = type(data).__name__
    advice = rf"a loader of batches, got {kind}.*space\.loader\(table, batch_size\)"
    with pytest.raises(rr.errors.ConfigError, match=f"batches of fit.*{advice}"):
        Line().fit(data, **fit)
    with pytest.raises(rr.errors.ConfigError, match=f"batches of evaluate.*{advice}"):
        Line().evaluate(data)
    with pytest.raises(rr.errors.ConfigError, match=f"batches of predict.*{advice}"):
        Line().predict(data)
    if data is not None:
        with pytest.raises(rr.errors.ConfigError, match=f"validation of fit.*{advice}"):
            Line().fit(loader(line_batch()), validation=data, **fit)


def test_a_custom_loader_works():
    class Twice:
        num_rows = 10

        def __iter__(self):
            return iter([line_batch(), line_batch()])

        def __len__(self):
            return 2

        def state_dict(self):
            return {"epoch": 0, "batch": 0}

        def load_state_dict(self, state):
            pass

    assert len(Line().fit(Twice(), optimizer=rr.optim.SGD(), epochs=1, progress=False)) == 1


def test_a_loss_without_gradient_is_refused():
    class Detached(Line):
        def compute_loss(self, batch, training=False):
            return super().compute_loss(batch).detach()

    with pytest.raises(rr.errors.ConfigError, match=r"Detached\.compute_loss.*without gradient"):
        Detached().fit(loader(line_batch()), optimizer=rr.optim.SGD(), epochs=1, progress=False)


def test_a_batch_of_one_row_trains_like_any_other():
    data = ratings_batch(1)
    model = ratings_model()
    before = ratings_model()
    model.fit(loader(data), optimizer=rr.optim.Adagrad(lr=0.1), epochs=1, device="cpu", progress=False)
    assert not same_weights(model, before)


def test_the_parameters_of_any_model_divide_into_tables_and_the_rest():
    class Shares(rr.Model):
        def __init__(self):
            super().__init__()
            self.tables = nn.ModuleList([rr.EmbeddingTable(9, 2), rr.embeddings.HashedTable(9, 2, num_buckets=3)])
            self.tied = rr.EmbeddingTable(9, 2)
            self.tied.weight = self.tables[0].weight
            self.head = nn.Linear(2, 1)

        def compute_loss(self, batch, training=False):
            raise NotImplementedError

    model = Shares()
    tables = [model.tables[0].weight, model.tables[1].table.weight]
    assert [id(weight) for weight in model.embedding_parameters] == [id(weight) for weight in tables]
    assert [id(weight) for weight in model.dense_parameters] == [id(model.head.weight), id(model.head.bias)]
