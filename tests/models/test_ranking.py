import math

import numpy as np
import pytest
import torch
from tests.golden import golden
from torch import nn
from torch.nn.parameter import is_lazy

import retrank as rr


def stack(arguments, weights):
    layers = rr.layers.MLP(
        len(weights[0]),
        arguments["units"],
        final_activation=nn.ReLU() if arguments["final_activation"] == "relu" else None,
    )
    for place, layer in enumerate(layers.linears):
        layer.weight.data = torch.tensor(weights[2 * place]).T.contiguous()
        layer.bias.data = torch.tensor(weights[2 * place + 1])
    return layers


def interaction(arguments, inputs):
    if arguments["class_name"] == "DotInteraction":
        return rr.layers.DotInteraction()
    (weights,) = inputs["cross_weights"]
    *kernels, bias = weights if isinstance(weights[0][0], list) else inputs["cross_weights"]
    rank = arguments["layers"][1].get("projection_dim")
    cross = rr.layers.Cross(len(bias), projection_dim=rank)
    if rank is None:
        cross.kernel.data = torch.tensor(kernels[0]).T.contiguous()
    else:
        cross.down.data = torch.tensor(kernels[0]).T.contiguous()
        cross.kernel.data = torch.tensor(kernels[1]).T.contiguous()
    cross.bias.data = torch.tensor(bias)
    return nn.Sequential(rr.layers.Concatenate(), cross)


def golden_model(case):
    arguments, inputs = case["arguments"]["constructor"], case["inputs"]
    tables = {}
    for name, rows in inputs["embedding_tables"].items():
        tables[name] = rr.EmbeddingTable(len(rows) + 1, len(rows[0]))  # their rows start at 0, ours behind the padding
        tables[name].weight.data[1:] = torch.tensor(rows)
    dense = torch.tensor(inputs["dense_features"])
    task = None
    if "MeanSquaredError" in arguments["task"]:
        task = rr.tasks.Ranking(loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError()])
    model = rr.models.Ranking(
        rr.EmbeddingCollection(tables),
        stack(arguments["bottom_stack"], inputs["bottom_stack_weights"]),
        interaction(arguments["feature_interaction"], inputs),
        stack({**arguments["top_stack"], "final_activation": None}, inputs["top_stack_weights"]),
        arguments["concat_dense"],
        task,
        dense_features=[rr.core.ColumnSchema("dense", "number", width=dense.shape[1])],
        weight="weight" if "sample_weight" in inputs else None,
    )
    ids = {name: torch.tensor(values) + 1 for name, values in inputs["sparse_features"].items()}
    columns = {**ids, "dense": dense, "label": torch.tensor(inputs["labels"])}
    if "sample_weight" in inputs:
        columns["weight"] = torch.tensor(inputs["sample_weight"])
    return model, rr.Batch(columns)


@golden("tfrs_ranking_model")
def test_tfrs(case):
    model, batch = golden_model(case)
    expected = case["expected"]
    outputs = model(batch)
    if case["arguments"]["constructor"]["top_stack"]["final_activation"] == "sigmoid":
        outputs = outputs.sigmoid()
    np.testing.assert_allclose(outputs.detach().numpy(), expected["prediction"], rtol=1e-5, atol=1e-6)
    if "weighted_loss_intended" in expected:
        assert model.compute_loss(batch).item() == pytest.approx(expected["weighted_loss_intended"], rel=1e-4)
        model.weight = None  # the other numbers are without weights
    loss = model.compute_loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    for name, gradient in expected["grad_embedding_tables"].items():
        ours = model.embeddings[name].weight.grad.to_dense()[1:].numpy()
        np.testing.assert_allclose(ours, gradient, rtol=1e-4, atol=1e-5)
    for place, layer in enumerate(model.bottom_stack.linears):
        kernel, bias = expected["grad_bottom_stack_weights"][2 * place : 2 * place + 2]
        np.testing.assert_allclose(layer.weight.grad.T.numpy(), kernel, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.bias.grad.numpy(), bias, rtol=1e-4, atol=1e-5)


def embeddings(**dims):
    return rr.EmbeddingCollection(
        {name: rr.EmbeddingTable(20, dim) for name, dim in (dims or {"a": 4, "b": 4}).items()}
    )


def batch(num_rows=6):
    rng = rr.core.generator(1, "batch")
    return rr.Batch(
        {
            "a": torch.randint(2, 20, (num_rows,), generator=rng),
            "b": rr.Jagged.from_lists([[2 + row, 3] for row in range(num_rows)]),
            "age": torch.rand(num_rows, generator=rng),
            "label": torch.randint(0, 2, (num_rows,), generator=rng).float(),
        }
    )


def test_defaults_are_those_of_dlrm_and_nothing_stays_lazy():
    model = rr.models.Ranking(embeddings(), dense_features=["age"])
    assert [layer.out_features for layer in model.bottom_stack.linears] == [256, 64, 4]
    assert isinstance(model.bottom_stack.activations[-1], nn.ReLU)
    assert [layer.out_features for layer in model.top_stack.linears] == [512, 256, 1]
    assert model.top_stack.linears[0].in_features == 4 + 3  # the dense vector, and three pairs
    assert not any(is_lazy(parameter) for parameter in model.parameters())
    assert model.training
    assert model.features == ("a", "b", "age")
    assert sorted(metric.name for metric in model.task.metrics) == sorted(
        metric.name for metric in rr.metrics.binary_metrics()
    )


@pytest.mark.parametrize("num_rows", [1, 6])
def test_output_is_one_logit_a_row(num_rows):
    for dense in ((), ("age",)):
        model = rr.models.Ranking(embeddings(), dense_features=dense)
        assert model(batch(num_rows)).shape == (num_rows,)
        assert model.compute_loss(batch(num_rows)).shape == ()


def test_without_dense_features_there_is_no_bottom_stack():
    model = rr.models.Ranking(embeddings(), top_stack=rr.layers.MLP(1, [1]))
    assert model.bottom_stack is None
    vectors = model.embeddings(batch())
    product = (vectors["a"] * vectors["b"]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(model(batch()), model.top_stack(product)[:, 0])


def test_the_order_of_the_features_does_not_matter():
    torch.manual_seed(0)
    first = rr.models.Ranking(embeddings(a=4, b=4), dense_features=["age"])
    torch.manual_seed(0)
    second = rr.models.Ranking(embeddings(b=4, a=4), dense_features=["age"])
    for name in ("a", "b"):
        second.embeddings[name].weight.data = first.embeddings[name].weight.data
    for stack_name in ("bottom_stack", "top_stack"):
        getattr(second, stack_name).load_state_dict(getattr(first, stack_name).state_dict())
    torch.testing.assert_close(first(batch()), second(batch()))


def test_dcn_takes_vectors_of_any_length():
    model = rr.models.Ranking(
        embeddings(a=3, b=5),
        bottom_stack=rr.layers.MLP(None, [2]),
        feature_interaction=nn.Sequential(rr.layers.Concatenate(), rr.layers.Cross()),
        dense_features=["age"],
    )
    assert model.top_stack.linears[0].in_features == 2 + 10
    assert not any(is_lazy(parameter) for parameter in model.parameters())


def test_program_3_with_two_optimizers_learns():
    torch.manual_seed(0)
    tables = {name: rr.EmbeddingTable(20, 4, scale=0.5) for name in ("a", "b")}
    model = rr.models.Ranking(embeddings=rr.EmbeddingCollection(tables), dense_features=["age"])
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(2, 20, size=400))
    data = rr.Batch(
        {
            "a": ids,
            "b": torch.from_numpy(rng.integers(2, 20, size=400)),
            "age": torch.from_numpy(rng.random(400)).float(),
            "label": (ids % 2).float(),
        }
    )
    optimizer = rr.optim.Composite(
        [
            (rr.optim.RowwiseAdagrad(lr=0.05), model.embedding_parameters),
            (rr.optim.Adam(lr=1e-3), model.dense_parameters),
        ]
    )
    history = model.fit(
        rr.data.Loader(data, 50, shuffle=True), optimizer=optimizer, epochs=25, device="cpu", progress=False
    )
    results = model.evaluate(rr.data.Loader(data, 64))
    assert results["auc"] > 0.95
    assert results["label_mean"] == pytest.approx(data["label"].mean().item())
    assert history["auc"][0] < history["auc"][-1]


def test_weights_scale_each_row():
    model = rr.models.Ranking(embeddings(), weight="weight")
    model.eval()
    data = batch()
    zero = data.merge({"weight": torch.tensor([1.0, 0, 0, 0, 0, 0])})
    alone = data[:1].merge({"weight": torch.ones(1)})
    assert model.compute_loss(zero).item() == pytest.approx(model.compute_loss(alone).item() / 6, rel=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda: rr.models.Ranking(embeddings(), dense_features=["age"]),
        lambda: rr.models.Ranking(
            embeddings(a=3, b=5),
            rr.layers.MLP(None, [2]),
            nn.Sequential(rr.layers.Concatenate(), rr.layers.Cross()),
            concat_dense=False,
            task=rr.tasks.Ranking(loss=nn.MSELoss()),
            dense_features=[rr.core.ColumnSchema("age", "number")],
            label="label",
        ),
    ],
    ids=["dlrm", "dcn"],
)
def test_config_round_trip(build):
    model = build()
    again = rr.core.from_config(rr.core.to_config(model))
    assert rr.core.to_config(again) == rr.core.to_config(model)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch()), model(batch()))
    assert math.isfinite(again.evaluate(rr.data.Loader(batch(), 2))["loss"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bottom_stack": rr.layers.MLP(1, [4])}, rr.errors.ConfigError, "dense features"),
        ({"dense_features": [rr.core.ColumnSchema("x", "ids", num_ids=5)]}, rr.errors.ConfigError, "numbers"),
        ({"embeddings": embeddings(a=3, b=4), "dense_features": ["age"]}, rr.errors.ConfigError, "bottom_stack"),
        ({"embeddings": embeddings(a=3, b=4)}, rr.errors.ShapeError, "dot_interaction"),
        ({"top_stack": rr.layers.MLP(None, [2])}, rr.errors.ShapeError, "top_stack"),
    ],
)
def test_parts_that_do_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        rr.models.Ranking(**{"embeddings": embeddings(), **arguments})


def test_a_missing_column_is_named():
    model = rr.models.Ranking(embeddings(), label="clicked")
    with pytest.raises(rr.errors.DataError, match="clicked"):
        model.evaluate(rr.data.Loader(batch(), 2))


def test_a_missing_weight_is_named_in_evaluation():
    train = batch().merge({"weight": torch.ones(6)})
    built = {
        "models.Ranking": rr.models.Ranking(embeddings(), weight="weight"),
        "models.MultiTaskRanking": rr.models.MultiTaskRanking(
            embeddings(), {"label": rr.tasks.Ranking()}, weight="weight"
        ),
    }
    for name, model in built.items():
        model.fit(rr.data.Loader(train, 3), optimizer=rr.optim.LazyAdam(), epochs=1, device="cpu", progress=False)
        with pytest.raises(rr.errors.DataError, match=f"{name}: expected the column 'weight'.* in evaluation too"):
            model.evaluate(rr.data.Loader(batch(), 2))


def unified(l2=0.0):
    return rr.embeddings.UnifiedEmbedding(
        {"b": 2, "a": 2}, buckets_per_table=200, dim_per_table=4, num_tables=2, scale=0.5, l2=l2
    )


MODELS = {
    "dlrm": lambda tables: rr.models.Ranking(tables, dense_features=["age"]),
    "dcn_v2": lambda tables: rr.models.dcn_v2(tables, dense_features=["age"], layers=[16]),
    "dcn_v2_parallel": lambda tables: rr.models.dcn_v2(tables, structure="parallel", layers=[16]),
    "deepfm": lambda tables: rr.models.deepfm(tables, dense_features=["age"], layers=[16]),
    "xdeepfm": lambda tables: rr.models.xdeepfm(tables, cross_units=[8], layers=[16]),
    "wide_and_deep": lambda tables: rr.models.wide_and_deep(tables, tables.linear_terms(), layers=[16]),
    "autoint": lambda tables: rr.models.autoint(tables, dense_features=["age"]),
    "finalmlp": lambda tables: rr.models.finalmlp(tables, first_context=["a"], second_context=["b"]),
    "multitask": lambda tables: rr.models.MultiTaskRanking(tables, {"label": rr.tasks.Ranking()}),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_every_model_takes_a_unified_embedding(build):
    torch.manual_seed(0)
    model = build(unified(l2=1e-4))
    assert not any(is_lazy(parameter) for parameter in model.parameters())
    assert set(model.features) >= {"a", "b"}
    again = rr.core.from_config(rr.core.to_config(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch()), model(batch()))
    data = batch(200)
    data = data.merge({"label": (data["a"] % 2).float()})
    optimizer = rr.optim.Composite(
        [(rr.optim.LazyAdam(lr=0.02), model.embedding_parameters), (rr.optim.Adam(lr=0.01), model.dense_parameters)]
    )
    history = model.fit(
        rr.data.Loader(data, 50, shuffle=True), optimizer=optimizer, epochs=20, device="cpu", progress=False
    )
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["regularization_loss"][0] > 0


class OneHot(rr.embeddings.Embeddings):
    """Embeddings of someone else's."""

    features, dims = ("a",), {"a": 20}

    def forward(self, batch):
        return {"a": nn.functional.one_hot(batch["a"], 20).float()}


def test_embeddings_may_be_your_own():
    model = rr.models.dcn_v2(OneHot(), layers=[4])
    assert model(batch()).shape == (6,)
    assert model.embedding_parameters == []
    assert "OneHot" in str(rr.core.to_config(model))
    with pytest.raises(rr.errors.ConfigError, match="OneHot without linear_terms"):
        rr.models.deepfm(OneHot())


@pytest.mark.parametrize("wrong", [{"a": rr.EmbeddingTable(20, 4)}, rr.EmbeddingTable(20, 4)])
def test_other_embeddings_are_refused(wrong):
    for build in (rr.models.Ranking, lambda tables: rr.models.MultiTaskRanking(tables, {"label": rr.tasks.Ranking()})):
        with pytest.raises(rr.errors.ConfigError, match=r"EmbeddingCollection.*got (dict|EmbeddingTable)"):
            build(wrong)
    with pytest.raises(rr.errors.ConfigError, match="linear terms"):
        rr.models.Ranking(embeddings(), linear=wrong)
