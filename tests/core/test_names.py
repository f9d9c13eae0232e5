"""Files name types as users import them, and the names of earlier versions still mean something."""

import inspect
import operator
from pathlib import Path

import pytest
from torch import nn

import retrank as rr
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.names import RENAMED, known_by_name, public_name

EARLIER = (Path(__file__).parents[1] / "formats" / "names_v0.txt").read_text().split()


def subclasses(kind):
    for inner in kind.__subclasses__():
        yield inner
        yield from subclasses(inner)


KINDS = sorted({kind for kind in subclasses(Configurable) if kind.__module__.startswith("retrank.")}, key=public_name)


def imported(name):
    return operator.attrgetter(name.removeprefix("retrank."))(rr)


@pytest.mark.parametrize("kind", KINDS, ids=public_name)
def test_every_type_has_the_name_by_which_it_is_imported(kind):
    assert imported(public_name(kind)) is kind


def test_no_two_types_have_one_name():
    assert len({public_name(kind) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", EARLIER)
def test_every_name_that_the_first_version_wrote_still_means_a_type(name):
    registry = {public_name(kind): kind for kind in KINDS} | {"retrank.embeddings.quantized": rr.embeddings.quantized}
    found = known_by_name(registry, name, "type")
    assert not inspect.isabstract(found)
    assert found.__name__ in {name.rpartition(".")[2], *(new.rpartition(".")[2] for new in RENAMED.values())}


def test_configurations_hold_public_names():
    config = rr.core.to_config(rr.layers.MLP(4, [2]))
    assert config["type"] == "retrank.layers.MLP"
    assert isinstance(rr.core.from_config({**config, "type": "retrank.layers.mlp.MLP"}), rr.layers.MLP)


class Own(Configurable, nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def test_types_of_users_keep_their_module():
    assert public_name(Own) == f"{__name__}.Own"
    assert rr.core.from_config(rr.core.to_config(Own(3))).width == 3


@pytest.mark.parametrize("name", ["", ".", "retrank", "retrank.layers", "retrank.layers.x.y.MLP", "os.system", "MLP"])
def test_other_names_mean_nothing(name):
    with pytest.raises(ConfigError, match="type that is known here"):
        rr.core.from_config({"type": name, "arguments": {}})
