"""Two processes save a recommender where two others load it: `python -m tests.recommender.beside FOLDER SECONDS`."""

import os
import sys
import time
from pathlib import Path

import polars as pl
import torch
from tests.core.processes import child

import retrank as rr


def make(seed):
    torch.manual_seed(seed)
    plays = pl.DataFrame({"user": [f"u{n % 17}" for n in range(200)], "song": [f"s{n * 7 % 31}" for n in range(200)]})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    towers = [rr.models.Tower(space, [name], layers=[8, 4], dim=4) for name in ("user", "song")]
    return rr.Recommender(
        rr.models.TwoTower(*towers, rr.tasks.Retrieval()),
        space=space,
        catalogue=pl.DataFrame({"song": [f"s{n}" for n in range(31)]}),
        history=plays,
        card=rr.recommender.Card(f"version {seed}"),
    )


def write(bundle, seeds, end):
    versions = [make(seed) for seed in seeds]
    while time.monotonic() < end:
        for version in versions:
            version.save(bundle)


def read(bundle, end):
    """Every version has its own weights, embeddings and card, which must be those of one version."""
    versions = {f"version {seed}": make(seed) for seed in (0, 1, 2, 3)}
    while time.monotonic() < end:
        loaded = rr.Recommender.load(bundle)
        expected = versions[loaded.card.title].recommend({"user": "u3"}, k=5, exclude_seen=False)
        assert loaded.recommend({"user": "u3"}, k=5, exclude_seen=False).equals(expected), "a mixture"
        embeddings = loaded.retrieval.embed_candidates(loaded.catalogue.batch[:3])
        again = versions[loaded.card.title].retrieval.embed_candidates(loaded.catalogue.batch[:3])
        assert torch.equal(embeddings, again), "a mixture"


def prepare(bundle):
    make(0).save(bundle)


def main(folder, seconds):
    bundle = folder / "bundle"
    os.waitpid(child(lambda: prepare(bundle)), 0)  # this process computes nothing, so that it may fork
    end = time.monotonic() + seconds
    writers = [child(lambda seeds=seeds: write(bundle, seeds, end)) for seeds in ((0, 1), (2, 3))]
    readers = [child(lambda: read(bundle, end)) for _ in range(2)]
    codes = [os.waitpid(process, 0)[1] for process in (*writers, *readers)]
    assert codes == [0, 0, 0, 0], codes
    assert [path.name for path in folder.iterdir()] == ["bundle"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
