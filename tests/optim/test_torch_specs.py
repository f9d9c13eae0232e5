import json

import pytest
import torch
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.optim.torch_specs import SGD, Adam, AdamW

PAIRS = [
    (Adam(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1), torch.optim.Adam, {"betas": (0.8, 0.9), "weight_decay": 0.1}),
    (AdamW(lr=0.1), torch.optim.AdamW, {"weight_decay": 0.01}),
    (SGD(lr=0.1, momentum=0.5, weight_decay=0.1), torch.optim.SGD, {"momentum": 0.5, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("spec", "kind", "settings"), PAIRS)
def test_the_settings_arrive(spec, kind, settings):
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    built, reference = spec.build([("w", ours)]), kind([theirs], lr=0.1, **settings)
    for step in range(5):
        ours.grad = theirs.grad = torch.tensor([1.0, -2.0, 0.5 * step])
        built.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # ours is fused, which rounds otherwise
    assert from_config(json.loads(json.dumps(to_config(spec)))) == spec


@pytest.mark.parametrize("spec", [Adam(), AdamW(), SGD(momentum=0.5), SGD(weight_decay=0.1)], ids=repr)
def test_row_sparse_gradients_are_refused_by_name(spec):
    model = nn.ModuleDict({"score": nn.Linear(2, 1), "user": EmbeddingTable(4, 2)})
    optimizer = spec.build(model.named_parameters())
    model["score"](model["user"](torch.tensor([2]))).sum().backward()
    with pytest.raises(ConfigError, match=r"parameter 'user.weight': expected dense gradients, .* use LazyAdam"):
        optimizer.step()


def test_plain_sgd_takes_row_sparse_gradients():
    table = EmbeddingTable(5, 2)
    before = table.weight.detach().clone()
    optimizer = SGD(lr=0.5).build(table.named_parameters())
    table(torch.tensor([3, 3, 0, 4])).sum().backward()
    optimizer.step()
    expected = before.clone()
    expected[3] -= 1
    expected[4] -= 0.5
    torch.testing.assert_close(table.weight.data, expected)
    assert (table.weight[0] == 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(lr=-1.0), "lr"),
        (lambda: AdamW(betas=(0.9,)), "two betas"),
        (lambda: SGD(momentum=1.0), "momentum"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_nothing_to_optimize_is_refused():
    with pytest.raises(ConfigError, match="SGD"):
        SGD().build(nn.ReLU().named_parameters())
