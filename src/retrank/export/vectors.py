"""The vectors of the candidates, for a vector database or a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from polars.io.plugins import register_io_source

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError, StorageError
from retrank.core.files import atomic_file
from retrank.recommender import Recommender

__all__ = ["VectorBatch", "vectors", "write_vectors"]

_VECTOR: Final = "vector"


@final
class VectorBatch(NamedTuple):
    """Some candidates.

    Attributes:
        keys: `(n,)` their keys.
        vectors: `(n, dim)` float32; the score of a query is their dot product with its embedding.
        payload: `(n,)` rows of the other columns of the catalogue.
    """

    keys: pl.Series
    vectors: npt.NDArray[np.float32]
    payload: pl.DataFrame


def vectors(recommender: Recommender, *, batch_size: int = 1024) -> Iterator[VectorBatch]:
    """Embed the candidates of a recommender, some at a time.

    Args:
        recommender: one with models.
        batch_size: how many at a time.

    Yields:
        All candidates that are available, in the order of the catalogue.

    Raises:
        ConfigError: a baseline, which has no vectors, or a size below 1.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyxzyz")})
        >>> songs = pl.DataFrame({"song": list("xyz"), "year": [1990, 2000, 2010]})
        >>> names = {"user": rr.features.Categorical(), "song": rr.features.Categorical()}
        >>> space = rr.FeatureSpace(names).fit(plays)
        >>> model = rr.models.MatrixFactorization(
        ...     space.schema["user"], space.schema["song"], dim=4, task=rr.tasks.Retrieval())
        >>> recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=plays)
        >>> for keys, vectors, payload in rr.export.vectors(recommender, batch_size=2):
        ...     print(keys.to_list(), vectors.shape, payload.columns)
        ['x', 'y'] (2, 5) ['year']
        ['z'] (1, 5) ['year']
    """
    check_count(batch_size, "batch_size", "export.vectors")
    catalogue, table, key = recommender.catalogue, recommender.candidates, recommender.candidate
    is_available = ~table[key].is_in(recommender.unavailable.implode())
    for rows in torch.split(torch.from_numpy(is_available.to_numpy(writable=True)).nonzero()[:, 0], batch_size):
        made = recommender.retrieval.embed_candidates(catalogue.batch.take(rows)).cpu().numpy()
        some = table[rows.numpy()]
        yield VectorBatch(some[key], made, some.drop(key))


def write_vectors(recommender: Recommender, path: str | Path, *, batch_size: int = 65_536) -> None:
    """Write the vectors of the candidates to a Parquet file, whole or not at all, with few of them in memory.

    Args:
        recommender: one with models.
        path: the file. It has the columns of the catalogue and `vector`, arrays of float32, and those candidates alone
            that are available.
        batch_size: how many candidates at a time.

    Raises:
        ConfigError: a baseline, a column of the catalogue that is called `vector`, or a size below 1.
        StorageError: the file cannot be written.
    """
    table = recommender.candidates
    if _VECTOR in table.columns:
        raise ConfigError(f"columns of other names than '{_VECTOR}'", str(table.columns), "catalogue", "rename it")
    width = recommender.retrieval.embed_candidates(recommender.catalogue.batch[:1]).shape[1]
    schema = {**table.schema, _VECTOR: pl.Array(pl.Float32, width)}

    def frames(columns: list[str] | None, _where: object, rows: int | None, _size: object) -> Iterator[pl.DataFrame]:
        del columns, rows  # all are written
        for keys, made, payload in vectors(recommender, batch_size=batch_size):
            column = pl.Series(_VECTOR, made, dtype=schema[_VECTOR])
            yield payload.with_columns(keys, column).select(list(schema))

    with atomic_file(path) as draft:
        try:
            register_io_source(frames, schema=pl.Schema(schema)).sink_parquet(draft)
        except pl.exceptions.ComputeError as error:
            raise StorageError("a file that can be written", str(error), str(path)) from error
