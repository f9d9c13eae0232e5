"""`History`: who interacted with what."""

from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.core.notices import warn_once
from retrank.data.checks import require_columns
from retrank.data.key_index import KeyIndex
from retrank.data.keys import KeyType, as_keys, key_type
from retrank.data.sources import TableLike, frame
from retrank.features.catalogue import Catalogue, Keys, to_array, to_series

__all__ = ["History"]


@final
class History:
    """The distinct candidates of each query, as catalogue rows: what to exclude, and how popular candidates are.

    Interactions with candidates that the catalogue does not hold are left out, with a warning.

    Args:
        table: interactions, a row each; repeats count once.
        catalogue: the candidates.
        query: the column of query keys.
        candidate: the column of candidate keys; the catalogue's key by default.

    Raises:
        DataError: a missing column, a null key, or keys of another type than the catalogue's.

    Example:
        >>> import polars as pl, retrank as rr
        >>> films = pl.DataFrame({"film": ["Heat", "Big", "Jaws"]})
        >>> catalogue = rr.FeatureSpace({"film": rr.features.Categorical()}).fit(films).catalogue(films, key="film")
        >>> views = pl.DataFrame({"user": ["a", "b", "a"], "film": ["Jaws", "Jaws", "Heat"]})
        >>> history = rr.features.History(views, catalogue, query="user")
        >>> history[["a", "nobody"]].to_lists(), history.counts.tolist()
        ([[0, 2], []], [1, 0, 2])
    """

    def __init__(self, table: TableLike, catalogue: Catalogue, *, query: str, candidate: str | None = None) -> None:
        candidate = catalogue.key if candidate is None else candidate
        interactions = frame(table, [query, candidate])
        require_columns(interactions, [query, candidate], "history")
        query_keys = as_keys(interactions.get_column(query), None, "error")
        rows = catalogue.rows(as_keys(interactions.get_column(candidate), None, "error")).numpy()
        if outside := int((rows < 0).sum()):
            message = f"{outside} of {len(rows)} interactions are with candidates that the catalogue does not hold"
            warn_once(f"column '{candidate}': {message}; they are left out")
        self._key_type: KeyType = key_type(query_keys)
        self._index = KeyIndex(query_keys.unique(maintain_order=True))
        pairs = self._index.find(query_keys)[rows >= 0] * len(catalogue) + rows[rows >= 0]
        queries, candidates = np.divmod(np.unique(pairs), max(len(catalogue), 1))
        self._pairs = torch.from_numpy(queries), torch.from_numpy(candidates)
        self._num_candidates = len(catalogue)
        # One more row than queries: the empty one, for queries that are not here.
        self._rows = Jagged.group(*self._pairs, num_rows=len(self._index) + 1)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"History({len(self):,} queries, {len(self._pairs[0]):,} distinct interactions)"

    def __getitem__(self, keys: Keys) -> Jagged:
        """Return the catalogue rows of each query, ascending.

        Args:
            keys: `(n,)` raw query keys; unknown ones are fine.

        Returns:
            A `Jagged` with n rows of distinct int64 catalogue rows, empty for unknown queries.

        Raises:
            DataError: keys of another type.
        """
        places = self._index.find(as_keys(to_series(keys, self._index.keys.name), self._key_type, "unknown"))
        return self._rows.take(torch.from_numpy(np.where(places < 0, len(self), places)))

    @property
    def queries(self) -> npt.NDArray[Any]:
        """`(queries,)` the distinct raw query keys, in order of appearance."""
        return to_array(self._index.keys)

    @property
    def counts(self) -> Tensor:
        """`(candidates,)` int64, the number of different queries of each catalogue row."""
        return torch.bincount(self._pairs[1], minlength=self._num_candidates)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Return the interactions as coordinates.

        Returns:
            `(pairs,)` int64 places in `queries` and `(pairs,)` int64 catalogue rows, sorted, each pair once.
        """
        return self._pairs
