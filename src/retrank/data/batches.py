"""`Batches`: what the training loop asks of a loader."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from retrank.core.batch import Batch

__all__ = ["Batches"]


@runtime_checkable
class Batches(Protocol):
    """Something that gives one epoch of batches each time it is iterated, and can be resumed in the middle of one.

    `Loader` and `StreamingLoader` are two; anything with these methods will do.
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
