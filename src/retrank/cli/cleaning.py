"""`clean`: checkpoints of runs that were stopped and never went on."""

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, final

import polars as pl
from rich.console import Console

from retrank.cli.output import print_json, table_of
from retrank.core.errors import DataError
from retrank.core.manifest import MANIFEST

__all__ = ["Abandoned", "abandoned", "clean"]

_NAME: Final = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")
_HOUR: Final = 3600
_MEGABYTE: Final = 1_000_000


@final
class Abandoned(NamedTuple):
    """The checkpoints of one run.

    Attributes:
        path: their directory.
        megabytes: what they take.
        hours: since anything in it was written.
    """

    path: Path
    megabytes: float
    hours: float


def clean(folder: Path, *, hours: float, delete: bool, as_json: bool) -> None:
    """List the checkpoints of unfinished runs, and delete them if asked to.

    Args:
        folder: where to look: in it, and in the folders in it.
        hours: leave out what was written later than so long ago, which may belong to a run that goes on.
        delete: whether to delete them.
        as_json: print JSON instead of a table.

    Raises:
        DataError: no such folder.
    """
    found = abandoned(folder, hours)
    if delete:
        for one in found:
            shutil.rmtree(one.path)
            with suppress(OSError):  # not empty: another run's are there, or something that is not ours
                one.path.parent.rmdir()
    rows = [
        {"checkpoints": str(one.path), "MB": round(one.megabytes, 1), "hours": round(one.hours, 1)} for one in found
    ]
    if as_json:
        print_json({"deleted": delete, "abandoned": rows})
        return
    console = Console(highlight=False)
    if not rows:
        console.print(f"no checkpoints of unfinished runs in {folder}", markup=False)
        return
    console.print(table_of(pl.DataFrame(rows), "deleted" if delete else "unfinished runs"))
    if not delete:
        console.print("To go on with one, run its command again; retrank clean --delete deletes them.", markup=False)


def abandoned(folder: Path, hours: float) -> list[Abandoned]:
    """Find the checkpoints of unfinished runs.

    Args:
        folder: where to look: in it, and in the folders in it.
        hours: leave out what was written later than so long ago.

    Returns:
        The directories that hold nothing but checkpoints, those that take most first.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError("a folder", "nothing there" if not folder.exists() else "a file", str(folder))
    places = [place for pattern in (".*-checkpoints/*", "*/.*-checkpoints/*") for place in folder.glob(pattern)]
    found = [_measured(place) for place in places if _NAME.fullmatch(place.name) and _is_ours(place)]
    return sorted((one for one in found if one.hours >= hours), key=lambda one: (-one.megabytes, one.path))


def _is_ours(place: Path) -> bool:
    """Say whether a directory holds stages of a run and nothing else."""
    if place.is_symlink() or place.parent.is_symlink() or not place.is_dir():
        return False
    return all(
        stage.is_dir() and not stage.is_symlink() and (stage.name.startswith(".") or (stage / MANIFEST).is_file())
        for stage in place.iterdir()
    )


def _measured(place: Path) -> Abandoned:
    entries = [place.lstat()]
    for entry in place.rglob("*"):
        with suppress(FileNotFoundError):  # a run that goes on replaces its files
            entries.append(entry.lstat())
    latest = max(entry.st_mtime for entry in entries)
    return Abandoned(place, sum(entry.st_size for entry in entries) / _MEGABYTE, (time.time() - latest) / _HOUR)
