"""`Details`: the columns of candidates as JSON, written once per candidate."""

from typing import Final, final

import msgspec

from retrank.core.plain_json import to_json
from retrank.recommender.recommender import Recommender

__all__ = ["Details"]

_MOST: Final = 100_000  # candidates whose JSON is kept


@final
class Details:
    """The columns of the catalogue as JSON objects, made when they are first asked for.

    Args:
        recommender: whose candidates.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._table = recommender.candidates.drop(recommender.candidate)
        self._made: dict[int, msgspec.Raw] = {}

    def of(self, row: int) -> msgspec.Raw:
        """Return the columns of a candidate without its key.

        Args:
            row: of the catalogue.
        """
        found = self._made.get(row)
        if found is None:
            if len(self._made) >= _MOST:
                self._made.clear()
            found = msgspec.Raw(msgspec.json.encode(to_json(self._table.row(row, named=True))))
            self._made[row] = found
        return found
