"""Loading an index of whatever kind was saved."""

from pathlib import Path

from retrank.core.errors import StorageError
from retrank.core.snapshots import Snapshot, read_directory
from retrank.index.index import Index

__all__ = ["index_from_snapshot", "load_index"]


def load_index(directory: str | Path) -> Index:
    """Read an index with the class that saved it; nothing in the directory is executed.

    Known are the indexes of this package, and every other direct subclass of `Index` that is imported and says in
    `saved_as` which format it writes.

    Args:
        directory: what `Index.save` wrote.

    Returns:
        An index with the same results, on the CPU.

    Raises:
        StorageError: files missing or damaged, or a format that no class here writes.
        MissingExtraError: the index needs an optional dependency that is not installed.

    Example:
        >>> import tempfile, torch, retrank as rr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rr.index.Exact(torch.eye(2), keys=["a", "b"]).save(f"{folder}/index")
        ...     type(rr.index.load_index(f"{folder}/index")).__name__
        'Exact'
    """
    return read_directory(directory, index_from_snapshot)


def index_from_snapshot(snapshot: Snapshot) -> Index:
    """Read an index from a directory that is held open; see `load_index`.

    Args:
        snapshot: the directory.

    Returns:
        The index.

    Raises:
        StorageError: as `load_index`.
    """
    name = snapshot.payload.get("format")
    kinds = {kind.saved_as: kind for kind in Index.__subclasses__() if hasattr(kind, "saved_as")}
    if not isinstance(name, str) or name not in kinds:
        raise StorageError(
            f"one of {sorted(kinds)}",
            repr(name),
            str(snapshot.directory),
            "import the module that defines this index first",
        )
    return kinds[name]._read(snapshot)
