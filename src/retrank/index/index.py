"""What every index promises, and what a search returns."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.snapshots import Snapshot, read_directory
from retrank.core.values import built_from
from retrank.index.keys import KeysLike, RawKeys, find_rows, keys_of, same_keys
from retrank.ops.best_candidates import Allowed
from retrank.ops.score_checks import RowLists

__all__ = ["Index", "KeyedResult", "SearchResult"]


@final
class SearchResult(NamedTuple):
    """The best candidates of each query, as rows.

    Attributes:
        scores: `(batch, k)` float32, best first; -inf where fewer than k candidates were allowed.
        rows: `(batch, k)` int64 candidate rows; -1 where missing.
    """

    scores: Tensor
    rows: Tensor


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

    A candidate is named by its row in the embeddings that the index was built from, or by its raw key. Equal scores
    come in row order.

    An index is a value: nothing changes it, and any number of threads may search it at once. `with_added`,
    `with_updated` and `without` return another index and leave this one as it was. Added candidates get the rows after
    the last; where candidates are left out, later ones move up.

    Candidates with equal embeddings are all found, each once. A query that may have fewer than k candidates, or none,
    gets missing places at the end; no queries get no rows. One query alone finds what it finds among others. An
    approximate index keeps all of this, with ties in row order among what it found.

    Source: `TopK` of TensorFlow Recommenders. There k is fixed at export, exclusions need one static width, and an
    excluded candidate may come back; here k, exclusions and allow-lists are given with each call and hold always.
    """

    saved_as: ClassVar[str]
    """The name of the format that `save` writes, by which `load_index` finds the class."""

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
    def search_rows(
        self, queries: Tensor, k: int, *, exclude: RowLists | None = None, allow: Allowed | None = None
    ) -> SearchResult:
        """Find the best candidates as rows.

        Args:
            queries: `(batch, dim)` float32, float16 or bfloat16.
            k: how many, at most `num_candidates`.
            exclude: one list per query of candidate rows that must not be returned, of any length; a `Jagged` or a
                list of lists.
            allow: the only candidates that may be returned: a bool mask `(num_candidates,)`, or a `Jagged` of candidate
                rows, with one list for all queries or one per query; all by default. `exclude` still holds.

        Returns:
            Scores and rows, `(batch, k)` each, best first.

        Raises:
            ConfigError: k is not in `[1, num_candidates]`.
            ShapeError: tensors that do not fit.
            DataError: a query that is not finite, or a row that is no candidate.
        """

    def search(
        self, queries: Tensor, k: int, *, exclude: RowLists | None = None, allow: Allowed | None = None
    ) -> KeyedResult:
        """Find the best candidates as raw keys; arguments and errors are those of `search_rows`.

        Args:
            queries: `(batch, dim)`.
            k: how many.
            exclude: candidate rows that must not be returned.
            allow: the only candidates that may be returned.

        Returns:
            Scores and keys, `(batch, k)` each, best first.
        """
        scores, rows = self.search_rows(queries, k, exclude=exclude, allow=allow)
        return KeyedResult(scores, keys_of(self.keys, rows))

    def rows(self, keys: KeysLike) -> Tensor:
        """Look up candidates by their raw keys, e.g. to exclude them.

        Args:
            keys: any, repeats are allowed.

        Returns:
            `(len(keys),)` int64 rows, -1 where a key is no candidate's.

        Raises:
            DataError: integers asked of string keys, or the other way round.
        """
        return find_rows(self.keys, keys)

    def with_added(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index with more candidates, after the last.

        Args:
            embeddings: `(num_added, dim)`.
            keys: theirs, none of them in the index yet.

        Returns:
            Another index.

        Raises:
            ConfigError: an index of this kind cannot do it.
            ShapeError: embeddings that do not fit.
            DataError: a bad embedding, or a key that is in the index.
        """
        del embeddings, keys
        raise self._unchangeable("with_added")

    def with_updated(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index in which some candidates have other embeddings; all keep their rows.

        Args:
            embeddings: `(num_updated, dim)`.
            keys: whose they are, distinct.

        Returns:
            Another index.

        Raises:
            ConfigError: an index of this kind cannot do it.
            ShapeError: embeddings that do not fit.
            DataError: a bad embedding, or a key that is not in the index.
        """
        del embeddings, keys
        raise self._unchangeable("with_updated")

    def without(self, keys: KeysLike) -> Self:
        """Return an index that lacks some candidates; the rows of later ones move up.

        Args:
            keys: distinct.

        Returns:
            Another index.

        Raises:
            ConfigError: an index of this kind cannot do it.
            DataError: a key that is not in the index, or none would be left.
        """
        del keys
        raise self._unchangeable("without")

    def rebuilt(self, embeddings: Tensor, keys: KeysLike) -> Self:
        """Return an index of the same kind and settings over other candidates, or over all as a model embeds them now.

        Args:
            embeddings: `(num_candidates, dim)`.
            keys: whose they are, distinct.

        Returns:
            Another index.

        Raises:
            ConfigError: an index of this kind cannot do it.
            ShapeError: embeddings that do not fit.
            DataError: a bad embedding or key.
        """
        del embeddings, keys
        raise self._unchangeable("rebuilt")

    def evaluate(
        self,
        queries: Tensor,
        k: int,
        exact: "Index",
        *,
        exclude: RowLists | None = None,
        allow: Allowed | None = None,
    ) -> float:
        """Measure the recall against an exact index of the same candidates.

        A found candidate counts if its true score is at least that of the last exact result, less one part in a
        million: candidates that tie for the last place are equally good.

        Args:
            queries: `(batch, dim)`.
            k: how many are searched.
            exact: the judge, with the same keys in the same order.
            exclude: candidate rows that must not be returned.
            allow: the only candidates that may be returned.

        Returns:
            The share of exact results that were found, over all queries, in `[0, 1]`.

        Raises:
            ConfigError: the judge is not exact or holds other candidates, or k is not in `[1, num_candidates]`.
            DataError: there is nothing to find.

        Example:
            >>> import torch, retrank as rr
            >>> embeddings = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
            >>> exact, index = rr.index.Exact(embeddings), rr.index.Faiss(embeddings, factory="IVF16,Flat")
            >>> for effort in (1, 16):
            ...     print(f"{index.with_effort(effort).evaluate(embeddings[:100], k=10, exact=exact):.1f}")
            0.4
            1.0
        """
        if not exact.is_exact or not same_keys(self.keys, exact.keys):
            raise ConfigError(
                "an exact index of the same candidates",
                f"{type(exact).__name__} of {exact.num_candidates}",
                f"{type(self).__name__}.evaluate",
                "build rr.index.Exact from the same embeddings and keys",
            )
        truth = exact.search_rows(queries, k, exclude=exclude, allow=allow).scores
        found = self.search_rows(queries, k, exclude=exclude, allow=allow).rows
        there = found >= 0
        lists = Jagged.from_lengths(found[there], there.sum(dim=1))
        scores = exact.search_rows(queries, k, allow=lists).scores
        wanted = (truth > -torch.inf).sum(dim=1)
        if not bool(wanted.any()):
            raise DataError(
                "something to find", "no allowed candidate", "evaluate", "give queries, and allow candidates"
            )
        last = truth.gather(1, (wanted - 1).clamp(min=0)[:, None])
        good = (scores >= last - 1e-6 * last.abs()) & (scores > -torch.inf)
        hits = torch.minimum(good.sum(dim=1), wanted)
        return int(hits.sum()) / int(wanted.sum())

    @abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write the index, whole or not at all.

        Args:
            directory: replaced if it exists.
        """

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read an index.

        Args:
            directory: what `save` wrote.

        Returns:
            An index with the same results, on the CPU.

        Raises:
            StorageError: files missing, damaged or of another kind.
            MissingExtraError: the index needs an optional dependency that is not installed.
        """
        return read_directory(directory, cls._read)

    @classmethod
    @abstractmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Read an index from a directory that is held open; what it raises is reported as a fault of the directory.

        Args:
            snapshot: what `save` wrote.

        Returns:
            An index with the same results, on the CPU.
        """

    @classmethod
    def _read(cls, snapshot: Snapshot) -> Self:
        with built_from(str(snapshot.directory)):
            return cls.from_snapshot(snapshot)

    def _unchangeable(self, change: str) -> ConfigError:
        return ConfigError(
            f"an index that can be changed by {change}()",
            type(self).__name__,
            f"{type(self).__name__}.{change}",
            "build the index anew from the changed candidates",
        )

    def _check_k(self, k: int) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= self.num_candidates:
            raise ConfigError(
                f"k in [1, {self.num_candidates}]",
                repr(k),
                f"{type(self).__name__}.search",
                "there are not more candidates than that",
            )
