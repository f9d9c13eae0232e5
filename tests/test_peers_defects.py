"""Defects of other libraries that no package alone can rule out: each test fails if we had the defect of its name.

Those that belong to one package are tested there, with the other tests of that package.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import retrank as rr
from tests.models.worlds import movies, space, two_tower, views
from tests.training.worlds import line_batch

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROGRAMS = [*SOURCES, *sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


@cache
def nodes_of(path):
    return list(ast.walk(ast.parse(path.read_text())))


def nodes(paths, kind):
    """Yield the nodes of a kind, each with the place where it stands."""
    for path in paths:
        for node in nodes_of(path):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def called(node):
    return ast.unparse(node.func).split(".")[-1]


# What TensorFlow Recommenders does


@pytest.mark.parametrize(
    "build",
    [
        lambda metric: rr.tasks.Retrieval(metrics=metric),
        lambda metric: rr.tasks.Retrieval(batch_metrics=metric),
        lambda metric: rr.tasks.Retrieval(loss_metrics=metric),
        lambda metric: rr.tasks.Ranking(metrics=metric),
        lambda metric: rr.tasks.Ranking(loss_metrics=metric),
    ],
)
def test_a_metric_that_stands_in_no_list_is_not_dropped(build):
    with pytest.raises(rr.errors.ConfigError, match="a sequence of metrics, got a LossMean"):
        build(rr.metrics.LossMean())


@pytest.mark.parametrize("name", ["metrics", "batch_metrics", "loss_metrics"])
def test_metrics_assigned_to_a_built_task_are_not_dropped(name):
    task = rr.tasks.Retrieval()
    with pytest.raises(rr.errors.ConfigError, match=rf"Retrieval\.{name}.*pass {name}="):
        setattr(task, name, [rr.metrics.LossMean()])


@pytest.mark.parametrize("kind", ["exact", "streaming", "faiss"])
def test_no_score_is_high_enough_to_come_back_from_an_exclusion(kind):
    # There, an excluded candidate loses 100,000 points.
    embeddings = torch.tensor([[3e6], [2e6], [1.0], [0.5]])
    index = {
        "exact": lambda: rr.index.Exact(embeddings),
        "streaming": lambda: rr.index.Streaming(lambda: iter([(embeddings, None)])),
        "faiss": lambda: rr.index.Faiss(embeddings, factory="IVF1,Flat"),
    }[kind]()
    exclude = rr.Jagged.from_lists([[0, 1]])
    assert index.search_rows(torch.ones(1, 1), 2, exclude=exclude).rows.tolist() == [[2, 3]]


def test_what_is_removed_stays_removed_however_low_the_other_scores_are():
    # Merlin's -655 and the sums with -3.4e36 of others are numbers among numbers.
    scores = torch.tensor([[-9e37, 5.0, -9.1e37]])
    for removed in (
        rr.tasks.remove_accidental_hits(scores, torch.tensor([1, 1, 2]), torch.tensor([0])),
        rr.tasks.apply_score_mask(scores, torch.tensor([[True, False, True]])),
        rr.tasks.rescore_false_negatives(scores, torch.tensor([1]), torch.tensor([7, 1, 7]))[0],
    ):
        assert removed[0, 1] == -torch.inf
        assert removed[0, [0, 2]].tolist() == scores[0, [0, 2]].tolist()
        assert removed.softmax(1)[0].tolist() == [1, 0, 0]


def test_no_number_stands_for_minus_infinity():
    large = [
        place
        for place, node in nodes(SOURCES, ast.Constant)
        if isinstance(node.value, float) and 1e4 < abs(node.value) < float("inf")
    ]
    assert not large
    smallest = re.compile(r"\bfinfo\(.*\)\.min$")
    assert not [place for place, node in nodes(SOURCES, ast.Attribute) if smallest.search(ast.unparse(node))]


def test_every_squeeze_names_its_axis():
    # Without one, a batch of a single row loses its rows.
    bare = []
    for place, node in nodes(PROGRAMS, ast.Call):
        is_function = ast.unparse(node.func) in ("torch.squeeze", "np.squeeze")
        if called(node) == "squeeze" and len(node.args) + len(node.keywords) <= is_function:
            bare.append(place)
    assert not bare


def ranking_counter(model):
    counted, original = [], model.task.update_metrics
    model.task.update_metrics = lambda *args, **kwargs: counted.append(len(args[0])) or original(*args, **kwargs)
    return counted


def fitted_world():
    fitted = space()
    catalogue = fitted.catalogue(movies(), key="movie_id")
    task = rr.tasks.Retrieval(metrics=[rr.metrics.FullCorpusTopK(ks=(1, 3))])
    model = two_tower(fitted, task, catalogue=catalogue)
    return fitted, catalogue, model


def test_training_does_not_rank_the_corpus():
    fitted, _, model = fitted_world()
    counted = ranking_counter(model)
    loader = fitted.loader(views(64), batch_size=16)
    history = model.fit(loader, optimizer=rr.optim.Adagrad(), epochs=2, device="cpu", progress=False)
    assert counted == []
    assert not [name for name in history.rows[0] if "@" in name]
    model.evaluate(loader)
    assert counted == [16] * 4


# What Merlin does


def test_evaluation_ranks_the_whole_catalogue_also_after_a_validation():
    fitted, catalogue, model = fitted_world()
    table, test = views(), views(40, seed=9)
    loader = fitted.loader(test, batch_size=16)
    model.fit(
        fitted.loader(table, batch_size=60),
        optimizer=rr.optim.Adagrad(lr=0.1),
        epochs=2,
        validation=loader,
        device="cpu",
        progress=False,
    )
    batch = fitted.transform(test)
    scores = (model.embed_queries(batch).double() @ model.embed_candidates(catalogue.batch).double().T).numpy()
    rows = catalogue.rows(test["movie_id"]).numpy()
    ranks = 1 + (scores > scores[np.arange(40), rows][:, None]).sum(axis=1)
    assert model.evaluate(loader)["mrr"] == pytest.approx((1 / ranks).mean())


def test_what_an_evaluation_counts_is_what_the_index_serves():
    fitted, catalogue, model = fitted_world()
    model.fit(
        fitted.loader(views(), batch_size=60), optimizer=rr.optim.Adagrad(0.1), epochs=2, device="cpu", progress=False
    )
    test = views(40, seed=9)
    results = model.evaluate(fitted.loader(test, batch_size=16))
    found = model.build_index(catalogue).search(model.embed_queries(fitted.transform(test)), 3).keys
    for k in (1, 3):
        hits = [movie in keys[:k] for movie, keys in zip(test["movie_id"], found, strict=True)]
        assert results[f"hit_rate@{k}"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("training", [True, False])
def test_a_task_keeps_nothing_of_a_batch(training):
    queries, candidates, ids = torch.randn(4, 3), torch.randn(4, 3), torch.arange(2, 6)
    scorer = rr.tasks.RetrievalScorer([rr.sampling.InBatch(), rr.sampling.Uniform(2, num_ids=9)])
    table = rr.EmbeddingTable(9, 3)
    calls = [
        (rr.tasks.Retrieval(), lambda task: task(queries, candidates)),
        (rr.tasks.Ranking(), lambda task: task(torch.ones(4), torch.zeros(4))),
        (
            scorer,
            lambda task: task(
                {"query": queries, "candidate": candidates},
                candidate_ids=ids,
                table=table,
                training=training,
                testing=not training,
            ),
        ),
    ]
    for task, call in calls:
        task.train(training)
        before = {name: dict(vars(module)) for name, module in task.named_modules()}
        call(task)
        after = {name: vars(module) for name, module in task.named_modules()}
        for name, known in before.items():
            assert after[name].keys() == known.keys()
            assert all(after[name][entry] is value for entry, value in known.items()), (type(task), name)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_takes_the_order_that_the_loader_was_given(shuffle):
    seen = []

    class Watch(rr.Model):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.zeros(1))

        def compute_loss(self, batch, training=False):
            seen.extend(batch["x"].tolist())
            return (batch["x"] * self.slope).square().mean()

    data = line_batch(50)
    loader = rr.data.Loader(data, 8, shuffle=shuffle)
    Watch().fit(loader, optimizer=rr.optim.SGD(), epochs=1, device="cpu", progress=False)
    assert sorted(seen) == data["x"].tolist()
    assert (seen == data["x"].tolist()) == (not shuffle)


def test_lists_and_numbers_stay_side_by_side_in_any_order_of_rows():
    # There, negatives repeat the rows of numbers and tile those of lists.
    batch = rr.Batch({"number": torch.arange(4), "list": rr.Jagged.from_lists([[0], [1, 1], [], [3, 3, 3]])})
    taken = batch.take(torch.tensor([3, 3, 1, 0, 2]))
    for number, values in zip(taken["number"].tolist(), taken["list"].to_lists(), strict=True):
        assert values == [number] * {0: 1, 1: 2, 2: 0, 3: 3}[number]


def test_lists_come_out_under_their_own_name():
    # There, a list is two columns, of values and of offsets.
    assert set(space().transform(views(3)).names) == set(space().schema) >= {"genres", "title"}


@pytest.mark.parametrize("key", [2**31, 2**40 + 1, -(2**40), 2**53 + 1])
def test_integer_keys_keep_all_their_digits(key):
    # Indexes there hold 32-bit ids.
    for index in (rr.index.Exact(torch.ones(1, 1), [key]), rr.index.Faiss(torch.ones(1, 1), [key], factory="HNSW4")):
        assert index.search(torch.ones(1, 1), 1).keys.tolist() == [[key]]
    vocabulary = rr.FeatureSpace({"id": rr.features.Categorical()}).fit(pl.DataFrame({"id": [key, key - 1, key]}))
    assert vocabulary.transform(pl.DataFrame({"id": [key, key - 1]}))["id"].tolist() == [2, 3]


def test_nothing_is_pickled():
    imported = {
        alias.name.split(".")[0]
        for _, node in nodes(SOURCES, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module)])
    }
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    loads = {ast.unparse(node.func) for _, node in nodes(SOURCES, ast.Call)} & {"torch.load", "torch.save"}
    assert not loads


# What their programs and tests do


def test_no_dictionary_says_a_thing_twice():
    # A tutorial there loses a feature to a repeated key.
    for place, node in nodes([*PROGRAMS, *TESTS.rglob("*.py")], ast.Dict):
        keys = [ast.dump(key) for key in node.keys if isinstance(key, ast.Constant)]
        assert len(keys) == len(set(keys)), place


def test_no_test_throws_a_verdict_away():
    verdicts = {"allclose", "isclose", "equal", "array_equal", "array_equiv", "approx"}
    for place, node in nodes(TESTS.rglob("*.py"), ast.Expr):
        assert not isinstance(node.value, ast.Compare), place
        assert not (isinstance(node.value, ast.Call) and called(node.value) in verdicts), place


def test_no_test_is_content_with_a_number_that_is_not_negative():
    for place, function in nodes(TESTS.rglob("test_*.py"), ast.FunctionDef):
        asserts = [node.test for node in ast.walk(function) if isinstance(node, ast.Assert)]
        assert not asserts or not all(re.search(r">= 0(\.0)?$", ast.unparse(test)) for test in asserts), place


def public_objects():
    for info in pkgutil.walk_packages(rr.__path__, "retrank."):
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()) if info.ispkg else ():
            value = getattr(module, name)
            if inspect.isfunction(value) or (inspect.isclass(value) and getattr(value, "__final__", False)):
                yield f"{info.name}.{name}", name, value


def test_everything_public_is_called_somewhere():
    # A way to build an index there, which nothing calls, cannot work.
    paths = [*PROGRAMS, *TESTS.rglob("*.py")]
    used = {called(node) for _, node in nodes(paths, ast.Call)}
    for path in SOURCES:
        used |= set(re.findall(r"(\w+)\(", "\n".join(re.findall(r"(?:>>>|\.\.\.) (.*)", path.read_text()))))
    named = set(re.findall(r"\w+", "\n".join(path.read_text() for path in TESTS.rglob("*.py"))))
    assert not [path for path, name, _ in public_objects() if name not in used | named]


def test_there_is_one_generation_of_everything():
    # Of two side by side, each has faults that were mended in the other. These versions are those of the papers.
    versions = {name for _, name, _ in public_objects() if re.search(r"(V\d+|_v\d+|Legacy)$", name)}
    assert versions <= {"top1_v2", "dcn_v2"}
