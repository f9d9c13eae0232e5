"""The stages of a recommendation: embed, retrieve, rank."""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from retrank.core.batch import Batch
from retrank.core.errors import DataError, ShapeError
from retrank.features.catalogue import Catalogue
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.pairs import Candidates, pair_batch
from retrank.models.retrieval import RetrievalModel
from retrank.ops.dense import has_independent_rows
from retrank.recommender.frozen import FrozenModel
from retrank.training.model import Model

__all__ = ["embed_queries", "rank", "serving_index"]

_QUERIES: Final = 32
_LISTS: Final = 32


def serving_index(model: RetrievalModel, catalogue: Catalogue) -> Index:
    """Embed all candidates into an exact index on the CPU, wherever the model is.

    Args:
        model: embeds the candidates.
        catalogue: the candidates.

    Returns:
        An index whose rows are those of the catalogue.
    """
    return model.build_index(catalogue, lambda embeddings, keys: Exact(embeddings.cpu(), keys))


def embed_queries(frozen: FrozenModel[RetrievalModel], queries: Batch) -> Tensor:
    """Embed queries, each to the same bits whatever else is embedded with it.

    A model whose rows may depend on each other gets blocks of one size; see `row_independence`.

    Args:
        frozen: the model.
        queries: transformed features.

    Returns:
        `(queries, dim)` on the CPU.
    """
    with torch.inference_mode():
        if frozen.is_row_independent and has_independent_rows():
            return frozen.model.query_embeddings(queries.to(frozen.device)).cpu()
        blocks = [_filled_up(queries[start : start + _QUERIES]) for start in range(0, len(queries), _QUERIES)]
        made = [frozen.model.query_embeddings(block.to(frozen.device)).cpu() for block in blocks]
    return (made[0] if len(made) == 1 else torch.cat(made))[: len(queries)]


def rank(frozen: FrozenModel[Model], queries: Batch, catalogue: Batch, retrieved: Candidates) -> Candidates:
    """Order retrieved candidates by a ranking model, each list to the same bits whatever else is ranked.

    Args:
        frozen: the model: `(pairs) -> (pairs,)` scores, bigger is better.
        queries: transformed query features, one row per query.
        catalogue: transformed candidate features, one row per candidate.
        retrieved: the lists to order.

    Returns:
        The same candidates by descending score of the model; equal scores keep the order of retrieval.

    Raises:
        ShapeError: the model did not return one score per pair.
        DataError: a score is not finite.
    """
    size = _LISTS if frozen.is_row_independent and has_independent_rows() else 1
    of_queries, of_candidates = frozen.needed(queries), frozen.needed(catalogue)
    scores = []
    for first in range(0, len(retrieved.rows), size):
        some = Candidates(*(part[first : first + size] for part in retrieved))
        pairs = pair_batch(of_queries[first : first + size], of_candidates, some)
        with torch.inference_mode():
            found = frozen.model(pairs.to(frozen.device)).float().cpu()
        if found.shape != (len(pairs),):
            expected, fix = f"one score per pair: ({len(pairs)},)", "return shape (batch,)"
            raise ShapeError(expected, str(tuple(found.shape)), "ranking model", fix)
        scores.append(found.view(len(some.rows), -1))
    return _ordered(scores[0] if len(scores) == 1 else torch.cat(scores), retrieved.rows)


def _ordered(scores: Tensor, rows: Tensor) -> Candidates:
    missing = rows < 0
    scores = scores.masked_fill(missing, -torch.inf)
    broken = ~(scores.isfinite() | missing)
    if bool(broken.any()):
        raise DataError(
            "finite scores", "NaN or infinity", f"ranking model, query {int(broken.any(dim=1).nonzero()[0])}"
        )
    ordered, places = torch.sort(scores, dim=1, descending=True, stable=True)
    return Candidates(ordered, rows.gather(1, places))


def _filled_up(block: Batch) -> Batch:
    if len(block) == _QUERIES:
        return block
    return block.take(pad(torch.arange(len(block)), (0, _QUERIES - len(block))))
