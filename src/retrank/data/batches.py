"""`Batches`: what the training loop asks of a loader."""

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Protocol, runtime_checkable

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError

__all__ = ["Batches", "require_batch_size", "require_batches"]


@runtime_checkable
class Batches(Protocol):
    """Something that gives one epoch of batches each time it is iterated, and can be resumed in the middle of one.

    `Loader` and `StreamingLoader` are two; anything with these methods will do. A loader that also has `describe()`,
    JSON-able facts that its batches depend on, is protected from a checkpoint of other data.
    """

    def __iter__(self) -> Iterator[Batch]:
        """Start an epoch; after `load_state_dict`, the rest of the epoch that was interrupted."""
        ...

    def __len__(self) -> int:
        """Return the batches in a whole epoch."""
        ...

    @property
    def num_rows(self) -> int:
        """The rows of the data, also those that `drop_last` leaves out."""
        ...

    def state_dict(self) -> dict[str, int]:
        """Return the position: `{"epoch": epochs done, "batch": batches given in this one}`."""
        ...

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position."""
        ...


def require_batches(batches: object, where: str) -> None:
    """Require a loader where one may easily pass a table.

    Args:
        batches: what was passed.
        where: for the message.

    Raises:
        ConfigError: it is no `Batches`.
    """
    if not all(hasattr(type(batches), name) for name in ("__iter__", "state_dict", "load_state_dict")):
        raise ConfigError(
            "a loader of batches",
            type(batches).__name__,
            where,
            "pass space.loader(table, batch_size), or rr.data.Loader(batch, batch_size)",
        )


def require_batch_size(batch_size: object) -> None:
    """Require a number of rows.

    Args:
        batch_size: what was passed.

    Raises:
        ConfigError: it is no integer, or below 1.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ConfigError("an integer of at least 1", repr(batch_size), "batch_size")
