"""What every index promises."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, Self, final

from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.index.keys import RawKeys, keys_of

__all__ = ["Index", "KeyedResult", "SearchResult"]


@final
class SearchResult(NamedTuple):
    """The best candidates of each query, as rows.

    Attributes:
        scores: `(batch, k)` float32, best first; -inf where fewer than k candidates were allowed.
        ids: `(batch, k)` int64 candidate rows; -1 where missing.
    """

    scores: Tensor
    ids: Tensor


@final
class KeyedResult(NamedTuple):
    """The best candidates of each query, as raw keys.

    Attributes:
        scores: `(batch, k)` float32, best first; -inf where fewer than k candidates were allowed.
        keys: `(batch, k)` int64 tensor, or NumPy array of `str`; -1 or None where missing (the score tells a missing
            place from a key that is -1).
    """

    scores: Tensor
    keys: RawKeys


class Index(ABC):
    """The candidates with the highest dot product for a query.

    A candidate's id is its row in the embeddings that the index was built from. Equal scores come in row order.

    Source: `TopK` of TensorFlow Recommenders. There k is fixed at export, exclusions need one static width, and an
    excluded candidate may come back; here k, exclusions and allow-lists are given with each call and hold always.
    """

    @property
    @abstractmethod
    def is_exact(self) -> bool:
        """Whether the results are always the true best."""

    @property
    @abstractmethod
    def keys(self) -> RawKeys:
        """The raw keys in row order: `(num_candidates,)` int64 tensor or array of `str`."""

    @property
    @abstractmethod
    def num_candidates(self) -> int:
        """How many candidates there are."""

    @abstractmethod
    def search_ids(
        self, queries: Tensor, k: int, *, exclude: Jagged | None = None, allow: Jagged | None = None
    ) -> SearchResult:
        """Find the best candidates as rows.

        Args:
            queries: `(batch, dim)` float32, float16 or bfloat16.
            k: how many, at most `num_candidates`.
            exclude: one row a query of candidate rows that must not be returned, of any length.
            allow: the only candidate rows that may be returned, one row a query or one row for all queries; all by
                default.

        Returns:
            Scores and rows, `(batch, k)` each, best first.

        Raises:
            ConfigError: k is not in `[1, num_candidates]`.
            ShapeError: tensors that do not fit.
            DataError: a query that is not finite, or a row that is no candidate.
        """

    def search(
        self, queries: Tensor, k: int, *, exclude: Jagged | None = None, allow: Jagged | None = None
    ) -> KeyedResult:
        """Find the best candidates as raw keys; arguments and errors are those of `search_ids`.

        Args:
            queries: `(batch, dim)`.
            k: how many.
            exclude: candidate rows that must not be returned.
            allow: the only candidate rows that may be returned.

        Returns:
            Scores and keys, `(batch, k)` each, best first.
        """
        scores, ids = self.search_ids(queries, k, exclude=exclude, allow=allow)
        return KeyedResult(scores, keys_of(self.keys, ids))

    @abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write the index, whole or not at all.

        Args:
            directory: replaced if it exists.
        """

    @classmethod
    @abstractmethod
    def load(cls, directory: str | Path) -> Self:
        """Read an index.

        Args:
            directory: what `save` wrote.

        Returns:
            An index with the same results, on the CPU.

        Raises:
            StorageError: files missing, damaged or of another kind.
        """

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.num_candidates:
            raise ConfigError(
                f"k in [1, {self.num_candidates}]",
                str(k),
                f"{type(self).__name__}.search",
                "there are not more candidates than that",
            )
