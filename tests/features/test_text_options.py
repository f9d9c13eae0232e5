"""`Text` as Keras' `TextVectorization` has it: what is cleaned, n-grams, and tf-idf, against plain Python."""

import math
import string
from collections import Counter

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

F = rr.features
STANDARDIZE = ["lower_and_strip_punctuation", "lower", "strip_punctuation", None]
NGRAMS = [None, 1, 2, 3, [2], (3, 1)]
TEXTS = st.lists(
    st.text(st.sampled_from([*"abAB", "!", "_", " ", "\t"]), max_size=14).filter(str.strip), min_size=1, max_size=8
)
pytestmark = pytest.mark.filterwarnings("ignore:column 't' looks like lists")  # as some texts of chance do


def split(text, standardize=STANDARDIZE[0], ngrams=None, max_length=None):
    """What `Text` should take for words, one text at a time."""
    if standardize in ("lower_and_strip_punctuation", "lower"):
        text = text.lower()
    if standardize in ("lower_and_strip_punctuation", "strip_punctuation"):
        text = "".join(letter for letter in text if letter not in string.punctuation)
    words = text.split()
    lengths = range(1, ngrams + 1) if isinstance(ngrams, int) else ngrams or [1]
    grams = [" ".join(words[at : at + n]) for n in lengths for at in range(len(words) - n + 1)]
    return grams[:max_length]


def fitted(texts, **options):
    return rr.FeatureSpace({"t": F.Text(**options)}).fit(pl.DataFrame({"t": texts}))


@given(TEXTS, TEXTS, st.sampled_from(STANDARDIZE), st.sampled_from(NGRAMS), st.none() | st.integers(1, 4))
def test_texts_become_what_plain_python_makes_of_them(texts, others, standardize, ngrams, max_length):
    texts = [*texts, "a b a c"]
    space = fitted(texts, standardize=standardize, ngrams=ngrams, max_length=max_length)
    counts = Counter(gram for text in texts for gram in split(text, standardize, ngrams))
    kept = sorted(counts, key=lambda gram: (counts[gram], gram), reverse=True)
    assert space.vocabulary("t").keys.to_list() == kept
    ids = {gram: place for place, gram in enumerate(kept, start=2)}
    expected = [[ids.get(gram, 1) for gram in split(text, standardize, ngrams, max_length)] for text in others]
    assert space.transform(pl.DataFrame({"t": others}))["t"].to_lists() == expected


def test_a_text_as_it_is_keeps_letters_and_signs():
    assert set(fitted(["Mr. T's  dog", "mr t"], standardize=None).vocabulary("t").keys) == {
        *("Mr.", "T's", "dog", "mr", "t")
    }


def test_ngrams_come_length_after_length_as_those_of_keras():
    space = fitted(["a b c"], ngrams=3)
    (ids,) = space.transform(pl.DataFrame({"t": ["a b c"]}))["t"].to_lists()
    assert space.vocabulary("t").keys_of(torch.tensor(ids)).to_list() == ["a", "b", "c", "a b", "b c", "a b c"]


def weights_by_hand(kept, ids_of_texts, num_texts, having):
    """Return {id: weight} for each text: count * log(1 + N / (1 + n)), and the mean of the logarithms if unknown."""
    inverse = {place: math.log(1 + num_texts / (1 + having[gram])) for place, gram in enumerate(kept, start=2)}
    inverse[1] = sum(inverse.values()) / len(inverse)
    return [{place: count * inverse[place] for place, count in Counter(ids).items()} for ids in ids_of_texts]


def weighted_rows(lists):
    """Return {id: weight} for each list."""
    return [
        dict(zip(ids, lists[row : row + 1].weights.tolist(), strict=True)) for row, ids in enumerate(lists.to_lists())
    ]


@given(TEXTS, TEXTS, st.none() | st.integers(3, 6), st.sampled_from([None, 2]), st.none() | st.integers(1, 4))
def test_tf_idf_is_what_plain_python_makes_of_it(texts, others, max_tokens, ngrams, max_length):
    texts = [*texts, "a b a c", ""]
    options = {"max_tokens": max_tokens, "ngrams": ngrams, "max_length": max_length}
    space = fitted(texts, weights="tf_idf", **options)
    plain = fitted(texts, **options)
    kept = space.vocabulary("t").keys.to_list()
    assert kept == plain.vocabulary("t").keys.to_list()
    having = Counter(gram for text in texts for gram in set(split(text, ngrams=ngrams)))
    ids = plain.transform(pl.DataFrame({"t": others}))["t"].to_lists()
    made = space.transform(pl.DataFrame({"t": others}))["t"]
    assert made.to_lists() == [list(dict.fromkeys(row)) for row in ids]
    for own, expected in zip(weighted_rows(made), weights_by_hand(kept, ids, len(texts), having), strict=True):
        assert own == pytest.approx(expected, rel=1e-6)


@given(TEXTS, TEXTS, st.integers(2, 6), st.sampled_from([None, 2]), st.sampled_from(["tf_idf", "count", "multi_hot"]))
def test_a_bag_of_words_is_what_plain_python_makes_of_it(texts, others, max_tokens, ngrams, output):
    texts = [*texts, "a b a c", ""]
    space = rr.FeatureSpace({"t": F.BagOfWords(max_tokens, output, ngrams=ngrams)}).fit(pl.DataFrame({"t": texts}))
    counts = Counter(gram for text in texts for gram in split(text, ngrams=ngrams))
    kept = sorted(counts, key=lambda gram: (counts[gram], gram), reverse=True)[: max_tokens - 1]
    assert space["t"].vocabulary.keys.to_list() == kept
    having = Counter(gram for text in texts for gram in set(split(text, ngrams=ngrams)))
    places = {gram: place for place, gram in enumerate(kept, start=2)}
    ids = [[places.get(gram, 1) for gram in split(text, ngrams=ngrams)] for text in others]
    made = space.transform(pl.DataFrame({"t": others}))["t"]
    assert made.shape == (len(others), space.schema["t"].width) == (len(others), len(kept) + 1)
    for own, row, weights in zip(made.tolist(), ids, weights_by_hand(kept, ids, len(texts), having), strict=True):
        amounts = {"tf_idf": weights, "count": Counter(row), "multi_hot": dict.fromkeys(row, 1)}[output]
        assert own == pytest.approx([amounts.get(place, 0) for place in range(1, len(kept) + 2)], rel=1e-6)


def test_a_bag_of_words_keeps_its_width_when_others_grow(tmp_path):
    views = pl.DataFrame({"film": ["x", "y"], "t": ["a b", "b"]})
    space = rr.FeatureSpace({"film": F.Categorical(), "t": F.BagOfWords(9)}).fit(views)
    more = pl.DataFrame({"film": ["z"], "t": ["new b"]})
    grown = space.grown(more)
    assert grown.schema["film"].num_ids > space.schema["film"].num_ids
    assert grown.schema["t"] == space.schema["t"]
    assert torch.equal(grown.transform(more)["t"], space.transform(more)["t"])
    with pytest.raises(rr.errors.ConfigError, match="feature 't'"):
        space.grown(more, ["t"])
    again = rr.FeatureSpace({"film": F.Categorical(), "t": space["t"]}).fit(pl.DataFrame({"film": ["x"], "t": ["c"]}))
    assert again["t"].vocabulary.keys.to_list() == ["c"]
    assert space["t"].vocabulary.keys.to_list() == ["b", "a"]  # what a space learned stays its own


def test_a_recommender_takes_a_bag_of_words(tmp_path):
    films = pl.DataFrame({"film": list("abc"), "title": ["Toy Story", "Heat", "A Toy of Heat"]})
    views = pl.DataFrame({"user": list("uvwu"), "film": list("abca")}).join(films, on="film")
    kinds = {"user": F.Categorical(), "film": F.Categorical(), "title": F.BagOfWords(5)}
    space = rr.FeatureSpace(kinds).fit(views)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"], layers=[4]), rr.models.Tower(space, ["film", "title"], layers=[4]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    model.fit(space.loader(views, 4), optimizer=rr.optim.LazyAdam(0.05), epochs=2, progress=False)
    made = rr.Recommender(retrieval=model, space=space, catalogue=films, history=views)
    made.save(tmp_path / "bundle")
    many = made.recommend_many(["u", "v", "w"], exclude_seen=False)
    assert many.equals(rr.Recommender.load(tmp_path / "bundle").recommend_many(["u", "v", "w"], exclude_seen=False))


def test_tf_idf_of_texts_that_repeat_and_of_shards_is_the_same():
    texts = ["a b", "b c c", "", "d"] * 2000
    table = pl.DataFrame({"t": texts})
    few = fitted(["a b", "b c c", "", "d"], weights="tf_idf")  # log(1 + N / (1 + n)) is another there
    whole = fitted(texts, weights="tf_idf")
    shards = rr.FeatureSpace({"t": F.Text(weights="tf_idf")})
    shards.fit_summaries(shards.summarize(table, shard=(part, 3)) for part in range(3))
    expected = weights_by_hand(["c", "b", "d", "a"], [[2, 3]], 8000, {"a": 2000, "b": 4000, "c": 2000, "d": 2000})
    for space in (whole, shards):
        made = space.transform(table)["t"]
        assert made.to_lists() == few.transform(table)["t"].to_lists()
        one = space.transform(pl.DataFrame({"t": ["c b"]}))["t"]
        assert weighted_rows(one)[0] == pytest.approx(expected[0], rel=1e-6)
        for row in (0, 1, 7999):
            assert torch.equal(made[row : row + 1].weights, space.transform(table[row : row + 1])["t"].weights)


def test_pooled_by_the_sum_it_is_a_dense_layer_on_a_rectangle():
    texts = ["heat", "toy story toy", "", "toy story of heat"]
    space = fitted(texts, weights="tf_idf", max_tokens=5)
    lists = space.transform(pl.DataFrame({"t": texts}))["t"]
    table = rr.EmbeddingTable(space.schema["t"], 3, combiner="sum")
    torch.nn.init.normal_(table.weight.data[1:])
    rectangle = torch.zeros(4, 5)
    for row, weights in enumerate(weighted_rows(lists)):
        for place, weight in weights.items():
            rectangle[row, place] = weight
    torch.testing.assert_close(table(lists), rectangle @ table.weight)


def test_known_words_keep_their_weights_when_new_ones_come():
    space = fitted(["a b", "b", "c"], weights="tf_idf")
    more = pl.DataFrame({"t": ["b d", "d d", "e"]})
    grown = space.grown(more)
    assert grown.vocabulary("t").keys.to_list() == ["b", "c", "a", "d", "e"]
    text = pl.DataFrame({"t": ["a b c x"]})
    before, after = (weighted_rows(one.transform(text)["t"]) for one in (space, grown))
    assert before == after
    (after,) = weighted_rows(grown.transform(pl.DataFrame({"t": ["e d"]}))["t"])
    new = {5: math.log(1 + 6 / 3), 6: math.log(1 + 6 / 2)}
    assert after == pytest.approx(new, rel=1e-6)
    again = grown.grown(pl.DataFrame({"t": ["f"]}))
    (last,) = weighted_rows(again.transform(pl.DataFrame({"t": ["d f"]}))["t"])
    assert last == pytest.approx({5: new[5], 7: math.log(1 + 7 / 2)}, rel=1e-6)


def test_saved_loaded_and_grown_they_stay(tmp_path):
    texts = pl.DataFrame({"t": ["A b", "b", "c!", None]})
    options = {"standardize": None, "ngrams": (1, 2), "weights": "tf_idf", "nulls": "unknown"}
    space = rr.FeatureSpace({"t": F.Text(**options)}).fit(texts)
    space.save(tmp_path / "space")
    again = rr.FeatureSpace.load(tmp_path / "space")
    more = pl.DataFrame({"t": ["c! b", "z b", None, "unknown"]})
    for one, other in ((space, again), (space.grown(more), again.grown(more))):
        own, loaded = (weighted_rows(each.transform(more)["t"]) for each in (one, other))
        assert own == loaded
        assert own[2] == {}


def test_a_damaged_file_is_refused():
    space = fitted(["a b"], weights="tf_idf")
    state = space["t"].state()
    for values, frames in (
        ({}, state.frames),
        ({"num_texts": 0}, state.frames),
        (state.values, state.frames | {"inverse_frequencies": pl.DataFrame({"weight": [0.0, 1.0]})}),
        (state.values, state.frames | {"inverse_frequencies": pl.DataFrame({"weight": [0.0, 1.0, 1.0, math.nan]})}),
        (state.values, state.frames | {"inverse_frequencies": pl.DataFrame({"weight": [0, 1, 1, 1]})}),
        (state.values, {"vocabulary": state.frames["vocabulary"]}),
    ):
        with pytest.raises(rr.errors.StorageError, match="feature 't'"):
            F.Text(weights="tf_idf").load_state(type(state)(values, frames), where="feature 't'")


@pytest.mark.parametrize(
    "options",
    [
        {"standardize": "upper"},
        {"ngrams": 0},
        {"ngrams": True},
        {"ngrams": []},
        {"ngrams": [1, 1]},
        {"ngrams": [0]},
        {"ngrams": [None]},
        {"ngrams": "2"},
        {"weights": "idf"},
    ],
)
def test_other_options_are_refused(options):
    with pytest.raises(rr.errors.ConfigError, match="Text"):
        F.Text(**options)


@pytest.mark.parametrize("arguments", [(1,), (None,), (5, "idf"), (5, None)])
def test_other_bags_are_refused(arguments):
    with pytest.raises(rr.errors.ConfigError, match="BagOfWords"):
        F.BagOfWords(*arguments)


def test_a_recommender_serves_them_alike(tmp_path):
    films = pl.DataFrame({"film": list("abcd"), "title": ["Toy Story", "Toy Story 2", "Heat", "A Toy of Heat"]})
    views = pl.DataFrame({"user": list("uvwu"), "film": list("abcd"), "wish": ["toy toy", "heat", "story", "heat toy"]})
    views = views.join(films, on="film")
    kinds = {"title": F.Text(weights="tf_idf", ngrams=2), "wish": F.Text(weights="tf_idf", standardize=None)}
    space = rr.FeatureSpace({"user": F.Categorical(), "film": F.Categorical(), **kinds}).fit(views)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user", "wish"], layers=[4]), rr.models.Tower(space, ["film", "title"], layers=[4]),
        rr.tasks.Retrieval(),
    )  # fmt: skip
    model.fit(space.loader(views, 4), optimizer=rr.optim.LazyAdam(0.05), epochs=2, progress=False)
    made = rr.Recommender(retrieval=model, space=space, catalogue=films, history=views, queries=views)
    made.save(tmp_path / "bundle")
    asked = pl.DataFrame({"user": ["u", "v", "new", "w"], "wish": [None, "toy heat heat", "story", "nothing known"]})
    many = made.recommend_many(asked, k=4, exclude_seen=False)
    assert many.equals(rr.Recommender.load(tmp_path / "bundle").recommend_many(asked, k=4, exclude_seen=False))
    vectors = model.embed_candidates(space.catalogue(films, "film").batch)
    (query,) = model.embed_queries(
        space.transform(pl.DataFrame({"user": ["v"], "wish": ["toy heat heat"]}), ["user", "wish"])
    )
    for row in asked.iter_rows(named=True):
        alone = made.recommend(row, k=4, exclude_seen=False)
        assert alone["score"].to_list() == many.filter(user=row["user"])["score"].to_list()
    found = many.filter(user="v")
    expected = {film: float(vectors[place] @ query) for place, film in enumerate(films["film"])}
    assert dict(zip(found["film"], found["score"], strict=True)) == pytest.approx(expected, abs=1e-5)
