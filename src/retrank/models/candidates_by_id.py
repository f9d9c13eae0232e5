"""`CandidatesById`: a candidate tower as a table of vectors."""

from collections.abc import Callable
from typing import final

from torch import Tensor

from retrank.core.batch import Batch

__all__ = ["CandidatesById"]


@final
class CandidatesById:
    """Embeds candidates by vocabulary id, for samplers to look up what they drew.

    Args:
        embed: from candidate features to `(batch, dim)`.
        candidate_id: the column with the vocabulary id.
        num_ids: how many ids there are, padding and unknown included.
        row_of_id: `(num_ids,)` catalogue row of each id, -1 for none.
        catalogue: the features of all candidates; None if the id is all that `embed` reads.
    """

    def __init__(
        self,
        embed: Callable[[Batch], Tensor],
        candidate_id: str,
        num_ids: int,
        row_of_id: Tensor | None,
        catalogue: Batch | None,
    ) -> None:
        self._embed, self._candidate_id, self._num_ids = embed, candidate_id, num_ids
        self._row_of_id, self._catalogue = row_of_id, catalogue

    @property
    def num_ids(self) -> int:
        """The number of ids, padding and unknown included."""
        return self._num_ids

    def __call__(self, ids: Tensor) -> Tensor:
        """Embed `(n,)` int64 ids as `(n, dim)`; an id without a row gets the vector of some candidate, see `known`."""
        if self._catalogue is None or self._row_of_id is None:
            return self._embed(Batch({self._candidate_id: ids}))
        return self._embed(self._catalogue.take(self._row_of_id[ids].clamp(min=0)))

    def known(self, ids: Tensor) -> Tensor:
        """Return `(n,)` bool, whether `(n,)` ids are candidates."""
        if self._catalogue is None or self._row_of_id is None:
            return ids >= 0
        return self._row_of_id[ids] >= 0
