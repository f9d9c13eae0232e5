"""`synthetic`: learnable worlds of any size whose right answers are known."""

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from retrank.core.errors import ConfigError, DataError
from retrank.datasets.alias_table import AliasTable

__all__ = ["SyntheticWorld", "synthetic"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_SHOWN: Final = 32
_BLOCK: Final = 2048  # choices at once, whose candidates stay in the cache
_SCORES: Final = 2**22
_FIRST_SECOND: Final = 1_700_000_000
_SECONDS: Final = 180 * 86_400
_STAR_SHARES: Final = (0.06, 0.11, 0.27, 0.34, 0.22)  # of 1 to 5 stars, about as in MovieLens


@final
@dataclass(frozen=True, eq=False, repr=False)
class SyntheticWorld:
    """Interactions and features drawn from known preferences.

    Query i has the key i; candidate j has the key `num_queries + j`, so that no key is both.

    Args:
        interactions: in order of time: `query_id`, `candidate_id` (int64), `timestamp` (int64, seconds), `rating`
            (float32, 1 to 5), `label` (float32, 1 for 4 stars and more).
        queries: `query_id`, `group` (text), `level` (float32), which tell something about the preferences.
        candidates: `candidate_id`, `category` (text), `tags` (list of text, may be empty), `price` (float32), likewise.
        query_vectors: `(num_queries, dim)` float32, the true preferences, of length 1.
        candidate_vectors: `(num_candidates, dim)` float32, the true properties, of length 1.
        popularity: `(num_candidates,)` float64, the probability of being shown; it is no part of the preferences.
        name: `"synthetic"`.
    """

    interactions: pl.DataFrame
    queries: pl.DataFrame
    candidates: pl.DataFrame
    query_vectors: Floats
    candidate_vectors: Floats
    popularity: NDArray[np.float64]
    name: str = "synthetic"

    def __repr__(self) -> str:
        return (
            f"SyntheticWorld({self.interactions.height} interactions, "
            f"{len(self.query_vectors)} queries, {len(self.candidate_vectors)} candidates)"
        )

    def affinity(self, queries: Any, candidates: Any) -> Floats:
        """Return how much queries truly like candidates, pair by pair.

        Args:
            queries: `(n,)` query keys.
            candidates: `(n,)` candidate keys.

        Returns:
            `(n,)` float32 in [-1, 1].

        Raises:
            DataError: an unknown key.
        """
        query_rows, rows = self._query_rows(queries), self._candidate_rows(candidates)
        affinity: Floats = np.einsum("nd,nd->n", self.query_vectors[query_rows], self.candidate_vectors[rows])
        return affinity

    def best(self, queries: Any, k: int) -> Ints:
        """Return the candidates that queries truly like best.

        Args:
            queries: `(n,)` query keys.
            k: candidates of each.

        Returns:
            `(n, k)` candidate keys, best first.

        Raises:
            DataError: an unknown key.
            ConfigError: more candidates than there are.
        """
        num_queries, num_candidates = len(self.query_vectors), len(self.candidate_vectors)
        if not 1 <= k <= num_candidates:
            raise ConfigError(f"1 to {num_candidates} candidates", str(k), "k")
        rows = self._query_rows(queries)
        best = np.empty((len(rows), k), dtype=np.int64)
        step = max(1, _SCORES // num_candidates)
        for start in range(0, len(rows), step):
            scores = self.query_vectors[rows[start : start + step]] @ self.candidate_vectors.T
            top = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
            best[start : start + step] = np.take_along_axis(top, order, axis=1)
        return best + num_queries

    def _query_rows(self, keys: Any) -> Ints:
        return _rows(keys, 0, len(self.query_vectors), "query_id")

    def _candidate_rows(self, keys: Any) -> Ints:
        return _rows(keys, len(self.query_vectors), len(self.candidate_vectors), "candidate_id")


def synthetic(
    num_queries: int,
    num_candidates: int,
    num_interactions: int,
    *,
    seed: int,
    dim: int = 8,
    temperature: float = 0.1,
    popularity: float = 0.8,
) -> SyntheticWorld:
    """Make a world of any size.

    Each interaction: a query is shown 32 candidates, drawn by popularity, and takes one with probability
    proportional to `exp(affinity / temperature)`. Popular candidates are thus taken more often without being liked
    more: a model that corrects for it finds the affinity. Queries and candidates are drawn independently, so that a
    model that mixes them up finds nothing. With at least as many interactions as queries, every query has one.

    Args:
        num_queries: queries of the world.
        num_candidates: candidates of the world.
        num_interactions: rows; a pair may come more than once.
        seed: of everything; the same arguments give the same world.
        dim: length of the true vectors, at least 2.
        temperature: lower makes the queries choosier.
        popularity: exponent of the power law by which candidates are shown; 0 shows all alike.

    Returns:
        The world.

    Raises:
        ConfigError: a size below its minimum, or a temperature or popularity out of range.

    Example:
        >>> import retrank as rr
        >>> world = rr.datasets.synthetic(100, 50, 1000, seed=1)
        >>> world
        SyntheticWorld(1000 interactions, 100 queries, 50 candidates)
        >>> world.best([3, 4], k=2).shape
        (2, 2)
    """
    sizes = {
        "num_queries": num_queries,
        "num_candidates": num_candidates,
        "num_interactions": num_interactions,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError("at least 1", str(size), name)
    if dim < 2:
        raise ConfigError("at least 2", str(dim), "dim", "with one dimension all candidates tie")
    if not temperature > 0 or not popularity >= 0:
        got = f"temperature={temperature}, popularity={popularity}"
        raise ConfigError("temperature > 0 and popularity >= 0", got, "synthetic")
    rng = np.random.default_rng(seed)
    query_groups, query_vectors = _vectors(num_queries, dim, rng)
    categories, candidate_vectors = _vectors(num_candidates, dim, rng)
    shown = rng.permutation(np.arange(1.0, num_candidates + 1) ** -popularity)
    shown /= shown.sum()
    query_rows = _active(num_queries, num_interactions, rng)
    rows, affinity = _choose(query_vectors, candidate_vectors, query_rows, shown, temperature, rng)
    noisy = affinity + rng.normal(0.0, 0.15, num_interactions).astype(np.float32)
    rating = 1 + np.searchsorted(np.quantile(noisy, np.cumsum(_STAR_SHARES)[:-1]), noisy).astype(np.float32)
    interactions = pl.DataFrame(
        {
            "query_id": query_rows,
            "candidate_id": num_queries + rows,
            "timestamp": np.sort(rng.integers(_FIRST_SECOND, _FIRST_SECOND + _SECONDS, num_interactions)),
            "rating": rating,
            "label": (rating >= 4).astype(np.float32),
        }
    )
    queries = pl.DataFrame(
        {
            "query_id": np.arange(num_queries),
            "group": _names("group", query_groups),
            "level": _seen(query_vectors[:, 0], rng),
        }
    )
    candidates = pl.DataFrame(
        {
            "candidate_id": num_queries + np.arange(num_candidates),
            "category": _names("category", categories),
            "tags": _tags(candidate_vectors),
            "price": np.exp(_seen(candidate_vectors[:, 0], rng)),
        }
    )
    return SyntheticWorld(interactions, queries, candidates, query_vectors, candidate_vectors, shown)


def _vectors(num_rows: int, dim: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw unit vectors around a few centers; return the center of each and the vectors."""
    centers = rng.standard_normal((2 * dim, dim), dtype=np.float32)
    groups = rng.integers(2 * dim, size=num_rows)
    vectors = centers[groups] + rng.standard_normal((num_rows, dim), dtype=np.float32)
    return groups, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _active(num_queries: int, num_interactions: int, rng: np.random.Generator) -> Ints:
    """Draw the query of each interaction: all once, the rest by a power law of activity."""
    activity = AliasTable(rng.permutation(np.arange(1.0, num_queries + 1) ** -0.5))
    more = activity.draw(max(num_interactions - num_queries, 0), rng)
    return rng.permutation(np.concatenate([rng.permutation(num_queries), more])[:num_interactions])


def _choose(
    query_vectors: Floats,
    candidate_vectors: Floats,
    query_rows: Ints,
    shown: NDArray[np.float64],
    temperature: float,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """Let each query choose among the candidates it is shown; return their rows and affinities."""
    popular = AliasTable(shown)
    rows, affinity = np.empty(len(query_rows), np.int64), np.empty(len(query_rows), np.float32)
    for start in range(0, len(query_rows), _BLOCK):
        queries = query_vectors[query_rows[start : start + _BLOCK]]
        slate = popular.draw((len(queries), _SHOWN), rng)
        vectors = candidate_vectors.take(slate, axis=0, mode="clip")
        scores = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        choice = _softmax_draw(np.ascontiguousarray(scores.T), temperature, rng)[:, None]
        rows[start : start + _BLOCK] = np.take_along_axis(slate, choice, axis=1)[:, 0]
        affinity[start : start + _BLOCK] = np.take_along_axis(scores, choice, axis=1)[:, 0]
    return rows, affinity


def _softmax_draw(scores: Floats, temperature: float, rng: np.random.Generator) -> Ints:
    """Draw a row of each column with probability proportional to `exp(score / temperature)`."""
    weights = scores - scores.max(axis=0)
    weights /= temperature
    np.exp(weights, out=weights)
    for row in range(1, len(weights)):
        weights[row] += weights[row - 1]
    # in (0, total], so that it falls upon a row, and upon none whose weight is 0
    places = weights[-1] * (1 - rng.random(weights.shape[1], dtype=np.float32))
    rows: Ints = np.add.reduce(weights < places, axis=0, dtype=np.int64)
    return rows


def _names(prefix: str, numbers: Ints) -> pl.Series:
    return pl.Series([f"{prefix}-{number}" for number in range(numbers.max() + 1)]).gather(numbers)


def _seen(values: Floats, rng: np.random.Generator) -> Floats:
    """Blur what a feature shows of the truth."""
    return values + rng.normal(0.0, 0.2, len(values)).astype(np.float32)


def _tags(vectors: Floats) -> pl.Series:
    """Name the directions in which a vector is long."""
    dim = vectors.shape[1]
    table = pl.from_numpy(vectors, schema=[str(column) for column in range(dim)])
    long = [pl.when(pl.col(str(column)) > dim**-0.5).then(pl.lit(f"tag-{column}")) for column in range(dim)]
    return table.select(tags=pl.concat_list(long).list.drop_nulls())["tags"]


def _rows(keys: Any, first: int, count: int, column: str) -> Ints:
    given = np.asarray(keys)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        got = f"{given.dtype} of shape {given.shape}"
        raise DataError("a row of integer keys", got, column, f"pass e.g. world.interactions['{column}']")
    rows = given.astype(np.int64) - first
    unknown = np.flatnonzero((rows < 0) | (rows >= count))
    if len(unknown):
        place = unknown[0]
        where = f"{column}, row {place}"
        raise DataError(f"a key from {first} to {first + count - 1}", str(given[place]), where)
    return rows
