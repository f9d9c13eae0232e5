import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.baselines import EASE, ItemKNN, Popularity, item_knn
from retrank.baselines import interactions as interactions_module
from retrank.baselines.blocks import ranges_of_cost
from retrank.baselines.histories import weighted_histories
from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.lists import most_popular
from retrank.core.errors import ConfigError, DataError, NotFittedError, ShapeError
from retrank.core.jagged import Jagged

BASELINES = [Popularity(), EASE(l2=2.0), ItemKNN(num_neighbors=2, shrink=1.0)]
interactions = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=40)


def table(pairs):
    return pl.DataFrame({"user": [f"u{q}" for q, _ in pairs], "song": [f"s{c}" for _, c in pairs]})


def dense(pairs, matrix):
    x = np.zeros(matrix.shape)
    rows = {key: i for i, key in enumerate(matrix.queries.to_list())}
    columns = {key: i for i, key in enumerate(matrix.candidates.to_list())}
    for query, candidate in pairs:
        x[rows[f"u{query}"], columns[f"s{candidate}"]] = 1
    return x


@given(interactions)
def test_matrix_counts_distinct_pairs_in_order_of_popularity(pairs):
    matrix = InteractionMatrix.build(table(pairs))
    x = dense(pairs, matrix)
    assert matrix.counts.tolist() == x.sum(0).tolist() == sorted(x.sum(0), reverse=True)
    together = x.T @ x
    for first, last in ((0, None), (1, None), (0, 1), (1, 3)):
        part = together[first : matrix.shape[1] if last is None else min(last, matrix.shape[1])]
        if len(part):
            np.testing.assert_array_equal(rectangle(matrix.co_occurrences(first, last), matrix), part)
    np.testing.assert_array_equal(matrix.num_meetings, together.sum(axis=1))
    np.testing.assert_array_equal(rectangle(matrix.histories(matrix.rows(matrix.queries)), matrix), x)
    assert matrix.rows(pl.Series(["nobody"])).tolist() == [-1]
    assert matrix.histories(matrix.rows(pl.Series(["nobody"]))).to_lists() == [[]]


def rectangle(lists, matrix):
    x = np.zeros((len(lists), matrix.shape[1]))
    x[lists.row_index(), lists.values] = lists.weights
    return x


def ease_oracle(x, l2):
    """Solve each column's ridge regression on the other columns."""
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        others = [i for i in range(n) if i != j]
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + l2 * np.eye(n - 1), a.T @ x[:, j])
    return x @ weights


def knn_oracle(x, num_neighbors, shrink):
    n = x.shape[1]
    scores = np.zeros_like(x)
    for j in range(n):
        similar = [
            0.0 if i == j else x[:, i] @ x[:, j] / (np.sqrt(x[:, i].sum() * x[:, j].sum()) + shrink) for i in range(n)
        ]
        kept = sorted(range(n), key=lambda i: (-similar[i], i))[:num_neighbors]
        for i in kept:
            scores[:, j] += x[:, i] * similar[i]
    return scores


@settings(max_examples=30)
@given(interactions)
def test_scores_equal_their_formulas(pairs):
    frame = table(pairs)
    matrix = InteractionMatrix.build(frame)
    x = dense(pairs, matrix)
    oracles = [(EASE(l2=2.0), ease_oracle(x, 2.0)), (ItemKNN(num_neighbors=2, shrink=1.0), knn_oracle(x, 2, 1.0))]
    for baseline, expected in oracles:
        lists = baseline.fit(frame).recommend_many(
            pl.DataFrame({"user": matrix.queries}), matrix.shape[1], exclude_seen=False
        )
        columns = {key: i for i, key in enumerate(matrix.candidates.to_list())}
        got = np.zeros_like(x)
        rows = {key: i for i, key in enumerate(matrix.queries.to_list())}
        for row in lists.iter_rows(named=True):
            got[rows[row["user"]], columns[row["song"]]] = row["score"]
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: type(b).__name__)
@settings(max_examples=20)
@given(pairs=interactions)
def test_lists_are_sorted_complete_and_unseen(baseline, pairs):
    frame = table(pairs)
    baseline.fit(frame)
    asked = pl.DataFrame({"user": ["u0", "stranger", "u3"]})
    lists = baseline.recommend_many(asked, k=3)
    for user in asked["user"]:
        mine = lists.filter(user=user)
        seen = {f"s{c}" for q, c in pairs if f"u{q}" == user}
        unseen = {f"s{c}" for _, c in pairs} - seen
        assert not set(mine["song"]) & seen
        assert len(mine) == min(3, len(unseen))
        assert mine["rank"].to_list() == list(range(1, len(mine) + 1))
        assert mine["score"].is_sorted(descending=True)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: type(b).__name__)
@settings(max_examples=20)
@given(pairs=interactions, asked=st.permutations(["u0", "stranger", "u1", "u2", "u3", "u4", "u5"]))
def test_queries_get_alone_what_they_get_among_others(baseline, pairs, asked):
    baseline.fit(table(pairs))
    for exclude_seen in (False, True):
        together = baseline.recommend_many(pl.DataFrame({"user": asked}), k=4, exclude_seen=exclude_seen)
        alone = [baseline.recommend_many(pl.DataFrame({"user": [u]}), k=4, exclude_seen=exclude_seen) for u in asked]
        assert together.equals(pl.concat(alone))


@settings(max_examples=100)
@given(st.data())
def test_popular_lists_are_those_of_a_search(data):
    counts = sorted(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12)), reverse=True)
    columns = st.lists(st.integers(0, len(counts) - 1), unique=True)
    exclude = data.draw(st.lists(columns, max_size=4))
    k = data.draw(st.integers(1, len(counts)))
    scores, found = most_popular(torch.tensor(counts), Jagged.from_lists(exclude), k)
    for row, gone in enumerate(exclude):
        wanted = [column for column in range(len(counts)) if column not in gone][:k]
        missing = k - len(wanted)
        assert found[row].tolist() == wanted + [-1] * missing
        assert scores[row].tolist() == [counts[column] for column in wanted] + [-np.inf] * missing


@settings(max_examples=50)
@given(costs=st.lists(st.integers(0, 9)), limit=st.integers(1, 20))
def test_ranges_hold_every_row_once_and_cost_no_more_than_they_may(costs, limit):
    ranges = list(ranges_of_cost(torch.tensor(costs, dtype=torch.int64), limit))
    assert [row for first, last in ranges for row in range(first, last)] == list(range(len(costs)))
    for first, last in ranges:
        assert last - first == 1 or sum(costs[first:last]) <= limit
        if last < len(costs):
            assert sum(costs[first : last + 1]) > limit


@pytest.mark.parametrize("limit", [1, 3, 2**20])
def test_pieces_of_any_size_give_the_same_neighbors(monkeypatch, limit):
    frame = table([(q, (q * q + c) % 7) for q in range(6) for c in range(4)])
    whole = ItemKNN(num_neighbors=3).fit(frame).recommend_many(frame.select("user").unique(), 7, exclude_seen=False)
    for module in (item_knn, interactions_module):
        monkeypatch.setattr(module, "_MEETINGS", limit)
    parts = ItemKNN(num_neighbors=3).fit(frame).recommend_many(whole.select("user").unique(), 7, exclude_seen=False)
    assert whole.sort("user", "rank").equals(parts.sort("user", "rank"))


def test_long_lists_come_in_the_order_of_a_full_sort():
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"user": draw.integers(0, 40, 900), "song": draw.zipf(1.3, 900) % 700})
    matrix = InteractionMatrix.build(frame)
    x = rectangle(matrix.histories(torch.arange(matrix.shape[0])), matrix)
    baseline = ItemKNN(num_neighbors=5).fit(frame)
    lists = baseline.recommend_many(pl.DataFrame({"user": matrix.queries}), k=300)
    places = {key: i for i, key in enumerate(matrix.candidates.to_list())}
    together = (x.T @ x).astype(np.float32)
    norms = np.sqrt(together.diagonal())
    similar = together / np.outer(norms, norms)
    np.fill_diagonal(similar, 0)
    far = np.argsort(np.argsort(-similar, axis=1, kind="stable"), axis=1) >= 5
    expected = x @ np.where(far, 0, similar).T
    for row, query in enumerate(matrix.queries):
        mine = lists.filter(user=query)
        columns = [places[key] for key in mine["song"]]
        np.testing.assert_allclose(mine["score"], expected[row, columns], atol=1e-5)
        unknown = [c for c, s in zip(columns, mine["score"], strict=True) if s == 0]
        unseen = [c for c in range(matrix.shape[1]) if x[row, c] == 0 and expected[row, c] == 0]
        assert unknown == unseen[: len(unknown)]


def test_ease_says_what_it_needs_and_what_to_do_instead():
    frame = table([(0, 0), (0, 1), (1, 2)])
    with pytest.raises(ConfigError, match="enough for 2 candidates.*got 3 candidates.*use ItemKNN.*memory_limit"):
        EASE(memory_limit=53).fit(frame)
    assert EASE(memory_limit=54).fit(frame).is_fitted
    large = pl.DataFrame({"user": 0, "song": np.arange(60_000)})
    with pytest.raises(ConfigError, match=r"60,000 candidates, which need 21.6 GB"):
        EASE().fit(large)


def test_ease_of_several_strips_solves_its_normal_equations():
    draw = np.random.default_rng(1)
    frame = pl.DataFrame({"user": draw.integers(0, 300, 9000), "song": draw.integers(0, 1100, 9000)})
    matrix = InteractionMatrix.build(frame)
    x = rectangle(matrix.histories(torch.arange(matrix.shape[0])), matrix)
    assert matrix.shape[1] > 1024
    gram = x.T @ x + 3.0 * np.eye(x.shape[1])
    inverse = np.linalg.inv(gram)
    weights = inverse / -inverse.diagonal()
    np.fill_diagonal(weights, 0)
    lists = EASE(l2=3.0).fit(frame).recommend_many(pl.DataFrame({"user": matrix.queries[:5]}), 1100)
    rows, columns = ({key: i for i, key in enumerate(keys)} for keys in (matrix.queries, matrix.candidates))
    expected = [(x[rows[q]] @ weights)[columns[c]] for q, c in lists.select("user", "song").rows()]
    np.testing.assert_allclose(lists["score"], expected, atol=1e-5)


def test_what_a_failed_fit_was_given_does_not_count():
    baseline = EASE(memory_limit=100).fit(table([(0, 0), (1, 1)]))
    with pytest.raises(ConfigError):
        baseline.fit(table([(0, c) for c in range(7)]))
    assert baseline.recommend_many(pl.DataFrame({"user": ["u0"]}))["song"].to_list() == ["s1"]


def test_unknown_queries_get_the_popular_list():
    frame = table([(0, 1), (1, 1), (2, 2), (3, 2), (4, 2), (5, 3)])
    for baseline in BASELINES:
        lists = baseline.fit(frame).recommend_many(pl.DataFrame({"user": ["stranger"]}), k=2)
        assert lists["song"].to_list() == ["s2", "s1"]


def test_order_of_arguments_matters():
    frame = pl.DataFrame({"user": ["a", "b", "c"], "song": ["x", "x", "y"]})
    forward = Popularity().fit(frame).recommend_many(pl.DataFrame({"user": ["new"]}), 1)
    backward = Popularity().fit(frame, query="song", candidate="user").recommend_many(pl.DataFrame({"song": ["x"]}), 1)
    assert forward["song"].to_list() == ["x"]
    assert backward["user"].to_list() == ["c"]


def test_bad_input_is_refused():
    frame = table([(0, 0)])
    with pytest.raises(NotFittedError, match="Popularity"):
        Popularity().recommend_many(pl.DataFrame({"user": ["u0"]}))
    with pytest.raises(ConfigError, match="k >= 1"):
        Popularity().fit(frame).recommend_many(pl.DataFrame({"user": ["u0"]}), k=0)
    with pytest.raises(DataError, match="'user'"):
        Popularity().fit(frame).recommend_many(pl.DataFrame({"usr": ["u0"]}))
    with pytest.raises(DataError, match="'song'.*row 1"):
        Popularity().fit(pl.DataFrame({"user": ["a", "b"], "song": ["x", None]}))
    with pytest.raises(ConfigError, match="l2"):
        EASE(l2=0.0)
    with pytest.raises(ConfigError, match="ItemKNN"):
        ItemKNN(num_neighbors=0)
    with pytest.raises(ConfigError, match="two different"):
        Popularity().fit(frame, query="song")
    with pytest.raises(ConfigError, match="candidate column"):
        Popularity().fit(frame.select("user"))


def test_no_queries_give_no_rows():
    lists = Popularity().fit(table([(0, 0)])).recommend_many(pl.DataFrame({"user": []}, schema={"user": pl.String}))
    assert lists.columns == ["user", "song", "rank", "score"]
    assert lists.is_empty()


def test_recent_interactions_weigh_more_with_a_decay():
    pairs = [(0, 1), (0, 2), (0, 1), (1, 1), (1, 3), (2, 2), (2, 4)]
    frame = table(pairs).with_columns(time=pl.Series([3, 2, 1, 0, 0, 0, 0]))
    matrix = InteractionMatrix.build(frame, time="time")
    columns = {key: i for i, key in enumerate(matrix.candidates.to_list())}
    history = rectangle(matrix.histories(matrix.rows(pl.Series(["u0", "nobody"])), decay=0.5), matrix)
    np.testing.assert_allclose(history[0, columns["s1"]], 1.0)
    np.testing.assert_allclose(history[0, columns["s2"]], np.exp(-0.5), rtol=1e-6)
    assert np.count_nonzero(history) == 2
    near, far = (EASE(l2=1.0, decay=d).fit(frame, time="time") for d in (5.0, 0.0))
    assert near.recommend_many(pl.DataFrame({"user": ["u0"]}), k=1)["song"].to_list() == ["s3"]
    scores = far.recommend_many(pl.DataFrame({"user": ["u0"]}), k=2)["score"]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    with pytest.raises(ConfigError, match="time="):
        EASE(decay=0.1).fit(frame)
    with pytest.raises(DataError, match="'tme'"):
        EASE(decay=0.1).fit(frame, time="tme")


@pytest.mark.parametrize("kind", [pl.Int64, pl.Int32, pl.UInt64, pl.String, pl.Categorical])
def test_keys_keep_their_dtype_and_meet_in_any_width(kind):
    frame = pl.DataFrame({"user": [1, 1, 2, 3], "song": [10, 11, 10, 12]}).cast(pl.String).cast(kind)
    baseline = Popularity().fit(frame)
    wide = frame.cast(pl.Int64 if kind.is_integer() else pl.String)
    lists = baseline.recommend_many(wide.select("user").unique(maintain_order=True), k=3)
    assert lists.schema["song"] == frame.schema["song"]
    assert lists["song"].cast(pl.String).to_list() == ["12", "11", "12", "10", "11"]
    assert lists["user"].cast(pl.String).to_list() == ["1", "2", "2", "3", "3"]
    matrix = InteractionMatrix.build(frame)
    assert matrix.queries.dtype == frame.schema["user"]
    assert matrix.rows(wide["user"]).tolist() == [0, 0, 1, 2]


def test_keys_of_another_type_are_refused():
    fitted = EASE().fit(pl.DataFrame({"user": [1, 2], "song": [10, 11]}))
    with pytest.raises(DataError, match="column 'user'.*integer keys.*string keys"):
        fitted.recommend_many(pl.DataFrame({"user": ["1"]}))
    with pytest.raises(DataError, match="column 'song'"):
        Popularity().fit(pl.DataFrame({"user": [1], "song": [0.5]}))
    with pytest.raises(DataError, match=r"2\*\*63"):
        Popularity().fit(pl.DataFrame({"user": [2**63], "song": [1]}, schema={"user": pl.UInt64, "song": pl.Int64}))


@settings(max_examples=30)
@given(pairs=interactions, shuffled=st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(pairs, shuffled):
    other = list(pairs)
    shuffled.shuffle(other)
    for baseline in BASELINES:
        asked = pl.DataFrame({"user": [f"u{q}" for q in range(6)]})
        lists = [baseline.fit(table(some)).recommend_many(asked, k=7) for some in (pairs, other)]
        assert lists[0].equals(lists[1])


@settings(max_examples=100)
@given(
    lists=st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=4),
    decay=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_histories_weigh_what_came_last(lists, decay):
    found = weighted_histories(Jagged.from_lists(lists), 5, decay)
    assert len(found) == len(lists)
    for row, given_list in zip(range(len(lists)), lists, strict=True):
        latest = list(dict.fromkeys(reversed(given_list)))  # the latest first, each once
        expected = {column: np.exp(-decay * later) for later, column in enumerate(latest)}
        assert found[row : row + 1].values.tolist() == sorted(expected)
        weights = found[row : row + 1].weights
        np.testing.assert_allclose(weights, [expected[column] for column in sorted(expected)], rtol=1e-6)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: type(b).__name__)
def test_what_was_learned_can_be_taken_elsewhere(baseline):
    fitted = baseline.fit(table([(0, 0), (0, 1), (1, 1), (1, 2), (2, 0)]))
    again = type(baseline)(**baseline.config).with_learned(fitted.query, fitted.candidates, fitted.learned())
    histories = Jagged(torch.tensor([0, 2]), torch.tensor([0, 1, 2]), torch.tensor([1.0, 0.5]))
    expected, found = fitted.score(histories), again.score(histories)
    assert found is expected is None or torch.equal(found, expected)
    assert again.is_fitted
    assert (again.query, again.candidates.to_list()) == ("user", fitted.candidates.to_list())
    with pytest.raises(NotFittedError, match="Recommender"):
        again.recommend_many(pl.DataFrame({"user": ["u0"]}))
    for damaged in ({**fitted.learned(), "more": torch.zeros(1)}, {}, *broken(fitted.learned())):
        if damaged or fitted.learned():
            with pytest.raises((DataError, ShapeError)):
                again.with_learned(fitted.query, fitted.candidates, damaged)
    with pytest.raises(NotFittedError, match="fit"):
        type(baseline)().candidates  # noqa: B018


def broken(learned):
    for name, tensor in learned.items():
        yield {**learned, name: tensor[:-1]}
        yield {**learned, name: tensor.double()}
        if tensor.is_floating_point():
            yield {**learned, name: torch.full_like(tensor, torch.nan)}
        else:
            yield {**learned, name: tensor + 3}
            yield {**learned, name: tensor - 3}
