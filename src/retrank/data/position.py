"""`Position`: which epoch and batch a loader has reached."""

from collections.abc import Iterator, Mapping
from typing import final

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError

__all__ = ["Position"]


@final
class Position:
    """The number of epochs done and of batches given in the current one.

    An epoch that was left early is over: the next one starts afresh, unless a position was loaded in between.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._batch = 0
        self._is_loaded = False

    def begin(self) -> tuple[int, int]:
        """Start iterating: return the epoch and its first batch to give."""
        if not self._is_loaded and self._batch > 0:
            self._epoch, self._batch = self._epoch + 1, 0
        self._is_loaded = False
        return self._epoch, self._batch

    def follow(self, batches: Iterator[Batch], epoch: int, first: int) -> Iterator[Batch]:
        """Pass batches on and keep count of them.

        Args:
            batches: the epoch from batch `first` on.
            epoch: the epoch they belong to.
            first: the number of the first of them.

        Yields:
            The batches.
        """
        for number, batch in enumerate(batches, start=first + 1):
            self._epoch, self._batch = epoch, number
            yield batch
        self._epoch, self._batch = epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return `{"epoch": ..., "batch": ...}`."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int], num_batches: int | None) -> None:
        """Go to a position.

        Args:
            state: what `state_dict` returned.
            num_batches: batches in an epoch; None if that is unknown.

        Raises:
            ConfigError: it is anything else, or lies behind the end of an epoch.
        """
        if set(state) != {"epoch", "batch"} or any(not isinstance(n, int) or n < 0 for n in state.values()):
            raise ConfigError(
                '{"epoch": int, "batch": int}, both >= 0',
                str(dict(state)),
                "loader state",
                "pass what state_dict() gave",
            )
        if num_batches is not None and state["batch"] > num_batches:
            raise ConfigError(
                f"at most {num_batches} batches in an epoch",
                str(state["batch"]),
                "loader state",
                "resume with the same data and batch size",
            )
        self._epoch, self._batch, self._is_loaded = state["epoch"], state["batch"], True
