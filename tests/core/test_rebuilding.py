import json

import pytest
import torch
from tests.models.test_conformance import CASES as MODELS
from torch import nn

import retrank as rr
from retrank.core.config import to_config
from retrank.core.errors import ConfigError, StorageError
from retrank.core.rebuilding import rebuild


def rebuilt(config, module):
    return rebuild(json.loads(json.dumps(config)), module.state_dict(), where="config.json", weights="a.safetensors")


def test_a_module_comes_back_with_its_weights():
    module = rr.layers.MLP(3, [4, 1])
    again = rebuilt(to_config(module), module)
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_into_the_limits(name):
    model = MODELS[name].build()
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    files = {"where": "config.json", "weights": "a.safetensors"}
    again = rebuild(to_config(model), state, **files, **MODELS[name].context)
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())


TABLE = rr.EmbeddingTable(10, 4)


@pytest.mark.parametrize(
    "config",
    [
        {"type": "retrank.embeddings.EmbeddingTable", "arguments": {"rows": 10**12, "dim": 4}},
        {"type": "retrank.embeddings.EmbeddingTable", "arguments": {"rows": 10**8, "dim": 64}},
        {"type": "torch.nn.Linear", "arguments": {"in_features": 10**9, "out_features": 10**9}},
        {"type": "retrank.layers.DCN", "arguments": {"num_layers": 10**9}},
        {"type": "retrank.layers.MLP", "arguments": {"in_features": 8, "units": [100_000] * 300}},
        {"type": "dict", "items": {}},
        {"type": "retrank.core.ColumnSchema", "arguments": {"name": "a", "kind": "number"}},
        3, None, "x", [], {}, {"type": 3}, {"type": "dict"}, {"type": "context", "name": "space"},
    ],
)  # fmt: skip
def test_what_the_weights_cannot_fill_is_refused(config):
    with pytest.raises(StorageError, match=r"^config\.json"):
        rebuilt(config, TABLE)


@pytest.mark.parametrize("change", [lambda w: w.double(), lambda w: w.half(), lambda w: w[:9], lambda w: w.view(-1)])
def test_weights_of_another_dtype_or_shape_are_refused(change):
    state = {"weight": change(TABLE.weight.detach())}
    with pytest.raises(StorageError, match=r"^a\.safetensors"):
        rebuild(to_config(TABLE), state, where="config.json", weights="a.safetensors")
    for state in ({}, {"weight": TABLE.weight.detach(), "more": torch.ones(1)}):
        with pytest.raises(StorageError, match=r"^a\.safetensors"):
            rebuild(to_config(TABLE), state, where="config.json", weights="a.safetensors")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("retrank.layers.MLP", {"in_features": 3, "units": [2], "typo": 1}),
        ("retrank.layers.MLP", {"in_features": 3}),
        ("retrank.layers.MLP", {"in_features": 3, "units": "22"}),
        ("retrank.layers.MLP", {"in_features": 3, "units": [2.5]}),
        ("retrank.embeddings.EmbeddingTable", {"rows": "10", "dim": 4}),
        ("retrank.embeddings.EmbeddingTable", {"rows": True, "dim": 4}),
        ("retrank.embeddings.EmbeddingTable", {"rows": 10, "dim": None}),
        ("retrank.embeddings.EmbeddingTable", {"rows": 10, "dim": 4, "combiner": 3}),
        ("torch.nn.Linear", {"in_features": 3, "out_features": "x"}),
        ("torch.nn.Sequential", {"children": [3]}),
        ("torch.nn.Sequential", {"children": {"type": "dict", "items": {}}}),
    ],
)
def test_arguments_that_a_constructor_does_not_take_are_refused(kind, arguments):
    with pytest.raises(ConfigError, match=kind.rpartition(".")[2]):
        rr.core.from_config({"type": kind, "arguments": arguments})


def test_torch_modules_of_a_module_are_rebuilt():
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    assert torch.equal(rebuilt(to_config(module), module)[0].weight, module[0].weight)
