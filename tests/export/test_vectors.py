"""Vectors of candidates: what an index would hold, some at a time."""

import numpy as np
import polars as pl
import pytest
from tests.export import world

import retrank as rr


@pytest.fixture(scope="module")
def recommender():
    return world.serve()


@pytest.mark.parametrize("batch_size", [1, 7, 90, 1000])
def test_batches_are_the_catalogue(recommender, batch_size):
    batches = list(rr.export.vectors(recommender, batch_size=batch_size))
    assert all(0 < len(keys) == len(vectors) == len(payload) <= batch_size for keys, vectors, payload in batches)
    keys = pl.concat([batch.keys for batch in batches])
    assert keys.equals(recommender.candidates["song"])
    assert pl.concat([batch.payload for batch in batches]).equals(recommender.candidates.drop("song"))
    vectors = np.concatenate([batch.vectors for batch in batches])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors @ vectors[0], similarity(recommender), atol=1e-5)


def test_candidates_that_are_not_available_are_left_out(recommender, tmp_path):
    without = recommender.with_unavailable(world.KEYS[3:40])
    keys = [key for batch in rr.export.vectors(without, batch_size=9) for key in batch.keys]
    assert keys == world.KEYS[:3] + world.KEYS[40:]


def similarity(recommender):
    """Cosines to the first candidate; the vectors of this model have length 1."""
    found = recommender.similar("s0", k=len(recommender.catalogue)).select("song", "score")
    scores = dict(found.iter_rows()) | {"s0": 1.0}
    return np.array([scores[key] for key in recommender.candidates["song"]])


def test_a_file_has_vectors_beside_the_catalogue(recommender, tmp_path):
    rr.export.write_vectors(recommender, tmp_path / "vectors.parquet", batch_size=13)
    table = pl.read_parquet(tmp_path / "vectors.parquet")
    assert table.drop("vector").equals(recommender.candidates)
    vectors = np.concatenate([batch.vectors for batch in rr.export.vectors(recommender)])
    np.testing.assert_allclose(table["vector"].to_numpy(), vectors, atol=1e-6)
    assert list(tmp_path.iterdir()) == [tmp_path / "vectors.parquet"]


def test_a_file_that_cannot_be_written_stays_as_it_was(recommender, tmp_path, monkeypatch):
    path = tmp_path / "vectors.parquet"
    path.write_text("old")

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(type(recommender.retrieval), "embed_candidates", lambda *_: fail(_))
    with pytest.raises((rr.errors.StorageError, OSError)):
        rr.export.write_vectors(recommender, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_column_called_vector_is_refused(tmp_path):
    plays = pl.DataFrame({"user": list("aabb"), "song": list("pqqr")})
    songs = pl.DataFrame({"song": list("pqr"), "vector": [1, 2, 3]})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(plays)
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=2)
    recommender = rr.Recommender(model, space=space, catalogue=songs, history=plays)
    with pytest.raises(rr.errors.ConfigError, match="'vector'"):
        rr.export.write_vectors(recommender, tmp_path / "vectors.parquet")


def test_what_makes_no_sense_is_refused(recommender, tmp_path):
    with pytest.raises(rr.errors.ConfigError):
        next(rr.export.vectors(recommender, batch_size=0))
    history, songs = world.tables()
    baseline = rr.baselines.Popularity().fit(history, query="user", candidate="song")
    with pytest.raises(rr.errors.ConfigError):
        next(rr.export.vectors(rr.Recommender(baseline, catalogue=songs, history=history)))
    with pytest.raises(rr.errors.ConfigError, match="layouts"):
        rr.export.write_export(recommender, tmp_path / "export", ["onyx"])
    with pytest.raises(rr.errors.ConfigError, match="layouts"):
        rr.export.write_export(recommender, tmp_path / "export", [])


def test_an_export_of_vectors_alone_traces_nothing(recommender, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.export.export", None)
    rr.export.write_export(recommender, tmp_path / "export", ["vectors"])
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["manifest.json", "vectors.parquet"]
    rr.export.write_export(recommender, tmp_path / "export", ["vectors"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("precious")
    with pytest.raises(rr.errors.StorageError):
        rr.export.write_export(recommender, tmp_path / "other", ["vectors"])
