"""`Store`: the protocol of what keeps a service's events, documents and impressions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self

from retrank.core.errors import ConfigError
from retrank.recommender.request import Key
from retrank.serving.stores.records import Change, Document, Event, Impression, Kind

__all__ = ["Store", "check_page"]


class Store(ABC):
    """What a service must not forget, and what all of its workers must see.

    Every method may be called from several threads at once, and a store may be open in several processes at once.

    Events and documents share one order of positions. Positions become visible in ascending order: who has seen
    position n never finds a new change at n or before. So a reader keeps one number, and asks for what came after it:

        if store.position() > seen:
            for change in store.changes(after=seen):
                ...
                seen = change.position

    Every method raises `StoreUnavailableError` if the store cannot be reached, does not answer in time or cannot
    write, and another `StorageError` if what it finds there is not what it has written. After an error nothing is half
    written, and the same call may be made again: the store reconnects by itself.

    A store is not carried through a fork: open it in the process that uses it.

    Attributes:
        is_server: whether it is another process, which may hang or be far away.
    """

    is_server: ClassVar[bool]

    @abstractmethod
    def append_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events, all or none; they are on the disk when this returns.

        Args:
            events: in the order in which they happened.

        Returns:
            For each event, whether it is new. An event whose id is known, also from earlier in the same call, changes
            nothing.

        Raises:
            StoreUnavailableError: they may not have been kept; sending them again is safe.
        """

    @abstractmethod
    def put(self, documents: Sequence[Document]) -> None:
        """Replace what is known of candidates and queries, all or none; it is on the disk when this returns.

        Args:
            documents: of several with one kind and key, the last counts.

        Raises:
            StoreUnavailableError: they may not have been kept; sending them again is safe.
        """

    @abstractmethod
    def get(self, kind: Kind, key: Key) -> Document | None:
        """Look a document up.

        Args:
            kind: what it describes.
            key: its key; 7, "7" and True are three keys.

        Returns:
            The latest version, with content None if it was deleted; None if there never was one.
        """

    @abstractmethod
    def position(self) -> int:
        """Return the position of the latest change; cheap enough to be asked before every request.

        Returns:
            0 if nothing was written yet.
        """

    @abstractmethod
    def changes(self, after: int, limit: int = 10_000) -> list[Change]:
        """Read what was written after a position.

        Args:
            after: the last position that the caller has seen; 0 at first.
            limit: return at most so many.

        Returns:
            In ascending positions, every event, and each document in its latest version at the position of that.
        """

    @abstractmethod
    def log_impressions(self, impressions: Sequence[Impression]) -> None:
        """Keep lists that were shown. If the machine loses power, those of the last second or so may be lost.

        Args:
            impressions: many at a time cost little more than one.

        Raises:
            StoreUnavailableError: they may not have been kept; sent again, they may be there twice.
        """

    @abstractmethod
    def impressions(self, after: int = 0, limit: int = 10_000) -> list[tuple[int, Impression]]:
        """Read lists that were shown; their positions are another count than those of changes.

        Args:
            after: the last position that the caller has seen; 0 at first.
            limit: return at most so many.

        Returns:
            Positions, ascending, and impressions.
        """

    @abstractmethod
    def forget_impressions(self, before: int) -> int:
        """Delete old impressions.

        Args:
            before: a time in microseconds since 1970 UTC; lists shown at this time or later are kept.

        Returns:
            How many were deleted.
        """

    @abstractmethod
    def identity(self) -> str:
        """Return the random id that was made with the store.

        Positions mean something within one store only: a bundle that holds the events of a store up to a position keeps
        this id beside it.

        Returns:
            32 hexadecimal digits.
        """

    @abstractmethod
    def check(self) -> None:
        """Find out, without writing, whether the store answers and lets this process write.

        Raises:
            StoreUnavailableError: it does not.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the connections back; what is kept stays. A closed store answers nothing; closing again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_page(after: int, limit: int) -> None:
    """Refuse what is no page of changes or impressions.

    Args:
        after: must be a position, or 0.
        limit: must be at least 1.

    Raises:
        ConfigError: it is not.
    """
    if not 0 <= after < 2**63:
        raise ConfigError("a position of at least 0", repr(after), "after")
    if not 1 <= limit < 2**63:
        raise ConfigError("at least 1", repr(limit), "limit")
