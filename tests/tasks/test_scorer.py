import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.golden import golden

import retrank as rr
from retrank import losses, sampling
from retrank.core.errors import ConfigError, DataError, ShapeError
from retrank.sampling import Negatives, Sampler
from retrank.tasks import RetrievalScorer, rescore_false_negatives

RESCORED = tuple(f"rescore_false_negatives_{number}" for number in range(3))
SPECIAL = 2  # padding and unknown come before the ids of the golden cases
FLOAT16_MIN = -65504.0


class Given(Sampler):
    """Returns the negatives it was built with."""

    def __init__(self, ids, embeddings):
        super().__init__()
        self.ids, self.embeddings = ids, embeddings

    def draw(self, positives):
        return Negatives(self.ids, self.embeddings)


def scorer_of(case, dtype=torch.float32):
    given, inputs = case["arguments"]["constructor"], case["inputs"]
    value = given["sampling_downscore_false_negatives_value"]
    extra = [
        Given(torch.tensor(one["item_id"]) + SPECIAL, torch.tensor(one["embeddings"], dtype=dtype))
        for one in inputs.get("extra_negatives", [])
    ]
    return RetrievalScorer(
        [sampling.InBatch() if name == "in-batch" else extra.pop(0) for name in given["samplers"]],
        downscore_false_negatives=given["sampling_downscore_false_negatives"],
        false_negative_score=FLOAT16_MIN / 100 if value is None else value,
        store_negative_ids=given["store_negative_ids"],
        sampled_softmax=given["sampled_softmax_mode"],
        candidate_id=given["item_id_feature_name"],
        query_name=given["query_name"],
        candidate_name=given["item_name"],
    )


def table_of(weight, dtype=torch.float32):
    table = rr.EmbeddingTable(len(weight) + SPECIAL, dim=len(weight[0])).to(dtype)
    table.weight.data[SPECIAL:] = torch.tensor(weight, dtype=dtype)
    return table


def run(case, dtype=torch.float32):
    inputs, call = case["inputs"], case["arguments"]["call"]
    tensors = {name: torch.tensor(inputs[name], dtype=dtype) for name in ("query", "item") if name in inputs}
    ids = inputs.get("item_id", inputs.get("targets"))
    return scorer_of(case, dtype)(
        tensors,
        features={"item_id": torch.tensor(ids) + SPECIAL},
        table=table_of(inputs["item_embedding_table"], dtype) if "item_embedding_table" in inputs else None,
        **call,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@golden("merlin_item_retrieval_scorer", without=("inference", "sampled_softmax_inference", *RESCORED))
def test_scores_agree_with_merlin(case, dtype):
    output, expected = run(case, dtype), case["expected"]
    np.testing.assert_allclose(output.scores.detach(), expected["predictions"], rtol=1e-5, atol=1e-6)
    assert output.scores.dtype == dtype
    np.testing.assert_array_equal(output.targets, expected["targets"])
    np.testing.assert_array_equal(output.positive_ids - SPECIAL, expected["positive_item_ids"])
    if expected["negative_item_ids"] is None:
        assert output.negative_ids is None
    else:
        np.testing.assert_array_equal(output.negative_ids - SPECIAL, expected["negative_item_ids"])
    valid = expected["valid_negatives_mask"]  # none in the source where all are valid
    np.testing.assert_array_equal(output.valid_negatives, output.scores[:, 1:] > -torch.inf if valid is None else valid)


@golden("merlin_item_retrieval_scorer", "inference")
def test_inference_scores_the_positive_alone(case):
    output = run(case)
    np.testing.assert_allclose(output.scores, case["expected"]["predictions"], rtol=1e-5, atol=1e-6)
    assert output[1:] == (None, None, None, None)


@golden("merlin_item_retrieval_scorer", "sampled_softmax_inference")
def test_inference_of_sampled_softmax_scores_all_ids(case):
    output, expected = run(case), case["expected"]["predictions"]
    np.testing.assert_allclose(output.scores[:, SPECIAL:].detach(), expected, rtol=1e-5, atol=1e-6)
    assert (output.scores[:, :SPECIAL] == -torch.inf).all()  # nobody is recommended padding


@golden("merlin_item_retrieval_scorer", *RESCORED)
def test_rescoring_agrees_with_merlin(case):
    inputs = case["inputs"]
    scores, valid = rescore_false_negatives(
        torch.tensor(inputs["negative_scores"]),
        torch.tensor(inputs["positive_item_ids"]),
        torch.tensor(inputs["neg_samples_item_ids"]),
        case["arguments"]["call"]["false_negatives_score"],
    )
    np.testing.assert_allclose(scores, case["expected"]["negative_scores"])
    np.testing.assert_array_equal(valid, case["expected"]["valid_negatives_mask"])


def batch_of(size=6, dim=4, seed=0, first=2):
    torch.manual_seed(seed)
    inputs = {"query": torch.randn(size, dim), "candidate": torch.randn(size, dim, requires_grad=True)}
    return inputs, torch.arange(first, first + size)


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=6),
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
    st.booleans(),
    st.sampled_from([None, -7.0]),
)
def test_every_entry_by_hand(ids, drawn, downscore, value):
    generator = np.random.default_rng(len(ids) * 31 + len(drawn))
    queries, candidates = generator.normal(size=(len(ids), 3)), generator.normal(size=(len(ids), 3))
    others = generator.normal(size=(len(drawn), 3))
    extra = Given(torch.tensor(drawn, dtype=torch.int64), torch.from_numpy(others))
    scorer = RetrievalScorer(
        [sampling.InBatch(), extra], downscore_false_negatives=downscore, false_negative_score=value, temperature=0.5
    )
    output = scorer(
        {"query": torch.from_numpy(queries), "candidate": torch.from_numpy(candidates)},
        candidate_ids=torch.tensor(ids, dtype=torch.int64),
        training=True,
    )
    assert output.scores.shape == output.targets.shape == (len(ids), 1 + len(ids) + len(drawn))
    for row, own in enumerate(ids):
        assert output.scores[row, 0].item() == pytest.approx(2 * queries[row] @ candidates[row])
        for column, (other, vector) in enumerate(zip(ids + drawn, [*candidates, *others], strict=True)):
            valid = other >= SPECIAL and not (downscore and other == own)
            assert output.valid_negatives[row, column].item() == valid
            expected = 2 * queries[row] @ vector if valid else (-np.inf if value is None else value)
            assert output.scores[row, 1 + column].item() == pytest.approx(expected)


def test_the_diagonal_of_a_batch_is_downscored_and_nothing_else():
    inputs, ids = batch_of(10)
    scorer = RetrievalScorer([sampling.InBatch()], false_negative_score=-1e8)
    output = scorer(inputs, candidate_ids=ids, training=True)
    assert output.scores.shape == (10, 11)
    assert torch.equal(output.scores[:, 1:] == -1e8, torch.eye(10, dtype=torch.bool))
    assert torch.equal(output.valid_negatives, ~torch.eye(10, dtype=torch.bool))


def test_a_batch_of_one_row_scores_as_any_other():
    # Merlin squeezes, so that a batch of one row cannot be put together.
    inputs, ids = batch_of(1)
    output = RetrievalScorer([sampling.InBatch()])(inputs, candidate_ids=ids, training=True)
    assert output.scores.shape == (1, 2)
    assert losses.cross_entropy(output.scores, output.valid_negatives) == 0
    movies = rr.EmbeddingTable(9, dim=4)
    scorer = RetrievalScorer([sampling.Uniform(3)], sampled_softmax=True)
    assert scorer(inputs["query"], candidate_ids=ids, table=movies, training=True).scores.shape == (1, 4)


def test_false_negatives_are_out_of_every_loss_by_default():
    inputs, _ = batch_of(4)
    output = RetrievalScorer([sampling.InBatch()])(inputs, candidate_ids=torch.tensor([2, 3, 2, 3]), training=True)
    probability = output.scores.softmax(dim=1)
    assert (probability[:, 1:][~output.valid_negatives] == 0).all()
    for loss in (losses.cross_entropy, losses.bpr, losses.bpr_max, losses.top1_max, losses.hinge):
        inputs["candidate"].grad = None
        loss(output.scores, output.valid_negatives).backward(retain_graph=True)
        assert inputs["candidate"].grad.isfinite().all()


def test_padding_and_unknown_in_the_batch_are_no_negatives():
    inputs, _ = batch_of(4)
    for downscore in (False, True):
        scorer = RetrievalScorer([sampling.InBatch()], downscore_false_negatives=downscore)
        output = scorer(inputs, candidate_ids=torch.tensor([0, 1, 2, 3]), training=True)
        assert not output.valid_negatives[:, :SPECIAL].any()
        assert (output.scores[:, 1 : 1 + SPECIAL] == -torch.inf).all()
        assert output.scores[:, 0].isfinite().all()


def test_the_temperature_divides_and_does_so_before_the_correction():
    # In Merlin the first scorer ignores it, and the second divides the correction as well.
    inputs, ids = batch_of(3)
    counts = [7, 2, 1]
    raw = inputs["query"] @ inputs["candidate"].T
    own = raw.diagonal()[:, None]
    log_q = torch.tensor([3 * count / 10 for count in counts]).log()
    scorer = RetrievalScorer(
        [sampling.InBatch(counts=counts)], temperature=0.25, log_q=True, downscore_false_negatives=False
    )
    output = scorer(inputs, candidate_ids=ids, training=True)
    expected = torch.cat([own / 0.25 - log_q[:, None], raw / 0.25 - log_q], dim=1)
    assert torch.allclose(output.scores, expected, rtol=1e-5)
    assert torch.allclose(scorer(inputs).scores, own)


def test_the_sampled_softmax_estimates_the_full_one():
    # With log_q the sum over samples is, on average, the sum over all candidates.
    torch.manual_seed(0)
    movies, counts = rr.EmbeddingTable(52, dim=4, scale=1.0), list(range(50, 0, -1))
    query, ids = torch.randn(1, 4), torch.tensor([6])
    full = (query @ movies.weight[SPECIAL:].T).exp()[0]
    total = full.sum() - full[6 - SPECIAL]
    for sampler in (
        sampling.Popularity(10, counts=counts),
        sampling.Popularity(10, counts=counts, unique=False),
        sampling.Popularity(10),
        sampling.Uniform(10),
        sampling.Mixed([sampling.Popularity(5, counts=counts), sampling.Uniform(5, unique=False)]),
    ):
        scorer = RetrievalScorer([sampler], sampled_softmax=True, log_q=True)
        with torch.no_grad():
            sums = [
                scorer(query, candidate_ids=ids, table=movies, testing=True).scores[0, 1:].exp().sum()
                for _ in range(800)
            ]
        sums = torch.stack(sums)
        error = sums.std() / len(sums) ** 0.5
        assert abs(sums.mean() - total) < 4 * error + 1e-3, sampler


def test_testing_scores_as_training_does_but_remembers_nothing():
    inputs, ids = batch_of(5)
    queue = sampling.CrossBatch(capacity=8)
    scorer = RetrievalScorer([sampling.InBatch(), queue])
    for _ in range(3):
        assert scorer(inputs, candidate_ids=ids, testing=True).scores.shape == (5, 6)
    assert len(queue) == 0
    assert scorer(inputs, candidate_ids=ids, training=True).scores.shape == (5, 6)
    assert scorer(inputs, candidate_ids=ids + 5, training=True).scores.shape == (5, 11)
    assert scorer(inputs, candidate_ids=ids, testing=True).scores.shape == (5, 14)
    assert len(queue) == 8
    scorer(inputs)
    assert len(queue) == 8


def test_testing_of_sampled_softmax_has_the_positive_in_column_0():
    # Merlin spreads raw ids over the sampled columns.
    movies, query = rr.EmbeddingTable(40, dim=4, scale=1.0), torch.randn(3, 4)
    ids = torch.tensor([39, 2, 17])
    scorer = RetrievalScorer([sampling.Uniform(5)], sampled_softmax=True)
    output = scorer(query, candidate_ids=ids, table=movies, testing=True)
    assert output.scores.shape == output.targets.shape == (3, 6)
    assert torch.equal(output.targets, torch.tensor([[1.0, 0, 0, 0, 0, 0]] * 3))
    assert torch.allclose(output.scores[:, 0], (query * movies(ids)).sum(1))


def test_widths_of_several_samplers():
    inputs, ids = batch_of(50)
    movies = rr.EmbeddingTable(200, dim=4)
    for samplers, width in [
        ([sampling.InBatch()], 51),
        ([sampling.Popularity(20)], 21),
        ([sampling.InBatch(), sampling.Popularity(20)], 71),
    ]:
        output = RetrievalScorer(samplers, store_negative_ids=True)(
            inputs, candidate_ids=ids, table=movies, training=True
        )
        assert output.scores.shape == (50, width)
        assert output.negative_ids.shape == (width - 1,)
        assert (output.negative_ids >= SPECIAL).all()


def test_gradients_reach_queries_candidates_and_the_table_sparsely():
    inputs, ids = batch_of(5)
    inputs["query"].requires_grad_()
    movies = rr.EmbeddingTable(100, dim=4)
    scorer = RetrievalScorer([sampling.InBatch(), sampling.Uniform(10)], store_negative_ids=True)
    output = scorer(inputs, candidate_ids=ids, table=movies, training=True)
    losses.cross_entropy(output.scores, output.valid_negatives).backward()
    assert (inputs["query"].grad != 0).any(dim=1).all()
    assert (inputs["candidate"].grad != 0).any(dim=1).all()
    assert movies.weight.grad.is_sparse
    touched = set(movies.weight.grad.coalesce().indices()[0].tolist())
    assert touched <= set(output.negative_ids[5:].tolist())


def test_half_precision_is_scored_in_float32():
    inputs, ids = batch_of(4)
    halves = {name: value.detach().bfloat16() for name, value in inputs.items()}
    scorer = RetrievalScorer([sampling.InBatch(), sampling.CrossBatch(4)], temperature=0.3)
    for _ in range(2):
        output = scorer(halves, candidate_ids=ids, training=True)
    assert output.scores.dtype == output.targets.dtype == torch.float32
    assert scorer(halves).scores.dtype == torch.float32


def test_queries_are_cached_on_request():
    inputs, ids = batch_of(5)
    inputs["query"].requires_grad_()
    scorer = RetrievalScorer([sampling.InBatch()], cache_queries=True)
    scorer(inputs, candidate_ids=ids, training=True)
    assert torch.equal(scorer.cached_queries, inputs["query"])
    assert not scorer.cached_queries.requires_grad
    scorer({name: value[:2] for name, value in inputs.items()})
    assert scorer.cached_queries.shape == (2, 4)  # neither padded nor cut to the size of the first batch
    without = RetrievalScorer([sampling.InBatch()])
    without(inputs, candidate_ids=ids, training=True)
    with pytest.raises(ConfigError, match="cache_queries=True"):
        _ = without.cached_queries


def test_ids_come_from_the_features_by_name():
    inputs, ids = batch_of(3)
    scorer = RetrievalScorer([sampling.InBatch()], candidate_id="movie_id", query_name="user", candidate_name="movie")
    inputs = {"user": inputs["query"], "movie": inputs["candidate"]}
    for features in ({"movie_id": ids}, rr.Batch({"movie_id": ids})):
        assert torch.equal(scorer(inputs, features=features, training=True).positive_ids, ids)
    explicit = scorer(inputs, features={"movie_id": ids}, candidate_ids=ids + 1, training=True)
    assert torch.equal(explicit.positive_ids, ids + 1)
    for features in ({"user_id": ids}, {"movie_id": rr.Jagged.from_lists([[2], [3], [4]])}, None):
        with pytest.raises(ConfigError, match="movie_id"):
            scorer(inputs, features=features, training=True)


def test_every_argument_survives_the_round_trip_through_json():
    arguments = {
        "downscore_false_negatives": False,
        "false_negative_score": -655.04,
        "sampled_softmax": True,
        "store_negative_ids": True,
        "cache_queries": True,
        "candidate_id": "movie_id",
        "query_name": "user",
        "candidate_name": "movie",
        "temperature": 0.2,
        "log_q": True,
    }
    samplers = [
        sampling.InBatch(counts=np.array([3, 2, 1])),
        sampling.CrossBatch(capacity=5, dim=4, counts=torch.tensor([3, 2, 1])),
        sampling.Popularity(2, counts=[3, 2, 1], unique=False),
        sampling.Uniform(1, num_ids=5, unique=False),
    ]
    scorer = RetrievalScorer(samplers, **arguments)
    config = json.loads(json.dumps(rr.core.to_config(scorer), allow_nan=False))
    again = rr.core.from_config(config)
    assert rr.core.to_config(again) == config
    for name, value in arguments.items():
        assert getattr(again, name) == value
    assert [type(one) for one in again.sampler.samplers] == [type(one) for one in samplers]
    assert again.sampler.samplers[2].unique is False
    json.dumps(rr.core.to_config(RetrievalScorer([sampling.InBatch()])), allow_nan=False)


def test_saved_negatives_continue_where_they_stopped():
    inputs, ids = batch_of(4)
    scorer = RetrievalScorer([sampling.CrossBatch(6)])
    for step in range(2):
        scorer(inputs, candidate_ids=ids + step, training=True)
    again = RetrievalScorer([sampling.CrossBatch(6)])
    again.load_state_dict(scorer.state_dict())
    first, second = (one(inputs, candidate_ids=ids, testing=True) for one in (scorer, again))
    assert torch.equal(first.scores, second.scores)
    assert first.scores.shape == (4, 7)


def test_samplers_are_needed_for_training_only():
    inputs, ids = batch_of(3)
    scorer = RetrievalScorer()
    assert scorer(inputs).scores.shape == (3, 1)
    for mode in ("training", "testing"):
        with pytest.raises(ConfigError, match="at least one sampler"):
            scorer(inputs, candidate_ids=ids, **{mode: True})


def test_bad_arguments():
    for arguments, message in [
        ({"temperature": 0.0}, "above 0, got temperature=0.0"),
        ({"temperature": float("nan")}, "above 0, got temperature=nan"),
        ({"false_negative_score": -np.inf}, "None stands for -inf"),
        ({"query_name": "candidate"}, "two names"),
        ({"samplers": sampling.InBatch()}, "a list of samplers"),
        ({"samplers": ["in-batch"]}, "a list of samplers"),
    ]:
        with pytest.raises(ConfigError, match=message):
            RetrievalScorer(**arguments)


def test_bad_calls():
    inputs, ids = batch_of(3)
    scorer = RetrievalScorer([sampling.InBatch()])
    with pytest.raises(ConfigError, match="candidate_ids"):
        scorer(inputs, training=True)
    with pytest.raises(ConfigError, match=r"inputs \['candidate', 'query'\], got \['query'\]"):
        scorer(inputs["query"])
    with pytest.raises(ShapeError, match="one candidate per query"):
        scorer({"query": inputs["query"], "candidate": inputs["candidate"][:1]})
    for wrong in (ids[:2], ids[:, None], ids.float()):
        with pytest.raises(ShapeError, match=r"int64 candidate_ids of shape \(3,\)"):
            scorer(inputs, candidate_ids=wrong, training=True)
    with pytest.raises(ConfigError, match="pass table"):
        RetrievalScorer([sampling.Uniform(2, num_ids=10)])(inputs, candidate_ids=ids, training=True)
    with pytest.raises(ShapeError, match="negatives of dim 5"):
        RetrievalScorer([sampling.Uniform(2)])(inputs, candidate_ids=ids, table=rr.EmbeddingTable(9, 5), training=True)
    with pytest.raises(ConfigError, match="counts"):
        RetrievalScorer([sampling.InBatch()], log_q=True)(inputs, candidate_ids=ids, training=True)
    softmax = RetrievalScorer([sampling.Uniform(2)], sampled_softmax=True)
    with pytest.raises(ConfigError, match="a table"):
        softmax(inputs["query"], candidate_ids=ids, training=True)
    with pytest.raises(ConfigError, match="takes queries alone"):
        softmax(inputs, table=rr.EmbeddingTable(9, 4))
    with pytest.raises(DataError, match=r"row 2: expected ids in \[0, 4\), got 4"):
        softmax(inputs["query"], candidate_ids=ids, table=rr.EmbeddingTable(4, 4), training=True)
    with pytest.raises(ShapeError, match="one column per negative"):
        rescore_false_negatives(torch.zeros(2, 2), ids, ids)


class Scored(rr.Model):
    def __init__(self):
        super().__init__()
        self.users, self.movies = rr.EmbeddingTable(12, dim=4), rr.EmbeddingTable(14, dim=4)
        samplers = [sampling.InBatch(), sampling.CrossBatch(capacity=40, dim=4), sampling.Popularity(5)]
        self.scorer = RetrievalScorer(samplers, candidate_id="movie_id")

    def compute_loss(self, batch, training=False):
        inputs = {"query": self.users(batch["user_id"]), "candidate": self.movies(batch["movie_id"])}
        output = self.scorer(inputs, features=batch, table=self.movies, training=training, testing=not training)
        return losses.cross_entropy(output.scores, output.valid_negatives)


def fit(epochs, checkpoint=None):
    torch.manual_seed(0)
    model, users = Scored(), torch.arange(2, 12).repeat(20)
    batches = rr.data.Loader(rr.Batch({"user_id": users, "movie_id": users + 1}), batch_size=16, shuffle=True)
    optimizer = rr.optim.Adagrad(lr=0.3)
    history = model.fit(
        batches, optimizer=optimizer, epochs=epochs, checkpoint=checkpoint, device="cpu", progress=False
    )
    return model, [row["loss"] for row in history.rows]


def test_a_model_learns_to_score_each_positive_above_all_others():
    model, history = fit(12)
    assert history[-1] < history[0]
    users = torch.arange(2, 12)
    with torch.no_grad():
        scores = model.users(users) @ model.movies.weight[SPECIAL:].T
    assert torch.equal(scores.argmax(dim=1) + SPECIAL, users + 1)


def test_a_resumed_run_goes_on_with_the_same_negatives(tmp_path):
    model, at_once = fit(4)
    fit(2, tmp_path / "run")
    resumed, in_two_parts = fit(4, tmp_path / "run")
    assert in_two_parts == at_once
    for name, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
