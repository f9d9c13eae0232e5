import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

import retrank as rr
from retrank.datasets import download


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "web" / "set.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/a.txt", "one")
        file.writestr("set/b.txt", "two")
    return path


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_an_archive_is_unpacked_under_the_wanted_names(archive, tmp_path):
    download.Archive(archive.as_uri(), md5(archive), {"set/b.txt": "second"}).fetch(tmp_path / "cache" / "set")
    assert [(file.name, file.read_text()) for file in (tmp_path / "cache" / "set").iterdir()] == [("second", "two")]


@pytest.mark.parametrize("damage", ["checksum", "not a zip", "member", "url"])
def test_nothing_is_left_of_a_bad_download(archive, tmp_path, damage):
    if damage == "not a zip":
        archive.write_text("<html>try later</html>")
    members = {"set/a.txt": "a"} | ({"set/no.txt": "b"} if damage == "member" else {})
    checksum = "0" * 32 if damage == "checksum" else md5(archive)
    url = archive.as_uri() + ("x" if damage == "url" else "")
    with pytest.raises(rr.errors.DownloadError) as caught:
        download.Archive(url, checksum, members).fetch(tmp_path / "cache" / "set")
    assert ("0" * 32 in str(caught.value)) == (damage == "checksum")
    assert "set.zip" in str(caught.value)
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_an_older_copy_survives_a_bad_download(archive, tmp_path):
    directory = tmp_path / "cache" / "set"
    directory.mkdir(parents=True)
    (directory / "a").write_text("old")
    with pytest.raises(rr.errors.DownloadError):
        download.Archive(archive.as_uri(), "0" * 32, {"set/a.txt": "a"}).fetch(directory)
    assert (directory / "a").read_text() == "old"


def test_a_wheel_is_checked_and_unpacked(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch_wheel", lambda requirement, folder: archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    download.Wheel("set==1", digest, {"set/a.txt": "a"}).fetch(tmp_path / "good")
    assert (tmp_path / "good" / "a").read_text() == "one"
    with pytest.raises(rr.errors.DownloadError, match="sha256"):
        download.Wheel("set==1", "0" * 64, {"set/a.txt": "a"}).fetch(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_pip_is_called_for_the_one_wheel(tmp_path, monkeypatch):
    calls = []

    def run(command, **options):
        calls.append((command, options))
        Path(command[-1], "set-1-py3-none-any.whl").write_bytes(b"wheel")
        return download.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    assert download.fetch_wheel("set==1", tmp_path).name == "set-1-py3-none-any.whl"
    ((command, options),) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "set==1"} <= set(command)
    assert options["timeout"] > 0


def test_what_pip_says_is_passed_on(tmp_path, monkeypatch):
    failed = download.subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(rr.errors.DownloadError, match="set==1.*No matching distribution"):
        download.fetch_wheel("set==1", tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RETRANK_CACHE", str(tmp_path))
    assert download.cache_directory() == tmp_path
    monkeypatch.delenv("RETRANK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_directory() == tmp_path / ".cache" / "retrank"
