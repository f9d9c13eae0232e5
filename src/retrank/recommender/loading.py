"""Loading a bundle, and what is said where there is none."""

from pathlib import Path

from retrank.core.errors import StorageError
from retrank.core.manifest import MANIFEST
from retrank.core.working import Working
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.bundle import read_bundle

__all__ = ["load_parts"]


def load_parts(directory: str | Path, *, progress: bool, checks_answers: bool) -> AnyParts:
    """Read the parts of a bundle.

    Args:
        directory: where it is.
        progress: whether to show on a terminal that it takes longer than a second.
        checks_answers: whether to ask the requests that it was saved with.

    Returns:
        The parts.

    Raises:
        StorageError: there is no bundle, it is damaged, or it answers otherwise than when it was saved.
    """
    try:
        with Working(f"loading {directory}", enabled=progress):
            return read_bundle(directory, checks_answers=checks_answers)
    except StorageError as error:
        place = Path(directory)
        if (place / MANIFEST).exists():
            raise
        got = f"a directory without {MANIFEST}" if place.is_dir() else "a file" if place.exists() else "nothing there"
        fix = "fix the path; Recommender.save and `retrank train` write bundles"
        raise StorageError("the directory of a bundle", got, str(directory), fix) from error
