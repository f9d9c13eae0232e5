"""The stages of a recommendation: embed, retrieve, rank."""

from collections.abc import Callable
from functools import partial
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
from retrank.models.reranker import Reranker
from retrank.models.retrieval import RetrievalModel
from retrank.ops.dense import has_independent_rows
from retrank.recommender.frozen import FrozenModel
from retrank.training.model import Model

__all__ = ["ListScorer", "QueryEncoder", "list_scorer", "query_encoder", "rank", "serving_index"]

QueryEncoder = Callable[[Batch], Tensor]
"""From query features to `(queries, dim)`."""
ListScorer = Callable[[Batch, Candidates, int], Tensor]
"""From query features, lists of candidates and how many of these, from the first, are of the standard list, to
`(queries, k)` scores, bigger is better."""

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


def query_encoder(frozen: FrozenModel[RetrievalModel]) -> QueryEncoder:
    """Return what embeds queries, each to the same bits whatever else is embedded with it.

    A model whose rows may depend on each other gets blocks of one size; see `row_independence`. What a library makes of
    a row of such a block may yet depend on its place, in the last bit.

    Args:
        frozen: the model.

    Returns:
        A function of transformed features that returns `(queries, dim)` on the CPU.
    """
    if frozen.is_row_independent and has_independent_rows():
        encode = frozen.model.query_encoder()
    else:
        encode = partial(_in_blocks, frozen)

    def embed(queries: Batch) -> Tensor:
        with torch.inference_mode():
            return encode(queries)

    return embed


def list_scorer(frozen: FrozenModel[Model], catalogue: Batch) -> ListScorer:
    """Return what scores lists of candidates by a ranking model, each list to the same bits whatever else is scored.

    Args:
        frozen: the model: `(pairs) -> (pairs,)` scores, bigger is better. It may know better how to score lists, in a
            method `list_scorer`.
        catalogue: transformed candidate features, one row per candidate.

    Returns:
        A function of query features, lists and how many of them are standard that returns `(queries, k)` scores.
    """
    is_independent = frozen.is_row_independent and has_independent_rows()
    if is_independent and isinstance(frozen.model, Reranker):
        return frozen.model.list_scorer(catalogue)
    of_candidates, size = frozen.needed(catalogue), _LISTS if is_independent else 1

    def score(queries: Batch, lists: Candidates, num_standard: int) -> Tensor:
        of_queries, found = frozen.needed(queries), []
        for first in range(0, len(lists.rows), size):
            some = Candidates(*(part[first : first + size] for part in lists))
            pairs = pair_batch(of_queries[first : first + size], of_candidates, some, num_standard=num_standard)
            scores = frozen.model(pairs.to(frozen.device)).float().cpu()
            if scores.shape != (len(pairs),):
                expected, fix = f"one score per pair: ({len(pairs)},)", "return shape (batch,)"
                raise ShapeError(expected, str(tuple(scores.shape)), "ranking model", fix)
            found.append(scores.view(len(some.rows), -1))
        return found[0] if len(found) == 1 else torch.cat(found)

    return score


def rank(scorer: ListScorer, queries: Batch, retrieved: Candidates, standard: Candidates) -> Candidates:
    """Order retrieved candidates by a ranking model.

    What a model makes of a candidate may depend on the standard list of the query, and on nothing else that was
    retrieved: so a candidate gets the same score whatever was asked for.

    Args:
        scorer: of the model; see `list_scorer`.
        queries: transformed query features, one row per query.
        retrieved: the lists to order.
        standard: what retrieval finds for the queries whatever is asked for.

    Returns:
        The same candidates by descending score of the model; equal scores keep the order of retrieval.

    Raises:
        ShapeError: the model did not return one score per pair.
        DataError: a score is not finite.
    """
    with torch.inference_mode():
        num_standard = standard.rows.shape[1]
        begins_alike = (retrieved.rows[:, :num_standard] == standard.rows).all(dim=1)
        if bool(begins_alike.all()):
            return _ordered(scorer(queries, retrieved, num_standard), retrieved.rows)
        if not bool(begins_alike.any()):
            return _ordered(_scored_beside(scorer, queries, retrieved, standard), retrieved.rows)
        scores = torch.empty_like(retrieved.scores)
        some, others = begins_alike.nonzero()[:, 0], (~begins_alike).nonzero()[:, 0]
        scores[some] = scorer(queries.take(some), _take(retrieved, some), num_standard)
        scores[others] = _scored_beside(scorer, queries.take(others), _take(retrieved, others), _take(standard, others))
        return _ordered(scores, retrieved.rows)


def _scored_beside(scorer: ListScorer, queries: Batch, retrieved: Candidates, standard: Candidates) -> Tensor:
    """Score lists that do not begin with what is standard."""
    both = Candidates(*(torch.cat(sides, dim=1) for sides in zip(standard, retrieved, strict=True)))
    return scorer(queries, both, standard.rows.shape[1])[:, -retrieved.rows.shape[1] :]


def _take(lists: Candidates, index: Tensor) -> Candidates:
    return Candidates(lists.scores[index], lists.rows[index])


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


def _in_blocks(frozen: FrozenModel[RetrievalModel], queries: Batch) -> Tensor:
    blocks = [_filled_up(queries[start : start + _QUERIES]) for start in range(0, len(queries), _QUERIES)]
    made = [frozen.model.query_embeddings(block.to(frozen.device)).cpu() for block in blocks]
    return (made[0] if len(made) == 1 else torch.cat(made))[: len(queries)]


def _filled_up(block: Batch) -> Batch:
    if len(block) == _QUERIES:
        return block
    return block.take(pad(torch.arange(len(block)), (0, _QUERIES - len(block))))
