import copy
import math

import numpy as np
import pytest
import torch
from tests.golden import golden

import retrank as rr
from retrank.core.errors import ConfigError, RetrankWarning, ShapeError
from retrank.core.jagged import Jagged
from retrank.metrics import BatchTopK, FullCorpusTopK, LossMean
from retrank.tasks import Retrieval

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def run(case, dtype, **more):
    inputs, arguments = case["inputs"], case["arguments"]["constructor"]
    probability = inputs.get("candidate_sampling_probability")
    _, ids = np.unique(inputs.get("candidate_ids", [0]), return_inverse=True)
    task = Retrieval(
        temperature=arguments["temperature"] or 1.0,
        remove_accidental_hits=arguments["remove_accidental_hits"],
        log_q=probability is not None,
        num_hard_negatives=arguments["num_hard_negatives"],
        reduction="sum" if arguments["loss"] is None else "mean",  # TFRS sums by default
        **more,
    )
    queries = torch.tensor(inputs["query_embeddings"], dtype=dtype, requires_grad=True)
    candidates = torch.tensor(inputs["candidate_embeddings"], dtype=dtype, requires_grad=True)
    loss = task(
        queries,
        candidates,
        candidate_ids=torch.from_numpy(ids) if "candidate_ids" in inputs else None,
        log_q=None if probability is None else torch.tensor(probability, dtype=dtype).clamp(1e-6, 1).log(),
        weight=torch.tensor(inputs["sample_weight"], dtype=dtype) if "sample_weight" in inputs else None,
        score_mask=torch.tensor(inputs["score_mask"]) if "score_mask" in inputs else None,
    )
    loss.backward()
    return loss.detach(), queries.grad, candidates.grad, task


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@golden("tfrs_retrieval_task", without=("hard_negatives_0",))
def test_loss_and_gradients_agree_with_tfrs(case, dtype):
    loss, query_gradient, candidate_gradient, _ = run(case, dtype)
    expected = case["expected"]
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(query_gradient, expected["grad_query_embeddings"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(candidate_gradient, expected["grad_candidate_embeddings"], rtol=1e-4, atol=1e-5)


@golden("tfrs_retrieval_task", "hard_negatives_0")
def test_no_hard_negatives_is_refused_and_none_keeps_all_as_tfrs_documents(case):
    with pytest.raises(ConfigError, match="num_hard_negatives"):
        run(case, torch.float32)
    case = copy.deepcopy(case)
    case["arguments"]["constructor"]["num_hard_negatives"] = None
    loss, query_gradient, _, _ = run(case, torch.float32)
    np.testing.assert_allclose(loss, case["expected"]["as_documented"]["loss"], rtol=1e-4)
    expected = case["expected"]["as_documented"]["grad_query_embeddings"]
    np.testing.assert_allclose(query_gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [None, torch.nn.CrossEntropyLoss()])
@golden("tfrs_retrieval_task", "batch_and_loss_metrics")
def test_batch_and_loss_metrics_agree_with_tfrs(case, loss):
    ks = [metric["k"] for metric in case["arguments"]["constructor"]["batch_metrics"]]
    value, _, _, task = run(
        case, torch.float32, loss=loss, batch_metrics=[BatchTopK(ks=ks)], loss_metrics=[LossMean("mean_loss")]
    )
    results = task.results()
    found = [results[f"batch_hit_rate@{k}"].item() for k in ks]
    assert found == pytest.approx(case["expected"]["batch_metrics"], rel=1e-5)
    assert results["mean_loss"].item() == pytest.approx(case["expected"]["loss_metrics"][0], rel=1e-5)
    assert value.item() == pytest.approx(case["expected"]["loss"], rel=1e-5)


def test_positives_choose_the_columns():
    torch.manual_seed(0)
    queries, candidates, positives = torch.randn(5, 3), torch.randn(4, 3), torch.tensor([3, 0, 0, 2, 3])
    scores = queries @ candidates.T
    expected = -(scores.log_softmax(1)[torch.arange(5), positives]).mean()
    assert torch.allclose(Retrieval()(queries, candidates, positives=positives), expected)
    ids = torch.tensor([7, 8, 9, 7])
    scores[0, 0] = scores[4, 0] = scores[1, 3] = scores[2, 3] = -torch.inf
    expected = -(scores.log_softmax(1)[torch.arange(5), positives]).mean()
    task = Retrieval(remove_accidental_hits=True)
    assert torch.allclose(task(queries, candidates, positives=positives, candidate_ids=ids), expected)


def test_the_loss_of_a_batch_is_the_mean_of_its_rows():
    torch.manual_seed(0)
    queries, candidates = torch.randn(6, 3), torch.randn(6, 3)
    rows = [Retrieval()(queries[i : i + 1], candidates, positives=torch.tensor([i])) for i in range(6)]
    assert torch.allclose(Retrieval()(queries, candidates), torch.stack(rows).mean())


def test_small_batches():
    assert Retrieval()(torch.ones(1, 2), torch.ones(1, 2)) == 0
    assert Retrieval(num_hard_negatives=3)(torch.ones(1, 2), torch.ones(1, 2)) == 0
    assert Retrieval()(torch.ones(0, 2), torch.ones(3, 2)) == 0
    assert Retrieval()(torch.ones(4, 2), torch.ones(4, 2)).item() == pytest.approx(math.log(4))


def test_nan_stays_nan():
    queries = torch.ones(3, 2)
    queries[1, 0] = torch.nan
    assert Retrieval()(queries, torch.ones(3, 2)).isnan()


def test_half_precision_scores_are_corrected_in_float32():
    torch.manual_seed(0)
    queries, candidates = torch.randn(8, 4).bfloat16(), torch.randn(8, 4).bfloat16()
    log_q = torch.linspace(-0.001, 0.001, 8) - 8.0  # differences that bfloat16 cannot tell apart at this size
    task = Retrieval(log_q=True)
    loss = task(queries, candidates, log_q=log_q)
    scores = (queries @ candidates.T).float() - log_q
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, -scores.log_softmax(1).diagonal().mean(), rtol=1e-6)


def test_half_precision_scores_are_divided_and_normalised_in_float32():
    torch.manual_seed(0)
    queries, candidates = torch.randn(8, 4).bfloat16(), torch.randn(8, 4).bfloat16()
    loss = Retrieval(temperature=0.3)(queries, candidates)
    assert loss.dtype == torch.float32
    scores = (queries @ candidates.T).float() / 0.3
    assert torch.allclose(loss, -scores.log_softmax(1).diagonal().mean(), rtol=1e-6)


def test_what_is_needed_must_be_given_and_what_is_ignored_is_said():
    embeddings = torch.ones(2, 2)
    with pytest.raises(ConfigError, match="candidate_ids"):
        Retrieval(remove_accidental_hits=True)(embeddings, embeddings)
    with pytest.raises(ConfigError, match="log_q"):
        Retrieval(log_q=True)(embeddings, embeddings)
    with pytest.warns(RetrankWarning, match="log_q is ignored"):
        Retrieval()(embeddings, embeddings, log_q=torch.zeros(2))
    Retrieval()(embeddings, embeddings, candidate_ids=torch.zeros(2, dtype=torch.int64))


def test_bad_arguments():
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="temperature"):
            Retrieval(temperature=temperature)
    with pytest.raises(ConfigError, match="distinct names"):
        Retrieval(metrics=[FullCorpusTopK(), FullCorpusTopK()])
    with pytest.raises(ShapeError, match="at least one candidate per query, 3"):
        Retrieval()(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(ShapeError, match="same dim"):
        Retrieval()(torch.ones(3, 2), torch.ones(3, 4))
    with pytest.raises(ShapeError, match="weight"):
        Retrieval()(torch.ones(3, 2), torch.ones(3, 2), weight=torch.ones(3, 2))


def test_metrics_are_fed_reported_and_reset():
    task = Retrieval(metrics=[FullCorpusTopK(ks=(1,)), FullCorpusTopK(ks=(2,), metrics=["hit_rate"], name="second")])
    assert task.results() == {}
    queries, candidates = torch.tensor([[1.0], [1.0]], requires_grad=True), torch.tensor([[3.0], [2.0], [1.0]])
    exclude, weight = Jagged.from_lists([[0], []]), torch.tensor([3.0, 1.0])
    task.update_metrics(queries, candidates, torch.tensor([1, 2]), exclude=exclude, weight=weight)
    expected = {"hit_rate@1": 0.75, "ndcg@1": 0.75, "mrr": (3 + 1 / 3) / 4, "hit_rate@2": 0.75}
    assert {name: value.item() for name, value in task.results().items()} == pytest.approx(expected)
    other = Retrieval(metrics=[FullCorpusTopK(ks=(1,)), FullCorpusTopK(ks=(2,), metrics=["hit_rate"], name="second")])
    other.load_metrics_state_dict(task.metrics_state_dict())
    assert other.results() == task.results()
    with pytest.raises(ConfigError, match="second"):
        Retrieval(metrics=[FullCorpusTopK(name="second")]).load_metrics_state_dict({})
    task.reset()
    assert task.results() == {}


def test_is_rebuilt_from_json():
    task = Retrieval(
        temperature=0.3,
        remove_accidental_hits=True,
        log_q=True,
        num_hard_negatives=4,
        metrics=[FullCorpusTopK(ks=(3,))],
    )
    again = rr.core.from_config(rr.core.to_config(task))
    assert again.config == task.config
    assert (again.temperature, again.num_hard_negatives, again.metrics[0].ks) == (0.3, 4, (3,))
