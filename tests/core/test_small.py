import pytest
import torch

from retrank.core.errors import ConfigError, MissingExtraError, RetrankError
from retrank.core.extras import optional
from retrank.core.schema import ColumnSchema
from retrank.core.seeds import derive_seed, generator, seed_everything


def test_errors_hold_their_four_parts():
    error = RetrankError("a", "b", "c", "d")
    assert str(error) == "c: expected a, got b; d"
    assert (error.expected, error.got, error.where, error.fix) == ("a", "b", "c", "d")


def test_a_missing_extra_names_its_install_line():
    with pytest.raises(MissingExtraError, match=r'pip install "retrank\[ann\]"'):
        optional("no_such_module_here", extra="ann")


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "ids"},
        {"kind": "number", "num_ids": 5},
        {"kind": "ids", "num_ids": 1},
        {"kind": "text"},
        {"kind": "number", "width": 0},
    ],
)
def test_impossible_schemas_are_refused(arguments):
    with pytest.raises(ConfigError, match="'age'"):
        ColumnSchema("age", **arguments)


def test_seeds_depend_on_the_whole_path():
    seeds = {derive_seed(s, *path) for s in (0, 1) for path in [(), ("a",), ("a", 1), ("a", "1"), ("a1",)]}
    assert len(seeds) == 10
    assert derive_seed(42, "shuffle", 3) == 64057919545490790
    assert torch.equal(torch.randperm(9, generator=generator(1, "x")), torch.randperm(9, generator=generator(1, "x")))


def test_seed_everything_repeats():
    def draws():
        import random

        import numpy as np

        return random.random(), float(np.random.rand()), torch.rand(1).item()

    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
