"""What a ranking model does if it is told nothing: where its scores start, and how its weights are updated."""

import numpy as np
import pytest
import torch

import retrank as rr


def tables(**options):
    return rr.EmbeddingCollection({name: rr.EmbeddingTable(9, 4, **options) for name in ("a", "b")})


def rows(labels, **columns):
    count = len(labels)
    ids = {name: torch.arange(count) % 7 + 2 for name in ("a", "b")}
    return rr.Batch({**ids, "label": torch.tensor(labels), **columns})


def started(model, data, batch_size=3):
    """The scores of a model that training has looked at its rows for, less those of before."""
    model.eval()
    before = model(data).detach()
    model.begin_fit(iter(rr.data.Loader(data, batch_size)))
    return (model(data).detach() - before).numpy()


@pytest.mark.parametrize("build", [rr.models.deepfm, rr.models.dcn_v2, rr.models.Ranking])
def test_scores_start_at_the_log_odds_of_the_labels(build):
    shift = started(build(tables()), rows([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(shift, np.log(1 / 3), rtol=1e-5)


def test_rows_count_by_their_weight():
    data = rows([1.0, 0.0, 0.0], w=torch.tensor([6.0, 1.0, 2.0]))
    np.testing.assert_allclose(started(rr.models.deepfm(tables(), weight="w"), data, 2), np.log(2), rtol=1e-5)


@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
def test_the_start_is_finite(labels):
    assert not started(rr.models.deepfm(tables()), rows(labels)).any()


def test_squared_errors_start_at_zero_and_so_does_what_has_no_penalty():
    data = rows([1.0, 0.0, 0.0, 0.0])
    assert not started(rr.models.deepfm(tables(), task=rr.tasks.Ranking(torch.nn.MSELoss())), data).any()
    assert not started(rr.models.deepfm(tables(), id_l2=0, linear_l2=0), data).any()


@pytest.mark.parametrize("first", [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0]])
def test_training_that_goes_on_shifts_no_score(first):
    model = rr.models.deepfm(tables())
    started(model, rows(first))
    assert not started(model, rows([1.0, 1.0, 1.0, 0.0])).any()
    again = rr.models.deepfm(tables())
    again.load_state_dict(model.state_dict())
    assert not started(again, rows([1.0, 1.0, 1.0, 0.0])).any()


def test_models_saved_before_there_was_a_start_are_read_and_keep_theirs():
    data = rows([1.0, 0.0, 0.0, 0.0])
    former = rr.models.deepfm(tables()).eval()
    state = {name: value for name, value in former.state_dict().items() if "base_score" not in name}
    model = rr.models.deepfm(tables())
    model.load_state_dict(state)
    assert torch.equal(model.eval()(data), former(data))
    assert not started(model, data).any()
    half = {**state, "base_score.score": torch.tensor(1.0)}
    with pytest.raises(RuntimeError, match="is_found"):
        model.load_state_dict(half)


def test_ids_move_faster_than_layers_by_default():
    model = rr.models.deepfm(tables())
    optimizer = model.default_optimizer().build(model.named_parameters())
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert set(rates) == set(model.parameters())
    slowest = min(rates[table] for table in model.embedding_parameters)
    assert slowest >= 10 * max(rates[weight] for weight in model.dense_parameters)


def test_the_default_trains_what_is_not_frozen_and_models_without_layers():
    data = rr.data.Loader(rows([1.0, 0.0, 1.0, 1.0]), 2)
    machine = rr.models.Ranking(
        tables(scale=0.5), feature_interaction=rr.layers.FM(), top_stack=torch.nn.Identity(),
        linear=tables().linear_terms(),
    )  # fmt: skip
    frozen = rr.models.deepfm(tables(), layers=[4])
    frozen.embeddings.requires_grad_(False)
    kept = frozen.embeddings["a"].weight.clone()
    for model in (machine, frozen):
        losses = model.fit(data, epochs=20, progress=False)["loss"]
        assert losses[-1] < losses[0]
    assert torch.equal(frozen.embeddings["a"].weight, kept)


def test_the_default_is_the_same_as_its_optimizer_and_resumes(tmp_path):
    def fitted(optimizer, checkpoint, *epochs):
        for count in epochs:
            torch.manual_seed(0)
            model = rr.models.deepfm(tables(), layers=[4])
            model.fit(
                rr.data.Loader(rows([1.0, 0.0, 1.0, 1.0]), 2, shuffle=True), epochs=count, progress=False,
                optimizer=optimizer and model.default_optimizer(), checkpoint=checkpoint and tmp_path / "run",
            )  # fmt: skip
        return model.state_dict()

    whole = fitted(None, None, 4)
    for other in (fitted(True, None, 4), fitted(None, True, 2, 4)):
        for name, value in whole.items():
            assert torch.equal(value, other[name]), name


def test_a_handful_of_rows_can_be_learned_by_heart():
    torch.manual_seed(0)
    labels = [float(number % 2) for number in range(7)]
    for build in (rr.models.dcn_v2, rr.models.deepfm, rr.models.Ranking):
        model = build(tables())
        history = model.fit(rr.data.Loader(rows(labels), 7), epochs=200, progress=False, device="cpu")
        assert history["loss"][-1] < 0.1, build


def test_other_models_ask_for_an_optimizer():
    class Line(rr.Model):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def compute_loss(self, batch, training=False):
            return (batch["label"] * self.slope - 1).square().mean()

    with pytest.raises(rr.errors.ConfigError, match=r"Line\.fit: expected an optimizer"):
        Line().fit(rr.data.Loader(rows([1.0]), 1), epochs=1)
