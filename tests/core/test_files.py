import os

import pytest

from retrank.core.errors import StorageError
from retrank.core.files import (
    atomic_directory,
    read_json,
    read_manifest,
    recover_directory,
    write_bytes,
    write_json,
    write_manifest,
    write_text,
)


@pytest.fixture
def bundle(tmp_path):
    with atomic_directory(tmp_path / "bundle") as draft:
        write_text(draft / "a.txt", "alpha")
        write_text(draft / "deep" / "b.txt", "beta")
        write_manifest(draft, {"version": 1})
    return tmp_path / "bundle"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_bytes(file, b"old")

    def broken(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_directory_appears_whole_or_not_at_all(bundle):
    with pytest.raises(RuntimeError, match="half way"), atomic_directory(bundle) as draft:
        write_text(draft / "c.txt", "gamma")
        raise RuntimeError("half way")
    assert sorted(p.name for p in bundle.iterdir()) == ["a.txt", "deep", "manifest.json"]
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_a_directory_is_replaced_as_a_whole(bundle):
    with atomic_directory(bundle) as draft:
        write_text(draft / "c.txt", "gamma")
    assert [p.name for p in bundle.iterdir()] == ["c.txt"]
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    write_text(tmp_path / "a", "file")
    with pytest.raises(StorageError, match="a directory"), atomic_directory(tmp_path / "a"):
        pass


def test_a_replacement_cut_between_its_renames_is_undone(bundle):
    bundle.rename(bundle.parent / ".bundle.old-x")
    recover_directory(bundle)
    assert read_manifest(bundle) == {"version": 1}


def test_a_whole_directory_reads_back(bundle):
    assert read_manifest(bundle) == {"version": 1}


def damage_cut(bundle):
    (bundle / "a.txt").write_text("alp")


def damage_change(bundle):
    (bundle / "a.txt").write_text("alphA")


def damage_remove(bundle):
    (bundle / "deep" / "b.txt").unlink()


def damage_add(bundle):
    (bundle / "c.txt").write_text("?")


def damage_manifest(bundle):
    (bundle / "manifest.json").write_text("{")


def damage_no_manifest(bundle):
    (bundle / "manifest.json").unlink()


def damage_other_json(bundle):
    (bundle / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        damage_cut,
        damage_change,
        damage_remove,
        damage_add,
        damage_manifest,
        damage_no_manifest,
        damage_other_json,
    ],
)
def test_any_damage_is_found(bundle, damage):
    damage(bundle)
    with pytest.raises(StorageError):
        read_manifest(bundle)


def test_json_round_trip_and_its_limits(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None, "é"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None, "é"]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None, "é"]}
    with pytest.raises(StorageError, match=r"none\.json"):
        read_json(tmp_path / "none.json")
