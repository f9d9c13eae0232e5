"""Files that were damaged and sealed again, as a faulty program or an attacker does it: only our errors, and soon."""

import functools
import random
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.features.conftest import make_space
from tests.formats.mutations import mutate
from tests.formats.write_v0 import write
from tests.training.worlds import Line, line_batch, loader

import retrank as rr

WRITTEN = Path(__file__).parent / "v0"
SECONDS = 5.0


def fit_on(directory):
    """Continue a run of one epoch that is done, so that nothing but the checkpoint is worked with."""
    model = Line()
    model.fit(loader(line_batch()), optimizer=rr.optim.Adagrad(0.1), epochs=1, checkpoint=directory, progress=False)


def kinds_of_table():
    return pl.DataFrame(
        {
            "user": range(60),
            "flag": [True, False] * 30,
            "film": [f"film {n % 20}" for n in range(60)],
            "tags": [["a", "b"]] * 60,
            "words": ["one two", "three"] * 30,
            "price": [n / 7 for n in range(60)],
            "time": range(60),
            "vector": [[1.0, 2.0]] * 60,
            "label": [0, 1] * 30,
        }
    )


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Directories of all kinds, of the first version and of today's, and what reads them."""
    fresh = tmp_path_factory.mktemp("fresh")
    write(fresh / "today")
    vectors = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    keys = [f"s{n}" for n in range(300)]
    rr.index.Faiss(vectors, keys, factory="HNSW8").save(fresh / "graph")
    rr.index.Faiss(vectors, keys, factory="IVF2,PQ2x4", rescore=2).save(fresh / "codes")
    rr.index.Streaming(lambda: [(vectors, keys)]).save(fresh / "streaming")
    make_space().fit(kinds_of_table()).save(fresh / "space")
    rr.training.save_weights(fresh / "weights", torch.nn.Linear(3, 2))
    fit_on(fresh / "run")
    loaded = rr.Recommender.load(fresh / "today" / "faiss")
    rr.Recommender(
        rr.embeddings.quantized(loaded.retrieval),
        space=loaded.space,
        catalogue=loaded.candidates,
        history=loaded.seen,
    ).save(fresh / "quantized")
    plays = loaded.history.events.table()
    for name, baseline in (("ease", rr.baselines.EASE()), ("knn", rr.baselines.ItemKNN())):
        fitted = baseline.fit(plays, query=loaded.query, candidate=loaded.candidate)
        rr.Recommender(fitted, catalogue=loaded.candidates, history=plays).save(fresh / name)
    return [
        (WRITTEN / "two_stage", rr.Recommender.load),
        (WRITTEN / "faiss", rr.Recommender.load),
        (WRITTEN / "checkpoint", rr.training.read_checkpoint),
        (fresh / "today" / "two_stage", rr.Recommender.load),
        (fresh / "today" / "faiss", rr.Recommender.load),
        (fresh / "quantized", rr.Recommender.load),
        (fresh / "ease", rr.Recommender.load),
        (fresh / "knn", rr.Recommender.load),
        (fresh / "graph", rr.index.load_index),
        (fresh / "codes", rr.index.load_index),
        (fresh / "streaming", rr.index.load_index),
        (fresh / "space", rr.FeatureSpace.load),
        (fresh / "weights", functools.partial(rr.training.load_weights, model=torch.nn.Linear(3, 2))),
        (fresh / "run", fit_on),
    ]


def try_mutations(directories, folder, seeds):
    """Return what went wrong, and how many mutations were refused."""
    problems, refused = [], 0
    for seed in seeds:
        source, load = directories[seed % len(directories)]
        shutil.rmtree(folder, ignore_errors=True)
        directory = folder / source.name
        shutil.copytree(source, directory)
        done = f"seed {seed}, {source.name}/{mutate(directory, random.Random(seed))}"
        start = time.process_time()
        try:
            load(directory)
        except rr.errors.RetrankError as error:
            refused += 1
            if str(directory) not in str(error):
                problems.append(f"{done}: the error names no file: {error}")
        except BaseException as error:  # panics of Rust are no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            problems.append(f"{done}: {type(error).__name__}: {error}")
        if time.process_time() - start > SECONDS:
            problems.append(f"{done}: {time.process_time() - start:.1f} s")
    return problems, refused


def test_all_directories_load(directories):
    for directory, load in directories:
        load(directory)


def test_a_few_mutations_are_refused_or_harmless(directories, tmp_path):
    problems, refused = try_mutations(directories, tmp_path / "work", range(60))
    assert problems == []
    assert refused > 30


@pytest.mark.slow
def test_a_thousand_mutations_are_refused_or_harmless(directories, tmp_path):
    problems, refused = try_mutations(directories, tmp_path / "work", range(1000, 2000))
    assert problems == []
    assert refused > 500
