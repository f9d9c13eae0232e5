import json

import pytest
import torch
from torch import nn

from retrank.core.config import Configurable, from_config, to_config
from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.features.recent import Recent


class Shared(Configurable):
    config_context = "shared"


class Inner(Configurable, nn.Module):
    def __init__(self, width, *, rate=0.5):
        super().__init__()
        self.width, self.rate = width, rate


class Outer(Configurable, nn.Module):
    def __init__(self, shared, parts, names=("a",), activation=None):
        super().__init__()
        self.shared, self.parts, self.names = shared, parts, names
        self.activation = activation
        self.inner = parts["x"]


class Derived(Inner):
    def __init__(self, size):
        super().__init__(size * 2)


def rebuilt(value, **context):
    return from_config(json.loads(json.dumps(to_config(value))), **context)


def test_nested_objects_round_trip():
    shared = Shared()
    outer = Outer(shared, {"x": Inner(3, rate=0.25)}, names=["u", "v"], activation=nn.LeakyReLU(0.3))
    again = rebuilt(outer, shared=shared)
    assert again.shared is shared
    assert (again.inner.width, again.inner.rate) == (3, 0.25)
    assert again.names == ["u", "v"]
    assert again.activation.negative_slope == 0.3
    assert to_config(again) == to_config(outer)


def test_the_outermost_constructor_is_recorded():
    derived = rebuilt(Derived(2))
    assert isinstance(derived, Derived)
    assert derived.width == 4


def test_dataclasses_round_trip():
    column = ColumnSchema("genres", "ids", is_jagged=True, num_ids=20)
    assert rebuilt(column) == column


def test_torch_modules_round_trip():
    module = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Dropout(0.1), nn.HuberLoss(delta=0.4))
    again = rebuilt(module)
    assert repr(again) == repr(module)
    assert again[3].delta == 0.4


def test_what_cannot_be_described_is_refused():
    with pytest.raises(ConfigError, match="LSTM"):
        to_config(nn.LSTM(2, 2))
    with pytest.raises(ConfigError, match="string keys"):
        to_config({1: 2})


def test_loading_builds_only_known_types():
    with pytest.raises(ConfigError, match=r"'os\.system'"):
        from_config({"type": "os.system", "arguments": {"command": "true"}})
    with pytest.raises(ConfigError, match=r"torch\.nn\.LSTM"):
        from_config({"type": "torch.nn.LSTM", "arguments": {}})
    with pytest.raises(ConfigError, match="'shared'"):
        from_config({"type": "context", "name": "shared"})


def test_arguments_of_old_names_are_read():
    class Renamed(Configurable):
        former_arguments = {"max_size": "size"}  # noqa: RUF012

        def __init__(self, size):
            self.size = size

    stored = to_config(Renamed(3))
    stored["arguments"] = {"max_size": 5}
    made = from_config(stored)
    assert made.size == 5
    assert to_config(made)["arguments"] == {"size": 5}


def test_an_argument_under_both_names_is_refused():
    stored = to_config(Recent("film", length=2))
    stored["arguments"]["max_length"] = 3
    with pytest.raises(ConfigError, match="length"):
        from_config(stored)


def test_var_positional_constructors_are_refused():
    class Loose(Configurable):
        def __init__(self, *parts):
            self.parts = parts

    with pytest.raises(ConfigError, match=r"\*parts"):
        Loose(torch.zeros(1))
