import copy
import json
import pickle

import pytest
import torch
from torch import nn

from retrank.core.config import from_config, to_config
from retrank.core.errors import ConfigError
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.layers.mlp import MLP
from retrank.optim.adagrad import Adagrad
from retrank.optim.composite import Composite
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.torch_specs import SGD, Adam


class Model(nn.Module):
    def __init__(self, dim=2, in_features=2):
        super().__init__()
        torch.manual_seed(0)
        self.user, self.movie = EmbeddingTable(6, dim), EmbeddingTable(9, dim)
        self.score = MLP(in_features, [3, 1])

    def tables(self):
        return [self.user.weight, self.movie.weight]

    def loss(self, step):
        user, movie = torch.tensor([2, 3 + step % 3]), torch.tensor([2 + step % 7, 4])
        return (self.score(self.user(user) * self.movie(movie)) - step % 5).square().mean()


SPEC = Composite([(Adagrad(lr=0.1), "user.*"), (LazyAdam(lr=0.05), ["movie.*"]), (Adam(lr=0.01), "score.*")])


def train(model, optimizer, steps, scheduler=None):
    for step in steps:
        optimizer.zero_grad()
        model.loss(step).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_every_part_is_updated_by_its_own_optimizer():
    together, apart = Model(), Model()
    built = SPEC.build(together.named_parameters())
    assert isinstance(built, torch.optim.Optimizer)
    optimizers = [
        Adagrad(lr=0.1).build(apart.user.named_parameters()),
        LazyAdam(lr=0.05).build(apart.movie.named_parameters()),
        Adam(lr=0.01).build(apart.score.named_parameters()),
    ]
    for step in range(10):
        apart.zero_grad()
        apart.loss(step).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert equal(train(together, built, range(10)), [p.detach() for p in apart.parameters()])


def test_restored_state_continues_bit_for_bit_and_with_a_scheduler():
    def scheduled(optimizer):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)

    whole = Model()
    optimizer = SPEC.build(whole.named_parameters())
    expected = train(whole, optimizer, range(20), scheduled(optimizer))
    constant = Model()
    assert not equal(expected, train(constant, SPEC.build(constant.named_parameters()), range(20)))

    first = Model()
    optimizer = SPEC.build(first.named_parameters())
    scheduler = scheduled(optimizer)
    train(first, optimizer, range(9), scheduler)
    saved = copy.deepcopy(optimizer.state_dict())
    assert set(saved) == {"state", "param_groups"}
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))
    second = Model()
    second.load_state_dict(first.state_dict())
    continued = SPEC.build(second.named_parameters())
    later = scheduled(continued)
    continued.load_state_dict(saved)
    later.load_state_dict(scheduler.state_dict())
    assert equal(train(second, continued, range(9, 20), later), expected)


def test_groups_are_concatenated():
    optimizer = SPEC.build(Model().named_parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05, 0.01]
    assert [group["param_names"] for group in optimizer.param_groups][:2] == [["user.weight"], ["movie.weight"]]


@pytest.mark.parametrize(
    "select", [lambda m: m.tables(), lambda m: m.tables, lambda m: iter(m.tables()), lambda m: ["user.*", "movie.*"]]
)
def test_ways_to_select(select):
    model = Model()
    spec = Composite([(Adagrad(lr=0.1), select(model)), (SGD(lr=0.2), model.score.parameters())])
    for _ in range(2):
        optimizer = spec.build(model.named_parameters())
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]


def test_parameters_of_a_lazy_layer_can_be_selected_before_their_size_is_known():
    model = Model(in_features=None)
    optimizer = Composite([(Adagrad(), model.tables), (Adam(), model.score.parameters())]).build(
        model.named_parameters()
    )
    before = train(model, optimizer, range(1))
    assert not equal(before, train(model, optimizer, range(1, 2)))


def test_overlap_names_the_parameter():
    spec = Composite([(Adagrad(), ["user.*", "movie.*"]), (Adam(), "*.weight"), (SGD(), "*.bias")])
    with pytest.raises(ConfigError, match=r"parameter 'user.weight' in parts 0 and 1"):
        spec.build(Model().named_parameters())


def test_uncovered_parameters_are_named():
    model = Model()
    spec = Composite([(Adagrad(), "user.*"), (Adam(), "score.*")])
    with pytest.raises(ConfigError, match=r"no part for \['movie.weight'\]"):
        spec.build(model.named_parameters())
    model.movie.weight.requires_grad_(False)
    spec.build(model.named_parameters())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda model: [(Adagrad(), "user.*"), (Adam(), "nothing.*")], "none in part 1"),
        (lambda model: [(Adagrad(), [*model.tables(), nn.Parameter(torch.ones(1))]), (Adam(), "score.*")], "1 others"),
        (lambda model: [], "at least one part"),
    ],
)
def test_wrong_parts_are_refused(parts, message):
    model = Model()
    with pytest.raises(ConfigError, match=message):
        Composite(parts(model)).build(model.named_parameters())


def test_config_round_trip_of_patterns():
    assert from_config(json.loads(json.dumps(to_config(SPEC)))) == SPEC
    with pytest.raises(ConfigError, match="Parameter"):
        to_config(Composite([(Adagrad(), Model().tables())]))


def test_closure_is_called_once():
    model = Model()
    optimizer = SPEC.build(model.named_parameters())
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = model.loss(0)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert calls == [1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_by_itself(copied):
    model = Model()
    optimizer = SPEC.build(model.named_parameters())
    train(model, optimizer, range(3))
    again = copied(optimizer)
    pairs = [
        (a, b)
        for g, h in zip(optimizer.param_groups, again.param_groups, strict=True)
        for a, b in zip(g["params"], h["params"], strict=True)
    ]
    before = [one.detach().clone() for one, _ in pairs]
    for one, other in pairs:
        one.grad = torch.ones_like(one)
        other.grad = torch.ones_like(one)
    again.step()
    assert equal(before, [one.detach() for one, _ in pairs])
    optimizer.step()
    assert equal([one.detach() for one, _ in pairs], [other.detach() for _, other in pairs])
