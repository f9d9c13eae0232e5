"""Loading an index of whatever kind was saved."""

from pathlib import Path

from retrank.core.errors import StorageError
from retrank.index.index import Index
from retrank.index.storage import format_of

__all__ = ["load_index"]


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
    name = format_of(directory)
    kinds = {kind.saved_as: kind for kind in Index.__subclasses__() if hasattr(kind, "saved_as")}
    if name not in kinds:
        raise StorageError(
            f"one of {sorted(kinds)}", repr(name), str(directory), "import the module that defines this index first"
        )
    return kinds[name].load(directory)
