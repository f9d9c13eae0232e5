import pytest
from tests.conformance import FeatureCase, FeatureConformance

from retrank import features

WORDS = ["b", "a", "b", "c", "a", "b"]
LISTS = [["b", "a"], ["b"], [], ["c", "b"], ["a"], ["b", "b"]]
NUMBERS = [3.0, 1.5, 2.0, 8.0, 5.0, 4.0]
TIMES = [0, 86_400, 90_000, 1_000_000, 1_700_000_000, 5]
CASES = {
    **{
        f"bag_of_words_{output}": FeatureCase(
            lambda output=output: features.BagOfWords(3, output, ngrams=2), ["a b", "b", "c b a d", "", "a", "b"], "z"
        )
        for output in ("tf_idf", "count", "multi_hot")
    },
    "bucketized": FeatureCase(lambda: features.Bucketized([2.0, 4.0]), NUMBERS, 99.0),
    "categorical": FeatureCase(features.Categorical, WORDS, "new"),
    "categorical_capped": FeatureCase(lambda: features.Categorical(min_count=2, max_size=1), WORDS, "new"),
    "categorical_list": FeatureCase(features.CategoricalList, LISTS, ["new", "a"]),
    "cross": FeatureCase(lambda: features.Cross("own", "other", bins=50, name="x"), WORDS, "new"),
    "discretized": FeatureCase(lambda: features.Discretized(3), NUMBERS, -5.0),
    "hashed": FeatureCase(lambda: features.Hashed(4), WORDS, "new"),
    "log": FeatureCase(features.Log, NUMBERS, 99.0),
    "normalized": FeatureCase(features.Normalized, NUMBERS, 99.0),
    "passthrough": FeatureCase(features.Passthrough, NUMBERS, 99.0),
    "recent": FeatureCase(lambda: features.Recent("key", decay=0.1), LISTS, ["new", "a"]),
    "rescaled": FeatureCase(lambda: features.Rescaled(0.5, 1.0), NUMBERS, 99.0),
    "seen": FeatureCase(lambda: features.Seen("key"), LISTS, ["new", "a"]),
    "text": FeatureCase(lambda: features.Text(max_tokens=10, max_length=3), ["a b", "b", "c b a d", "", "a", "b"], "z"),
    "text_tf_idf": FeatureCase(
        lambda: features.Text(standardize=None, ngrams=[1, 2], weights="tf_idf"),
        ["a b", "b", "c b a d", "", "a", "b"],
        "z",
    ),
    "timestamp_part": FeatureCase(lambda: features.TimestampPart("weekday"), TIMES, 7),
}


class TestFeatures(FeatureConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        return request.param
