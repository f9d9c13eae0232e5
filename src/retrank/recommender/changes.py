"""`Changes`: other recommenders that differ from one in its candidates, its events, or what it tells of itself."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from retrank.data.sources import TableLike, frame
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.card import Card
from retrank.recommender.contents import Contents
from retrank.recommender.request import Key

__all__ = ["Changes"]


class Changes(Contents, ABC):
    """What gives other recommenders, which share what is the same; nothing changes this one."""

    @abstractmethod
    def _holding(self, parts: AnyParts) -> Self:
        """Return a recommender of other parts."""

    def with_candidates(self, table: TableLike) -> Self:
        """Append candidates that were not there in training; they are scored by their features.

        Args:
            table: one row per candidate, with the columns of the catalogue.

        Raises:
            DataError: a column is missing or of another type, or a key is a candidate already.
            ConfigError: the index cannot grow.
        """
        return self._holding(self._contents().with_candidates(frame(table)))

    def with_changed_candidates(self, table: TableLike) -> Self:
        """Give known candidates other features: they are embedded anew, and keep their place and their past.

        Args:
            table: one row per candidate, with all columns of the catalogue; those of other candidates stay as they are.

        Raises:
            DataError: a column is missing or of another type, or a key is no candidate's or there twice.
            ConfigError: the index cannot change.
        """
        return self._holding(self._contents().with_changed_candidates(frame(table)))

    def with_unavailable(self, keys: Iterable[Key]) -> Self:
        """Take candidates out of all lists until they are available again; all that is known of them stays.

        They count in what queries have done as before, and a request costs the same. Bundles say what is unavailable.

        Args:
            keys: of candidates; some may be unavailable already.

        Raises:
            DataError: a key that is no candidate's, or of another type.
        """
        return self._holding(self._contents().with_availability(keys, False))

    def with_available(self, keys: Iterable[Key]) -> Self:
        """Let unavailable candidates be listed again; see `with_unavailable`.

        Args:
            keys: of candidates; some may be available already.

        Raises:
            DataError: a key that is no candidate's, or of another type.
        """
        return self._holding(self._contents().with_availability(keys, True))

    def without_candidates(self, keys: Iterable[Key]) -> Self:
        """Remove candidates, by their keys.

        Raises:
            DataError: a key that is no candidate's, or none would be left.
        """
        return self._holding(self._contents().without_candidates(keys))

    def with_events(self, table: TableLike) -> Self:
        """Append events: they count as seen, as what a query did last, and for the popularity of candidates.

        Args:
            table: one row per event, with the columns of the history: keys, and times if it has any. Events of unknown
                queries, and with candidates that the catalogue does not hold yet, are kept.

        Raises:
            DataError: a column is missing, or keys or times are of another type.
        """
        return self._holding(self._contents().with_events(frame(table)))

    def without_ranking(self) -> Self:
        """Return a recommender that keeps the order of retrieval."""
        return self if self._contents().ranking is None else self._holding(self._contents().without_ranking())

    def with_card(self, card: Card) -> Self:
        """Return the same recommender with another card, which tells what a reader must know."""
        return self._holding(replace(self._contents(), card=card))
