import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import cases

from retrank.core.config import from_config, to_config
from retrank.core.errors import ShapeError
from retrank.layers.concatenate import Concatenate
from retrank.layers.dot_interaction import DotInteraction

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")

GOLDEN = cases("tfrs_dot_interaction") + [
    case for case in cases("krs_feature_interaction") if case["source"].endswith(".DotInteraction")
]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["source"][:4] + "-" + case["name"])
def test_dot_golden(case):
    layer = DotInteraction(**case["arguments"]["constructor"])
    inputs = [torch.tensor(x) for x in case["inputs"]["inputs"]]
    for given_as in (inputs, torch.stack(inputs, dim=1)):
        np.testing.assert_allclose(layer(given_as), case["expected"]["output"], rtol=1e-5, atol=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans())
def test_dot_against_loops(batch, count, dim, self_interaction, skip_gather):
    features = np.random.default_rng(batch * 100 + count * 10 + dim).normal(size=(count, batch, dim)).astype(np.float32)
    columns = []
    for i in range(count):
        for j in range(count):
            wanted = j < i or (self_interaction and j == i)
            if wanted or skip_gather:
                columns.append((features[i] * features[j]).sum(axis=1) * wanted)
    expected = np.stack(columns, axis=1) if columns else np.zeros((batch, 0))
    layer = DotInteraction(self_interaction=self_interaction, skip_gather=skip_gather)
    output = layer([torch.from_numpy(x) for x in features])
    assert output.shape == expected.shape
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_concatenate():
    output = Concatenate()([torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0], [6.0]])])
    assert output.tolist() == [[1, 2, 5], [3, 4, 6]]
    assert Concatenate()([torch.rand(0, 2), torch.rand(0, 5)]).shape == (0, 7)


@pytest.mark.parametrize(
    ("layer", "shapes", "place"),
    [
        (Concatenate(), [(2, 3), (2, 1), (3, 1)], 2),
        (Concatenate(), [(2, 3), (2,)], 1),
        (Concatenate(), [(2,)], 0),
        (Concatenate(), [(2, 3), (2, 3, 1)], 1),
        (DotInteraction(), [(2, 3), (2, 4)], 1),
        (DotInteraction(), [(2, 3), (2, 3), (1, 3)], 2),
        (DotInteraction(), [(3,), (3,)], 0),
    ],
)
def test_wrong_shapes_name_the_input(layer, shapes, place):
    with pytest.raises(ShapeError, match=f"input {place}: expected shape") as error:
        layer([torch.rand(shape) for shape in shapes])
    assert f"got {shapes[place]}" in str(error.value)


def test_other_wrong_inputs():
    with pytest.raises(ShapeError, match="at least one input"):
        Concatenate()([])
    with pytest.raises(ShapeError, match="at least one input"):
        DotInteraction()([])
    for skip_gather in (False, True):
        with pytest.raises(ShapeError, match=r"\(batch, features, dim\).*\(2, 3\)"):
            DotInteraction(skip_gather=skip_gather)(torch.rand(2, 3))
    with pytest.raises(ShapeError, match=r"\(batch, dim\)"):
        DotInteraction()([torch.rand(2, 3, 1)])


def test_config_round_trip():
    again = from_config(to_config(DotInteraction(skip_gather=True)))
    assert (again.self_interaction, again.skip_gather) == (False, True)
    assert isinstance(from_config(to_config(Concatenate())), Concatenate)
