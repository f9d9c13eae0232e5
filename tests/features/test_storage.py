import json

import polars as pl
import pytest
from tests.features.conftest import same

import retrank as rr
from retrank.core.errors import StorageError
from retrank.core.manifest import write_manifest


def test_a_loaded_space_is_the_space(tmp_path, space, table):
    space.fit(table).save(tmp_path / "space")
    loaded = rr.FeatureSpace.load(tmp_path / "space")
    assert same(loaded.transform(table), space.transform(table))
    assert loaded.schema == space.schema
    assert repr(loaded) == repr(space)
    assert loaded.vocabulary("film/title").counts.tolist() == space.vocabulary("film/title").counts.tolist()
    assert loaded["normal"].mean == space["normal"].mean
    assert loaded["bins"].boundaries.tolist() == space["bins"].boundaries.tolist()


def test_saving_again_replaces_and_a_grown_space_stays_grown(tmp_path, space, table):
    space.fit(table).save(tmp_path / "space")
    space.grow(table.with_columns(user=pl.lit(999)), ["user"]).save(tmp_path / "space")
    loaded = rr.FeatureSpace.load(tmp_path / "space")
    assert loaded.vocabulary("user").keys[-1] == 999
    assert loaded.schema == space.schema
    assert loaded.grow(table.with_columns(user=pl.lit(1000)), ["user"]).vocabulary("user").keys[-1] == 1000


def test_only_json_and_parquet(tmp_path, space, table):
    space.fit(table).save(tmp_path / "space")
    assert {file.suffix for file in (tmp_path / "space").iterdir()} == {".json", ".parquet"}


def test_any_damage_is_noticed(tmp_path, space, table):
    space.fit(table).save(tmp_path / "space")
    for file in sorted((tmp_path / "space").iterdir()):
        content = file.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        for damaged in (content[:-10], b"", bytes(changed)):
            file.write_bytes(damaged)
            with pytest.raises(StorageError):
                rr.FeatureSpace.load(tmp_path / "space")
        file.unlink()
        with pytest.raises(StorageError, match=file.name):
            rr.FeatureSpace.load(tmp_path / "space")
        file.write_bytes(content)
    rr.FeatureSpace.load(tmp_path / "space")


def rewrite(directory, change):
    """Change the main file and sign the directory again, as a faulty program would."""
    content = json.loads((directory / "space.json").read_text())
    change(content)
    (directory / "space.json").write_text(json.dumps(content))
    manifest = json.loads((directory / "manifest.json").read_text())
    write_manifest(directory, manifest["payload"])


@pytest.mark.parametrize("number", [0, 3, 8, 9, 12])
def test_a_state_of_another_kind_is_refused(tmp_path, space, table, number):
    space.fit(table).save(tmp_path / "space")

    def change(content):
        content["features"][number]["learned"] = {}
        content["features"][number]["frames"] = {}

    rewrite(tmp_path / "space", change)
    with pytest.raises(StorageError, match=f"feature '{space.names[number]}'"):
        rr.FeatureSpace.load(tmp_path / "space")


def test_another_format_or_directory_is_refused(tmp_path, space, table):
    space.fit(table).save(tmp_path / "space")
    manifest = json.loads((tmp_path / "space/manifest.json").read_text())
    write_manifest(tmp_path / "space", manifest["payload"] | {"format": 99})
    with pytest.raises(StorageError, match="format 1.*99"):
        rr.FeatureSpace.load(tmp_path / "space")
    write_manifest(tmp_path / "space", {"kind": "model"})
    with pytest.raises(StorageError, match="feature space"):
        rr.FeatureSpace.load(tmp_path / "space")
    with pytest.raises(StorageError):
        rr.FeatureSpace.load(tmp_path / "nothing")
