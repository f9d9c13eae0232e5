"""What the library exports is in the conformance suite of its kind, or is named here as something without a suite."""

import inspect

import pytest
import torch

import retrank as rr
from tests.features.test_conformance import CASES as FEATURES
from tests.index.test_conformance import CASES as INDEXES
from tests.models import test_conformance as models_suite
from tests.sampling.test_conformance import CASES as SAMPLERS
from tests.tasks.test_conformance import OTHERS, TASKS

WITHOUT_SUITE = {  # containers, tables and intermediate results, each with tests of its own
    "features": {"Catalogue", "FeatureSpace", "History", "TableSummary", "Vocabulary"},
    "index": {"KeyedResult", "SearchResult"},
    "models": {"Candidates", "RetrievalStep", "SampledNegatives"},
    "sampling": {"Negatives", "Positives"},
    "tasks": {"ScorerOutput"},
}


def built():
    """Yield each package with the objects of its cases."""
    yield "features", (case.build() for case in FEATURES.values())
    yield "index", (case.build(torch.eye(40), None) for case in INDEXES.values())
    models = [case.new() for case in models_suite.CASES.values()]
    negatives = [model.negatives for model in models if isinstance(model, rr.models.RetrievalModel)]
    yield "models", [*negatives, *(part for model in models for part in model.modules())]
    yield "sampling", (part for case in SAMPLERS.values() for part in case.build().modules())
    yield "tasks", (part for case in [*TASKS.values(), *OTHERS.values()] for part in case.build().modules())


def concrete_classes(package):
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) and not inspect.isabstract(value) and not getattr(value, "_is_protocol", False):
            yield value


@pytest.mark.parametrize("package", WITHOUT_SUITE)
def test_every_exported_class_is_in_its_suite(package):
    if package == "index":
        pytest.importorskip("faiss")
    covered = {type(part).__name__ for part in dict(built())[package]}
    exported = {kind.__name__ for kind in concrete_classes(getattr(rr, package))}
    assert exported - covered == WITHOUT_SUITE[package]


def test_every_function_that_builds_a_model_is_in_the_suite():
    source = inspect.getsource(models_suite)
    for name in rr.models.__all__:
        value = getattr(rr.models, name)
        if inspect.isfunction(value):
            result = inspect.signature(value).return_annotation
            if inspect.isclass(result) and issubclass(result, rr.Model):
                assert f"models.{name}(" in source, name


@pytest.mark.parametrize("base", [rr.Model, rr.tasks.Task, rr.sampling.Sampler, rr.index.Index, rr.features.Feature])
def test_every_concrete_class_of_a_kind_is_exported(base):
    kinds, found = [base], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("retrank.") and not inspect.isabstract(kind):
            found.add(kind)
    exported = {value for package in WITHOUT_SUITE for value in concrete_classes(getattr(rr, package))}
    assert found <= exported
