"""`Exact`: the dot product with every candidate."""

from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrank.core.errors import DataError, StorageError
from retrank.core.files import atomic_directory, read_json, read_manifest, write_json, write_manifest
from retrank.core.jagged import Jagged
from retrank.index.blocks import ScoreBlocks
from retrank.index.filters import BlockFilter
from retrank.index.keys import KeysLike, RawKeys, raw_keys
from retrank.index.protocol import Index, SearchResult
from retrank.index.top_k import best_of_block, merge, nothing, unpack

__all__ = ["Exact"]

_FORMAT: Final = {"format": "retrank.index.exact", "version": 1}


@final
class Exact(Index):
    """An index that scores every candidate.

    The memory of a search does not depend on the length of the exclusions, and a query's result, to the last bit, does
    not depend on the batch in which it came.

    Args:
        embeddings: `(num_candidates, dim)` float32, float16 or bfloat16; kept in float32 on their device.
        keys: raw keys in row order, all integers or all strings; row numbers by default.

    Raises:
        ShapeError: embeddings of another shape or dtype.
        DataError: embeddings that are not finite; keys that are null, of mixed kinds or not distinct.

    Example:
        >>> import torch, retrank as rr
        >>> index = rr.index.Exact(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), keys=["a", "b", "c"])
        >>> scores, keys = index.search(torch.tensor([[2.0, 1.0]]), k=2)
        >>> scores.tolist(), keys.tolist()
        ([[3.0, 2.0]], [['c', 'a']])
        >>> seen = rr.Jagged.from_lists([[2]])
        >>> index.search(torch.tensor([[2.0, 1.0]]), k=3, exclude=seen).keys.tolist()
        [['a', 'b', None]]

    Source: `BruteForce` of TensorFlow Recommenders and Keras-RS.
    """

    def __init__(self, embeddings: Tensor, keys: KeysLike | None = None) -> None:
        self._blocks = ScoreBlocks(embeddings)
        broken = ~self._blocks.candidates.isfinite().all(dim=1)
        if bool(broken.any()):
            raise DataError(
                "finite embeddings", "NaN or infinity", f"embeddings, row {int(broken.nonzero()[0])}", "check the model"
            )
        self._keys = raw_keys(keys, self.num_candidates)

    @property
    def is_exact(self) -> bool:
        """True."""
        return True

    @property
    def keys(self) -> RawKeys:
        """The raw keys in row order: `(num_candidates,)` int64 tensor or array of `str`."""
        return self._keys

    @property
    def num_candidates(self) -> int:
        """How many candidates there are."""
        return self._blocks.num_candidates

    def search_ids(
        self, queries: Tensor, k: int, *, exclude: Jagged | None = None, allow: Jagged | None = None
    ) -> SearchResult:
        """Find the best candidates as rows; see `Index.search_ids`.

        Args:
            queries: `(batch, dim)` on the device of the embeddings.
            k: how many, at most `num_candidates`.
            exclude: candidate rows that must not be returned.
            allow: the only candidate rows that may be returned, one row a query or one row for all; `exclude` still
                holds.

        Returns:
            Scores and rows, `(batch, k)` each, best first, ties in row order.
        """
        self._check_k(k)
        chunks = self._blocks.chunks(queries)
        self._check_finite(queries)
        candidate_filter = BlockFilter(self._blocks, len(queries), exclude, allow)
        found = nothing(len(queries), k, self._blocks.device)
        for number, chunk in enumerate(chunks):
            best = found[number * self._blocks.chunk_rows :][: self._blocks.chunk_rows]
            for block in range(self._blocks.num_blocks):
                scores = self._blocks.scores(chunk, block)
                candidate_filter.apply(scores, number, block)
                best[:] = merge(best, best_of_block(scores[: len(best)], block * self._blocks.width, k))
        return SearchResult(*unpack(found))

    def save(self, directory: str | Path) -> None:
        """Write embeddings (safetensors), keys (safetensors or JSON) and a manifest with checksums.

        Args:
            directory: replaced as a whole if it exists.
        """
        tensors = {"embeddings": self._blocks.candidates.cpu().contiguous()}
        if isinstance(self._keys, Tensor):
            tensors["keys"] = self._keys.contiguous()
        with atomic_directory(directory) as draft:
            save_file(tensors, draft / "index.safetensors")
            if not isinstance(self._keys, Tensor):
                write_json(draft / "keys.json", self._keys.tolist())
            write_manifest(draft, _FORMAT)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read an index that `save` wrote.

        Args:
            directory: where it stands.

        Returns:
            An index with the same results, on the CPU.

        Raises:
            StorageError: files missing, damaged or of another kind.
        """
        directory = Path(directory)
        payload = read_manifest(directory)
        if payload != _FORMAT:
            raise StorageError(str(_FORMAT), str(payload), str(directory), "load it with the class that saved it")
        try:
            tensors = load_file(directory / "index.safetensors")
        except (OSError, SafetensorError) as error:
            raise StorageError("safetensors", str(error), str(directory), "save the index anew") from error
        keys: Any = tensors["keys"] if "keys" in tensors else np.array(read_json(directory / "keys.json"), dtype=object)
        return cls(tensors["embeddings"], keys)

    def _check_finite(self, queries: Tensor) -> None:
        unsafe = self._blocks.unsafe(queries)
        if bool(unsafe.any()):
            raise DataError(
                "finite scores",
                "a query that is not finite, or so large that its scores overflow",
                f"queries, row {int(unsafe.nonzero()[0])}",
                "check the model's output",
            )
