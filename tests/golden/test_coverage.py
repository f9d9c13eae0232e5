"""Every golden case is asked for by a test that cannot be skipped."""

import ast
import importlib
from collections import Counter
from pathlib import Path

import pytest

from tests.golden import cases

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent
NUM_CASES = {
    "keras_feature_space": 10,
    "keras_sparse_top_k": 3,
    "keras_text_vectorization": 4,
    "krs_embed_reduce": 8,
    "krs_feature_interaction": 10,
    "krs_loss_layers": 11,
    "krs_losses": 26,
    "krs_metrics": 32,
    "krs_retrieval": 5,
    "merlin_item_retrieval_scorer": 15,
    "merlin_losses": 29,
    "merlin_metrics": 15,
    "ranx": 8,
    "tfrs_clippy_adagrad": 8,
    "tfrs_cross": 11,
    "tfrs_dot_interaction": 4,
    "tfrs_factorized_top_k": 13,
    "tfrs_factorized_top_k_metric": 9,
    "tfrs_loss_layers": 9,
    "tfrs_mlp": 3,
    "tfrs_model_train_step": 3,
    "tfrs_ranking_model": 5,
    "tfrs_ranking_task": 7,
    "tfrs_retrieval_task": 21,
    "tfrs_unified_embedding": 4,
}
KEYS = ["arguments", "expected", "inputs", "name", "note", "source"]


def imports_golden(path):
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "tests.golden"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def asked_for():
    """Count the parametrizations that hold each case: over all test functions, whatever this session has selected."""
    counts = Counter()
    for path in sorted(TESTS.rglob("test_*.py")):
        if path == Path(__file__) or not imports_golden(path):
            continue
        module = importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
        for name, function in vars(module).items():
            marks = getattr(function, "pytestmark", []) if name.startswith("test_") else []
            may_not_run = [mark.name for mark in marks if mark.name not in ("parametrize", "filterwarnings")]
            for value in (value for mark in marks if mark.name == "parametrize" for value in values_of(mark)):
                if isinstance(value, dict) and sorted(value) == KEYS:
                    assert not may_not_run, f"{path.name}: {name} is marked {may_not_run}"
                    counts[value["source"], value["name"]] += 1
    return counts


def values_of(parametrize):
    for entry in parametrize.args[1]:
        if isinstance(entry, type(pytest.param())):
            assert not entry.marks
            entry = entry.values
        yield from entry if isinstance(entry, tuple) else [entry]


def test_the_files_are_those_that_were_computed():
    assert {path.stem for path in FOLDER.glob("*.json")} == NUM_CASES.keys()


@pytest.mark.parametrize("stem", NUM_CASES)
def test_every_case_is_whole(stem):
    found = cases(stem)
    assert len(found) == NUM_CASES[stem]
    assert all(sorted(case) == KEYS for case in found)
    assert len({case["name"] for case in found}) == len(found)


def test_cases_of_different_files_can_be_told_apart():
    assert len({(case["source"], case["name"]) for stem in NUM_CASES for case in cases(stem)}) == sum(
        NUM_CASES.values()
    )


def test_every_case_is_asked_for():
    counts = asked_for()
    missing = [
        f"{stem}: {case['name']}"
        for stem in NUM_CASES
        for case in cases(stem)
        if not counts[case["source"], case["name"]]
    ]
    assert not missing
