import numpy as np
import pytest
import torch
from tests.models.worlds import space, views

import retrank as rr
from retrank.ops.dense import has_independent_rows

FITTED = space()
BATCH = FITTED.transform(views(7, seed=3))


def test_inputs_are_vectors_pooled_lists_and_numbers_side_by_side():
    tower = rr.models.Tower(FITTED, ["movie_id", "year", "genres"], layers=[], dim=3)
    output = tower(BATCH).detach().numpy()
    movies, genres = (tower.embeddings[name].weight.detach().numpy() for name in ("movie_id", "genres"))
    for row, (movie, names, year) in enumerate(
        zip(BATCH["movie_id"].tolist(), BATCH["genres"].to_lists(), BATCH["year"].tolist(), strict=True)
    ):
        expected = np.concatenate([movies[movie], np.mean([genres[name] for name in names], axis=0), [year]])
        np.testing.assert_allclose(output[row], expected, rtol=1e-5, atol=1e-6)
    assert tower.out_features == 7


def test_last_layer_is_linear_and_width_is_known():
    tower = rr.models.Tower(FITTED, ["user_id", "age", "user_id_x_age"], layers=[16, 5], dim=4)
    assert tower(BATCH).shape == (7, 5)
    assert tower.out_features == 5
    assert (tower(BATCH) < 0).any()
    assert tower(BATCH[:1]).shape == (1, 5)


def test_unknown_rate_hides_the_first_feature_in_training_only():
    tower = rr.models.Tower(FITTED, ["movie_id", "genres"], layers=[], dim=2, unknown_rate=0.5)
    tower.embeddings["movie_id"].weight.data.copy_(torch.arange(24.0).reshape(12, 2))
    batch = BATCH.take(torch.zeros(4000, dtype=torch.int64))
    hidden = (tower(batch)[:, :2] == torch.tensor([2.0, 3.0])).all(dim=1)  # row 1, unknown
    assert 0.45 < hidden.float().mean() < 0.55
    known = tower.embeddings["movie_id"].weight[batch["movie_id"][0]]
    tower.eval()
    assert torch.equal(tower(batch)[:, :2], known.expand(4000, 2))
    assert batch["movie_id"].unique().tolist() == [int(BATCH["movie_id"][0])]  # the batch is left as it was


def test_new_keys_have_a_score_that_training_reaches():
    tower = rr.models.Tower(FITTED, ["movie_id", "genres"], layers=[4], dim=2, unknown_rate=0.9)
    tower(BATCH).sum().backward()
    gradient = tower.embeddings["movie_id"].weight.grad.to_dense()
    assert gradient[1].abs().sum() > 0


def test_a_residual_is_added_to_the_output():
    tower = rr.models.Tower(FITTED, ["movie_id", "year"], layers=[8, 5], residual="movie_id", l2=0.1)
    plain = tower(BATCH) - tower.residual.weight[BATCH["movie_id"]]
    tower.residual.weight.data[2:] += 1
    torch.testing.assert_close(tower(BATCH), plain + tower.residual.weight[BATCH["movie_id"]])
    with rr.core.collecting_penalties() as penalties:
        tower(BATCH)
    tables = [tower.residual, tower.embeddings["movie_id"]]
    squares = sum(table.weight[BATCH["movie_id"]].square().sum() / len(BATCH) for table in tables)
    torch.testing.assert_close(penalties.total(), 0.1 * squares)


def test_a_residual_that_is_no_feature_is_seen_by_the_layers_too():
    tower = rr.models.Tower(FITTED, ["movie_id"], layers=[5], dim=3, residual="genres")
    assert tower.inputs == ("movie_id", "genres")
    assert tower.mlp.linears[0].in_features == 3 + 5
    pooled = tower.residual(BATCH["genres"])
    vectors = torch.cat([tower.embeddings["movie_id"](BATCH["movie_id"]), pooled], dim=1)
    torch.testing.assert_close(tower(BATCH), pooled + tower.mlp(vectors))


def test_a_residual_of_a_hidden_key_is_that_of_unknown():
    tower = rr.models.Tower(FITTED, ["movie_id"], layers=[3], residual="movie_id", unknown_rate=0.999)
    tower(BATCH).sum().backward()
    assert tower.residual.weight.grad.to_dense()[1, 0] >= len(BATCH) - 2


def test_config_round_trip():
    torch.manual_seed(0)
    tower = rr.models.Tower(
        FITTED, ["user_id", "age"], layers=(8, 4), dim=6, dropout=0.1, l2=0.01, unknown_rate=0.2, residual="genres"
    )
    again = rr.core.from_config(rr.core.to_config(tower), space=FITTED)
    assert again.config == tower.config
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again.eval()(BATCH), tower.eval()(BATCH))


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        ([], {}, "one feature or more"),
        (["age", "age"], {}, "each once"),
        (["director"], {}, "director"),
        (["year", "movie_id"], {"unknown_rate": 0.1}, "'year'"),
        (["genres"], {"unknown_rate": 0.1}, "'genres'"),
        (["movie_id"], {"residual": "year"}, "'year'"),
        (["movie_id"], {"residual": "movie_id", "layers": []}, "layers"),
        (["movie_id"], {"unknown_rate": 1.0}, "unknown_rate"),
        (["movie_id"], {"layers": [4], "dropout": 0.5}, "dropout"),
        (["year"], {"l2": 0.5}, "l2"),
    ],
)
def test_bad_arguments(features, arguments, message):
    with pytest.raises(rr.errors.ConfigError, match=message):
        rr.models.Tower(FITTED, features, **arguments)


@pytest.mark.parametrize("residual", [None, "movie_id", "genres", "user_id"])
@pytest.mark.parametrize("layers", [[], [8, 5]])
@pytest.mark.parametrize(
    "features",
    [
        ["movie_id"],
        ["movie_id", "genres"],
        ["movie_id", "year", "genres"],
        ["year"],
        ["year", "age"],
        ["age", "movie_id"],
    ],
)
def test_a_prepared_tower_gives_the_bits_of_forward(features, layers, residual):
    if residual is not None and not layers:
        pytest.skip("a residual wants layers")
    tower = rr.models.Tower(FITTED, features, layers=layers, dim=3, residual=residual).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        prepared = tower.prepared()
        for batch in (BATCH, BATCH[:1], BATCH[:0], BATCH[2:5]):
            tolerance = {"rtol": 0, "atol": 0} if has_independent_rows() else {}  # others round by layout, too
            torch.testing.assert_close(prepared(batch), tower(batch), **tolerance)


def test_a_prepared_tower_takes_tables_of_any_kind_and_refuses_what_forward_refuses():
    tower = rr.models.Tower(FITTED, ["movie_id", "genres"], layers=[8, 5], dim=4).eval()
    tower.embeddings.tables[0] = tower.embeddings["movie_id"].to_int8()
    prepared = tower.prepared()
    with torch.no_grad():
        assert torch.equal(prepared(BATCH), tower(BATCH))
        for model in (tower, prepared):
            with pytest.raises(rr.errors.DataError):
                model(BATCH.merge({"genres": rr.Jagged.from_lists([[99]] * 7)}))
            with pytest.raises(rr.errors.DataError):
                model(BATCH.select(["movie_id"]))
