import json
import os
import stat

import pytest
from safetensors.torch import save_file
from torch import ones

from retrank.core.directories import atomic_directory, ensure_replaceable
from retrank.core.errors import StorageError
from retrank.core.files import read_json, write_bytes, write_json, write_text
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import read_manifest


@pytest.fixture
def bundle(tmp_path):
    with atomic_directory(tmp_path / "bundle") as draft:
        write_text(draft / "a.txt", "alpha")
        write_text(draft / "deep" / "b.txt", "beta")
        write_manifest(draft, {"format": "retrank.test", "version": 1})
    return tmp_path / "bundle"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_bytes(file, b"old")

    def broken(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match=r"/a: .*disk full"):
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


def content(directory):
    return {file.relative_to(directory): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def leave_alone(path, found):
    before = content(path) if path.is_dir() else path.read_bytes()
    with pytest.raises(StorageError, match=found) as caught:
        ensure_replaceable(path)
    assert str(path) in str(caught.value)
    with pytest.raises(StorageError, match=found), atomic_directory(path):
        raise AssertionError("the work was begun")
    assert (content(path) if path.is_dir() else path.read_bytes()) == before
    assert not list(path.parent.glob(".*draft*"))


def test_a_file_is_not_replaced_by_a_directory(tmp_path):
    write_text(tmp_path / "a", "file")
    leave_alone(tmp_path / "a", "a file")


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "not JSON",
        "[]",
        '{"manifest_version": 3, "name": "a browser extension"}',
        '{"payload": {"format": "other"}, "files": {}, "sha256": ""}',
        '{"payload": [], "files": {}, "sha256": ""}',
    ],
)
def test_a_directory_of_other_files_is_left_alone(tmp_path, manifest):
    write_text(tmp_path / "home" / "letters" / "precious.txt", "precious")
    if manifest is not None:
        write_text(tmp_path / "home" / "manifest.json", manifest)
    leave_alone(tmp_path / "home", "a directory of other files")


def test_neither_the_current_directory_nor_one_above_it_is_replaced(bundle, monkeypatch):
    monkeypatch.chdir(bundle / "deep")
    for place in (bundle, bundle / "deep", bundle / "deep" / ".." / "deep"):
        leave_alone(place, "the current directory or a parent of it")
    with pytest.raises(StorageError, match="current"), atomic_directory("."):
        raise AssertionError("the work was begun")
    assert read_manifest(bundle)


def test_nothing_empty_and_damaged_directories_are_replaceable(bundle):
    (bundle / "a.txt").write_text("damaged")
    (bundle.parent / "empty").mkdir()
    for place in (bundle, bundle.parent / "empty", bundle.parent / "new" / "deep"):
        ensure_replaceable(place)
    assert not (bundle.parent / "new").exists()


def test_a_link_stays_and_what_it_points_to_is_replaced(bundle):
    link = bundle.parent / "link"
    link.symlink_to(bundle, target_is_directory=True)
    with atomic_directory(link) as draft:
        write_text(draft / "c.txt", "gamma")
    assert link.is_symlink()
    assert [p.name for p in bundle.iterdir()] == ["c.txt"]


def test_every_file_and_folder_is_readable_for_whom_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_directory(tmp_path / "bundle") as draft:
            (draft / "deep").mkdir(mode=0o700)
            save_file({"a": ones(1)}, draft / "deep" / "weights.safetensors")
            write_text(draft / "a.txt", "alpha")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "bundle").rglob("*")}
    assert modes == {"deep": 0o750, "weights.safetensors": 0o640, "a.txt": 0o640}
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o750


def test_no_flipped_bit_of_a_manifest_goes_unnoticed(tmp_path):
    write_text(tmp_path / "a", "alpha")
    write_manifest(tmp_path, {"format": "retrank.test", "version": 1})
    manifest = tmp_path / "manifest.json"
    whole = manifest.read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        manifest.write_bytes(damaged)
        try:
            payload = read_manifest(tmp_path)
        except StorageError:
            continue
        assert json.loads(damaged) == json.loads(whole), place  # white space alone
        assert payload == {"format": "retrank.test", "version": 1}


@pytest.mark.parametrize(
    "entry",
    [None, 5, {}, {"size": 5}, {"size": "5", "sha256": "0"}, {"size": True, "sha256": "0"}, {"size": 5, "sha256": 0}],
)
def test_a_manifest_with_entries_of_other_types_is_refused(bundle, entry):
    manifest = read_json(bundle / "manifest.json")
    manifest["files"]["a.txt"] = entry
    write_json(bundle / "manifest.json", manifest)
    with pytest.raises(StorageError, match=r"manifest\.json"):
        read_manifest(bundle)


def test_a_whole_directory_reads_back(bundle):
    assert read_manifest(bundle) == {"format": "retrank.test", "version": 1}


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
