import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import ones

from retrank.core import directories
from retrank.core.directories import atomic_directory, ensure_replaceable
from retrank.core.errors import StorageError
from retrank.core.files import read_json, write_json, write_text
from retrank.core.manifest import write_manifest
from retrank.core.snapshots import read_directory, read_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path):
    with atomic_directory(tmp_path / "bundle") as draft:
        write_text(draft / "a.txt", "alpha")
        write_text(draft / "deep" / "b.txt", "beta")
        write_manifest(draft, {"format": "retrank.test", "version": 1})
    return tmp_path / "bundle"


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


@pytest.fixture(params=["exchange", "renames"])
def way(request, monkeypatch):
    """Both ways to publish: by one call of the system, and by renames where it has none."""
    if request.param == "renames":
        monkeypatch.setattr(directories, "exchange", lambda *_: False)


def save(directory, text):
    with atomic_directory(directory) as draft:
        write_text(draft / "a.txt", text)
        write_manifest(draft, {"format": "retrank.test"})


@pytest.mark.usefixtures("way")
def test_a_directory_is_replaced_again_and_again(tmp_path):
    for text in ("one", "two", "three"):
        save(tmp_path / "d", text)
        assert (tmp_path / "d" / "a.txt").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.usefixtures("way")
def test_an_open_snapshot_keeps_its_version(tmp_path):
    save(tmp_path / "d", "old" * 50_000)  # too large to be read at once

    def parse(snapshot):
        if not calls:
            calls.append(1)
            save(tmp_path / "d", "new")
            save(tmp_path / "d", "newer")
            assert [p.name for p in tmp_path.iterdir()] == ["d"]
        return snapshot.read("a.txt").decode()

    calls = []
    assert read_directory(tmp_path / "d", parse) == "old" * 50_000


def test_a_reader_goes_to_the_newer_version_where_it_could_not_finish_the_older(tmp_path):
    save(tmp_path / "d", "old")
    texts = []

    def parse(snapshot):
        texts.append(snapshot.read("a.txt").decode())
        if len(texts) == 1:
            save(tmp_path / "d", "new")
            raise StorageError("a file", "a stale handle", "d", "load again")
        return texts

    assert read_directory(tmp_path / "d", parse) == ["old", "new"]


def test_a_directory_that_changes_in_place_while_it_is_read_is_read_again(tmp_path):
    save(tmp_path / "d", "old")
    texts = []

    def parse(snapshot):
        texts.append(snapshot.read("a.txt").decode())
        if len(texts) == 1:  # as `cp -r` over it does
            (tmp_path / "d" / "a.txt").write_text("new")
            write_manifest(tmp_path / "d", {"format": "retrank.test"})
        return texts

    assert read_directory(tmp_path / "d", parse) == ["old", "new"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("where", ["notes.txt", "deep/notes.txt"])
def test_a_file_that_someone_put_into_a_directory_of_ours_is_not_deleted(tmp_path, where):
    save(tmp_path / "d", "old")
    (tmp_path / "d" / "deep").mkdir()
    (tmp_path / "d" / where).write_text("precious")
    with pytest.raises(StorageError, match=where):
        save(tmp_path / "d", "new")
    assert (tmp_path / "d" / where).read_text() == "precious"
    assert (tmp_path / "d" / "a.txt").read_text() == "old"


@pytest.mark.usefixtures("way")
def test_a_file_that_comes_while_a_directory_is_written_is_not_deleted(tmp_path):
    save(tmp_path / "d", "old")
    with pytest.raises(StorageError, match=r"notes\.txt"), atomic_directory(tmp_path / "d") as draft:
        write_text(draft / "a.txt", "new")
        (tmp_path / "d" / "notes.txt").write_text("precious")
    assert (tmp_path / "d" / "notes.txt").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.usefixtures("way")
@pytest.mark.usefixtures("way")
def test_a_version_that_is_replaced_and_removed_while_it_is_looked_at_is_not_taken_for_a_stranger(
    tmp_path, monkeypatch
):
    save(tmp_path / "d", "one")
    original = directories.parse_manifest

    def parse_after_another_save(*arguments):
        monkeypatch.setattr(directories, "parse_manifest", original)
        save(tmp_path / "d", "two")
        raise StorageError("a manifest", "one that was removed", "d")

    monkeypatch.setattr(directories, "parse_manifest", parse_after_another_save)
    save(tmp_path / "d", "three")
    assert directories.parse_manifest is original
    assert (tmp_path / "d" / "a.txt").read_text() == "three"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_file_managers_leave_behind_disturbs_nobody(tmp_path):
    save(tmp_path / "d", "old")
    (tmp_path / "d" / ".DS_Store").write_bytes(b"\0")
    assert read_manifest(tmp_path / "d")
    save(tmp_path / "d", "new")
    assert (tmp_path / "d" / "a.txt").read_text() == "new"


def test_two_savers_that_overlap_both_succeed(tmp_path):
    with atomic_directory(tmp_path / "d") as first:
        write_text(first / "a.txt", "first")
        write_manifest(first, {"format": "retrank.test"})
        save(tmp_path / "d", "second")
        assert first.is_dir()  # a living draft is left alone
    assert (tmp_path / "d" / "a.txt").read_text() == "first"


def test_a_dead_draft_is_removed_by_the_next_save(tmp_path):
    save(tmp_path / "d", "old")
    (tmp_path / ".d.draft-0123456789abcdef" / "deep").mkdir(parents=True)
    for other in (".d.draft-mine", ".e.draft-0123456789abcdef", ".d.old-20240101"):
        (tmp_path / other).mkdir()
    save(tmp_path / "d", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".d.draft-mine", ".d.old-20240101", ".e.draft-0123456789abcdef", "d",
    ]  # fmt: skip


def test_between_two_renames_the_draft_is_read_and_nothing_is_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr(directories, "exchange", lambda *_: False)
    save(tmp_path / "d", "old")
    save(tmp_path / "e", "new")
    (tmp_path / "d").rename(tmp_path / ".d.old-0123456789abcdef")
    (tmp_path / "e").rename(tmp_path / ".d.draft-0123456789abcdef")
    before = sorted(tmp_path.iterdir())
    assert read_directory(tmp_path / "d", lambda snapshot: snapshot.read("a.txt")) == b"new"
    assert sorted(tmp_path.iterdir()) == before
    save(tmp_path / "d", "newest")
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("left", [".d.old-x", ".d.old-0123456789abcdef", ".d.draft-0123456789abcdef"])
def test_a_deleted_directory_stays_deleted(tmp_path, left):
    save(tmp_path / "d", "old")
    (tmp_path / "d").rename(tmp_path / left)
    with pytest.raises(StorageError, match="No such file"):
        read_manifest(tmp_path / "d")


def test_a_directory_can_be_moved_copied_and_packed(tmp_path):
    save(tmp_path / "d", "text")
    for command in ("cp -r d copied", "mv copied moved", "tar cf d.tar d && mkdir t && tar xf d.tar -C t"):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    for place in ("moved", "t/d"):
        assert read_directory(tmp_path / place, lambda snapshot: snapshot.read("a.txt")) == b"text"


def test_the_longest_name_that_a_file_system_takes_is_good_enough(tmp_path):
    save(tmp_path / ("n" * 255), "old")
    save(tmp_path / ("n" * 255), "new")
    assert read_manifest(tmp_path / ("n" * 255))
    for attempt in (read_manifest, ensure_replaceable, lambda path: save(path, "x")):
        with pytest.raises(StorageError, match="nnn"):
            attempt(tmp_path / ("n" * 256))
    assert [p.name for p in tmp_path.iterdir()] == ["n" * 255]


def test_no_process_wide_umask_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads create files, too"))
    save(tmp_path / "d", "text")


def in_a_process(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


FULL = """
import resource, sys, torch, polars as pl, retrank as rr
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # what a full disk does, for every writer
linear = torch.nn.Linear(100, 100)
for save in (lambda path: rr.training.save_weights(path, linear), rr.index.Exact(torch.randn(100, 100)).save,
             rr.index.Faiss(torch.randn(100, 100), factory="Flat").save,
             rr.FeatureSpace({"a": rr.features.Categorical()}).fit(
                 pl.DataFrame({"a": torch.randperm(2**40 // 2**26).tolist()})).save):
    try:
        save(sys.argv[1])
    except rr.errors.StorageError as error:
        print(str(error).replace(sys.argv[1], "PLACE"))
"""


def test_a_full_disk_is_named_and_leaves_no_draft(tmp_path):
    pytest.importorskip("resource")
    pytest.importorskip("faiss")
    done = in_a_process(["-c", FULL], tmp_path / "d")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    names = ("tensors.safetensors", "index.safetensors", "index.faiss", "000-vocabulary.parquet")
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"PLACE/{name}: "), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("what", "number"),
    [("beside", 2), ("kills", 30), pytest.param("beside", 60, marks=pytest.mark.slow),
     pytest.param("kills", 1000, marks=pytest.mark.slow)],
)  # fmt: skip
def test_writers_and_readers_at_the_same_time_and_writers_that_die(tmp_path, what, number):
    done = in_a_process(["-m", "tests.core.processes"], what, tmp_path, number)
    assert done.returncode == 0, done.stdout + done.stderr


def refused(bundle, name, match):
    with pytest.raises(StorageError, match=match) as caught:
        read_manifest(bundle)
    assert str(bundle / name) in str(caught.value)


@pytest.mark.parametrize("kind", ["link", "dangling link", "device", "pipe", "folder", "linked folder"])
def test_only_regular_files_are_read(bundle, kind):
    path, content = bundle / "deep" / "b.txt", (bundle / "deep" / "b.txt").read_bytes()
    outside = bundle.parent / "outside"
    outside.mkdir()
    (outside / "b.txt").write_bytes(content)
    path.unlink()
    match kind:
        case "link":
            path.symlink_to(outside / "b.txt")
        case "dangling link":
            path.symlink_to(outside / "none")
        case "device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "linked folder":
            path.parent.rmdir()
            path.parent.symlink_to(outside)
    refused(bundle, "deep/b.txt", "regular file|no such file" if kind in ("folder", "linked folder") else "regular")


def test_a_manifest_that_is_a_pipe_or_a_device_is_refused(bundle):
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    refused(bundle, "manifest.json", "regular")
    with pytest.raises(StorageError, match="other files"):
        ensure_replaceable(bundle)
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("/dev/zero")
    refused(bundle, "manifest.json", "regular")


@pytest.mark.parametrize(
    "name", ["../a.txt", "/etc/passwd", "", ".", "..", "x/../a.txt", "./a.txt", "a\0", "\ud800", "c:x"]
)
def test_names_outside_of_the_directory_are_refused(bundle, name):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"].pop("a.txt")
    content = {"payload": manifest["payload"], "files": manifest["files"]}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps({**content, "sha256": digest}))
    refused(bundle, "manifest.json", "within the directory")
