"""Rankings put together after papers, each against the formula of its paper."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

import retrank as rr
from retrank import models

ROWS = 7
BATCH = rr.Batch(
    {
        "a": torch.tensor([2, 3, 1, 0, 5, 5, 9]),
        "b": rr.Jagged.from_lists([[2, 4], [], [3], [1], [5, 5, 6], [9], [2]]),
        "ab": torch.tensor([4, 4, 7, 2, 3, 1, 0]),
        "x": torch.linspace(-1, 1, ROWS),
        "y": torch.linspace(0, 2, 2 * ROWS).reshape(ROWS, 2),
        "label": torch.tensor([1.0, 0, 1, 0, 0, 1, 1]),
    }
)
DENSE = ["x", rr.core.ColumnSchema("y", "number", width=2)]


def tables(**dims):
    dims = dims or {"b": 4, "a": 4}
    return rr.EmbeddingCollection({name: rr.EmbeddingTable(10, dim, scale=0.7) for name, dim in dims.items()})


def with_weights(linear):
    """Give linear terms, which start at zero, other weights."""
    for table in linear.tables.tables:
        nn.init.normal_(table.weight)
        table.weight.data[0] = 0
    return linear


def numpy(tensor):
    return tensor.detach().double().numpy()


def vectors(model):
    """The embeddings in the order of their names, and the numbers side by side."""
    embedded = model.embeddings(BATCH)
    numbers = np.concatenate([numpy(BATCH["x"])[:, None], numpy(BATCH["y"])], axis=1)
    return [numpy(embedded[name]) for name in sorted(embedded)], numbers


def linear_terms(model, numbers):
    total = numbers @ numpy(model.linear.numbers.weight)[0] if model.linear.numbers is not None else 0
    for name in model.linear.tables.features:
        weight, ids = numpy(model.linear.tables[name].weight)[:, 0], BATCH[name]
        if isinstance(ids, rr.Jagged):
            total = total + np.array([weight[row].mean() if row else 0 for row in ids.to_lists()])
        else:
            total = total + weight[ids.numpy()]
    return total


def assert_scores(model, expected):
    np.testing.assert_allclose(numpy(model(BATCH)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(BATCH[3:4]), model(BATCH)[3:4])


def test_wide_and_deep_adds_a_weight_for_each_cross():
    wide = rr.EmbeddingCollection({"ab": rr.EmbeddingTable(10, 1), "a": rr.EmbeddingTable(10, 1)})
    model = models.wide_and_deep(tables(a=3, b=5), wide, layers=[6], dense_features=DENSE)
    with_weights(model.linear)
    embedded, numbers = vectors(model)
    deep = model.top_stack(torch.from_numpy(np.concatenate([*embedded, numbers], axis=1)).float())
    assert_scores(model, numpy(deep)[:, 0] + linear_terms(model, numbers))
    assert model.features == ("a", "b", "ab", "x", "y")


def test_wide_and_deep_trains_its_parts_by_two_optimizers():
    wide = rr.EmbeddingCollection({"ab": rr.EmbeddingTable(10, 1)})
    model = models.wide_and_deep(tables(), wide, layers=[6], id_l2=0)
    own = {id(parameter) for parameter in model.linear.parameters()}
    deep = [parameter for parameter in model.parameters() if id(parameter) not in own]
    spec = rr.optim.Composite([(rr.optim.Adagrad(0.1), list(model.linear.parameters())), (rr.optim.LazyAdam(), deep)])
    history = model.fit(rr.data.Loader(BATCH, 4), optimizer=spec, epochs=3, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_deepfm_multiplies_all_pairs():
    model = models.deepfm(tables(), layers=[6], dense_features=DENSE)
    with_weights(model.linear)
    embedded, numbers = vectors(model)
    fields = [*embedded, numbers @ numpy(model.bottom_stack.linears[0].weight).T]
    pairs = sum((one * other).sum(axis=1) for one, other in combinations(fields, 2))
    deep = model.feature_interaction.branches[1][1](torch.from_numpy(np.concatenate(fields, axis=1)).float())
    assert_scores(model, pairs + numpy(deep)[:, 0] + linear_terms(model, numbers))


def test_linear_terms_start_at_zero_and_share_as_the_vectors_do():
    embeddings = rr.EmbeddingCollection({"a": rr.EmbeddingTable(10, 4, combiner="sum"), "b": "a"})
    model = models.deepfm(embeddings, layers=[2])
    assert model.linear.tables["a"] is model.linear.tables["b"]
    assert model.linear.tables["a"].combiner == "sum"
    assert not model.linear.tables["a"].weight.any()


def test_xdeepfm_maps_crosses_and_deep_values_to_one_logit():
    model = models.xdeepfm(tables(), cross_units=[3, 2], layers=[6, 5], dense_features=DENSE)
    with_weights(model.linear)
    embedded, numbers = vectors(model)
    fields = [*embedded, numbers @ numpy(model.bottom_stack.linears[0].weight).T]
    crosses, deep = model.feature_interaction.branches
    inputs = [torch.from_numpy(field).float() for field in fields]
    hidden = np.concatenate([numpy(crosses(inputs)), numpy(deep(inputs))], axis=1)
    assert hidden.shape[1] == 5 + 5
    assert (numpy(deep(inputs)) >= 0).all()
    top = model.top_stack.linears[0]
    assert_scores(model, hidden @ numpy(top.weight)[0] + top.bias.item() + linear_terms(model, numbers))


def crossed(network, values):
    inputs = values
    for layer in network.layers:
        kernel = numpy(layer.kernel) if layer.down is None else numpy(layer.kernel) @ numpy(layer.down)
        values = inputs * (values @ kernel.T + numpy(layer.bias)) + values
    return values


@pytest.mark.parametrize("projection_dim", [None, 2])
def test_dcn_stacked_and_parallel(projection_dim):
    arguments = {"num_crosses": 2, "projection_dim": projection_dim, "layers": [6, 5], "dense_features": DENSE}
    stacked = models.dcn_v2(tables(a=3, b=5), **arguments)
    embedded, numbers = vectors(stacked)
    crosses = crossed(stacked.feature_interaction[1], np.concatenate([*embedded, numbers], axis=1))
    assert_scores(stacked, numpy(stacked.top_stack(torch.from_numpy(crosses).float()))[:, 0])

    parallel = models.dcn_v2(tables(a=3, b=5), structure="parallel", **arguments)
    embedded, numbers = vectors(parallel)
    features = np.concatenate([*embedded, numbers], axis=1)
    network, deep = parallel.feature_interaction[1].branches
    hidden = np.maximum(numpy(deep(torch.from_numpy(features).float())), 0)
    top = parallel.top_stack.linears[0]
    both = np.concatenate([crossed(network, features), hidden], axis=1)
    assert_scores(parallel, both @ numpy(top.weight)[0] + top.bias.item())
    with pytest.raises(rr.errors.ConfigError, match="stacked"):
        models.dcn_v2(tables(), structure="mixed")


def test_autoint_attends_then_maps_to_a_logit():
    attention = rr.layers.FieldAttention(num_layers=1, num_heads=2, head_dim=3)
    model = models.autoint(tables(), attention=attention, dense_features=DENSE)
    embedded, numbers = vectors(model)
    fields = [*embedded, numbers @ numpy(model.bottom_stack.linears[0].weight).T]
    attended = numpy(attention([torch.from_numpy(field).float() for field in fields]))
    top = model.top_stack.linears[0]
    assert attended.shape == (ROWS, 3 * 6)
    assert_scores(model, attended @ numpy(top.weight)[0] + top.bias.item())
    assert models.autoint(tables(), layers=[8, 5]).top_stack.linears[0].in_features == 2 * 32 + 5


def test_finalmlp_finds_its_contexts_by_name():
    model = models.finalmlp(
        tables(b=3, a=5),
        first_layers=[6, 4],
        second_layers=[2],
        num_heads=2,
        first_context=["b"],
        second_context=["b", "a"],
        dense_features=DENSE,
    )
    assert model.feature_interaction.widths == (5, 3, 3)
    assert (model.feature_interaction.first_context, model.feature_interaction.second_context) == ((1,), (1, 0))
    embedded, numbers = vectors(model)
    inputs = [torch.from_numpy(part).float() for part in (*embedded, numbers)]
    assert_scores(model, numpy(model.feature_interaction(inputs))[:, 0])
    with pytest.raises(rr.errors.ConfigError, match="'x'"):
        models.finalmlp(tables(), first_context=["x"])


def test_ncf_shares_no_number_between_its_halves():
    schemas = [rr.core.ColumnSchema(name, "ids", num_ids=10) for name in ("a", "ab")]
    model = models.ncf(*schemas, dim=3, layers=[8, 6])
    for name in ("a", "ab"):
        nn.init.normal_(model.embeddings[name].weight)
    one, other = (numpy(model.embeddings(BATCH)[name]) for name in ("a", "ab"))
    assert one.shape == (ROWS, 3 + 4)
    values = np.concatenate([one[:, 3:], other[:, 3:]], axis=1)
    for layer in model.feature_interaction.branches[1][2].linears:
        values = np.maximum(values @ numpy(layer.weight).T + numpy(layer.bias), 0)
    hidden = np.concatenate([one[:, :3] * other[:, :3], values], axis=1)
    top = model.top_stack.linears[0]
    assert_scores(model, hidden @ numpy(top.weight)[0] + top.bias.item())


def test_ncf_may_be_a_product_or_a_deep_network_alone():
    schemas = [rr.core.ColumnSchema(name, "ids", num_ids=10) for name in ("a", "ab")]
    assert models.ncf(*schemas, dim=3, layers=[]).embeddings.dims == {"a": 3, "ab": 3}
    assert models.ncf(*schemas, dim=0, layers=[8]).embeddings.dims == {"a": 4, "ab": 4}
    for arguments in ({"dim": 0, "layers": []}, {"layers": [7]}, {"dim": -1}):
        with pytest.raises(rr.errors.ConfigError, match="ncf"):
            models.ncf(*schemas, **arguments)


@pytest.mark.parametrize("build", [models.deepfm, models.xdeepfm, models.autoint])
def test_vectors_that_meet_number_by_number_are_of_one_length(build):
    with pytest.raises(rr.errors.ShapeError, match="input 1"):
        build(tables(a=3, b=5))


def test_linear_tables_hold_single_numbers():
    with pytest.raises(rr.errors.ConfigError, match="length 1"):
        models.Ranking(tables(), linear=tables())
