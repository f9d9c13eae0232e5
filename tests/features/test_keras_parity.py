"""Against Keras' FeatureSpace and TextVectorization: vocabularies, statistics and ids.

Keras' categorical ids are 0 = unknown, 1... = keys; ours are 1 = unknown, 2... = keys. Its bins start at 0, ours at 2.
"""

import numpy as np
import polars as pl
import pytest
import torch
from tests.golden import golden

import retrank as rr


def kind_of(spec):
    max_tokens = spec.get("max_tokens")
    match spec["type"]:
        case "float_rescaled":
            return rr.features.Rescaled(spec.get("scale", 1.0), spec.get("offset", 0.0))
        case "float_normalized":
            return rr.features.Normalized()
        case "float_discretized" if spec.get("bin_boundaries"):
            return rr.features.Bucketized(spec["bin_boundaries"])
        case "float_discretized":
            return rr.features.Discretized(spec["num_bins"])
        case "string_categorical" | "integer_categorical":
            return rr.features.Categorical(max_size=None if max_tokens is None else max_tokens - 1)
        case "string_hashed":
            return rr.features.Hashed(spec["num_bins"])
    raise AssertionError(spec)


def fitted(case):
    constructor = case["arguments"]["constructor"]
    crosses = [
        rr.features.Cross(*cross["feature_names"], bins=cross["crossing_dim"], name="_X_".join(cross["feature_names"]))
        for cross in constructor["crosses"]
    ]
    space = rr.FeatureSpace({name: kind_of(spec) for name, spec in constructor["features"].items()}, crosses)
    return space.fit(pl.DataFrame(case["inputs"]["adapt"]))


def one_hot(ids, width):
    return (np.asarray(ids)[:, None] == np.arange(width)).astype(float)


def in_keras_form(space, batch, name, spec):
    """Our column as Keras returns it: `(rows, 1)` or one-hot."""
    column = batch[name].numpy()
    if space.schema[name].kind == "number":
        return column[:, None]
    shift = 2 if spec["type"] in ("float_discretized", "string_hashed") else 1
    width = space.schema[name].num_ids - shift
    is_one_hot = spec.get("output_mode", "one_hot") == "one_hot"
    return one_hot(column - shift, width) if is_one_hot else column[:, None] - shift


@golden("keras_feature_space")
def test_outputs(case):
    specs = case["arguments"]["constructor"]["features"]
    space = fitted(case)
    batch = space.transform(pl.DataFrame(case["inputs"]["data"]))
    ours = {feature: in_keras_form(space, batch, feature, spec) for feature, spec in specs.items()}
    for feature, expected in case["expected"]["output"].items():
        np.testing.assert_allclose(ours[feature], expected, rtol=1e-5, atol=1e-6)
        assert list(ours[feature].shape) == case["expected"]["shapes"][feature]
    for feature, facts in case["expected"].get("hashed", {}).items():
        buckets = batch[feature].numpy() - 2
        assert list(buckets[:, None].shape) == case["expected"]["shapes"][feature]
        assert not facts["one_hot"]
        assert facts["deterministic"]
        assert torch.equal(batch[feature], space.transform(pl.DataFrame(case["inputs"]["data"]))[feature])
        assert buckets.min() >= facts["min"]
        assert buckets.max() < facts["max_exclusive"]
        assert all(buckets[first] == buckets[second] for first, second in facts["equal_rows"])
    if "concat" in case["expected"]:
        wide = np.concatenate([ours[feature] for feature in case["expected"]["concat_order"]], axis=1)
        np.testing.assert_allclose(wide, case["expected"]["concat"], rtol=1e-5, atol=1e-6)
        assert wide.shape[1] == case["expected"]["concat_width"]


@golden("keras_feature_space")
def test_learned_state(case):
    space = fitted(case)
    for feature, state in case["expected"]["state"].items():
        if "vocabulary" in state:
            assert space.vocabulary(feature).keys.to_list() == state["vocabulary"][1:]
        if "mean" in state:
            assert space[feature].mean == pytest.approx(state["mean"][0], rel=1e-5)
            assert space[feature].variance == pytest.approx(state["variance"][0], rel=1e-5)
        if "bin_boundaries" in state:
            np.testing.assert_allclose(space[feature].boundaries, state["bin_boundaries"], rtol=1e-6)


@golden("keras_text_vectorization")
def test_texts(case):
    arguments, expected = case["arguments"]["constructor"], case["expected"]
    kind = rr.features.Text(max_tokens=arguments.get("max_tokens"), max_length=arguments.get("output_sequence_length"))
    space = rr.FeatureSpace({"title": kind}).fit(pl.DataFrame({"title": case["inputs"]["adapt"]}))
    specials = 1 if arguments.get("output_mode") == "multi_hot" else 2
    assert space.vocabulary("title").keys.to_list() == expected["vocabulary"][specials:]
    tokens = space.transform(pl.DataFrame({"title": case["inputs"]["data"]}))["title"]
    if specials == 2:
        assert tokens.to_padded(length=len(expected["output"][0])).tolist() == expected["output"]
    else:
        width = len(expected["vocabulary"])  # without a padding token, so every id is one lower
        ours = [[float(column + 1 in row) for column in range(width)] for row in tokens.to_lists()]
        assert ours == expected["output"]
        bag = rr.FeatureSpace({"title": rr.features.BagOfWords(1000, "multi_hot")})
        bag.fit(pl.DataFrame({"title": case["inputs"]["adapt"]}))
        assert bag.transform(pl.DataFrame({"title": case["inputs"]["data"]}))["title"].tolist() == expected["output"]
