"""Small disks, for tests that fill them."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["fill", "small_disk"]


@contextlib.contextmanager
def small_disk(size):
    """Mount a disk of so many MiB; yields its folder."""
    folder = Path(tempfile.mkdtemp(prefix="retrank-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("a small disk cannot be mounted here")
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        folder.rmdir()


def fill(folder, room):
    """Leave so many bytes of a disk; the file `filler` takes the rest."""
    num_bytes = shutil.disk_usage(folder).free - room
    (folder / "filler").write_bytes(bytes(max(0, num_bytes)))
