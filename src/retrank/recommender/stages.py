"""The stages of a recommendation: retrieve by features, or by popularity where features are missing; then rank."""

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.core.errors import DataError, ShapeError
from retrank.core.jagged import Jagged
from retrank.features.catalogue import Catalogue
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.pairs import Candidates, pair_batch
from retrank.models.retrieval import RetrievalModel

__all__ = ["by_popularity", "rank", "retrieve", "serving_index"]


def serving_index(model: RetrievalModel, catalogue: Catalogue) -> Index:
    """Embed all candidates into an exact index on the CPU, wherever the model is.

    Args:
        model: embeds the candidates.
        catalogue: the candidates.

    Returns:
        An index whose ids are catalogue rows.
    """
    return model.build_index(catalogue, lambda embeddings, keys: Exact(embeddings.cpu(), keys))


def retrieve(
    model: RetrievalModel,
    index: Index,
    queries: Batch,
    k: int,
    *,
    exclude: Jagged | None = None,
    allow: Tensor | None = None,
) -> Candidates:
    """Find the candidates whose embeddings fit a query best.

    Args:
        model: embeds the queries.
        index: holds the candidates' embeddings.
        queries: transformed features.
        k: the length of a list, at most the number of candidates.
        exclude: rows of the catalogue that a query must not get.
        allow: ascending rows of the catalogue that any query may get; None allows all.

    Returns:
        The lists.
    """
    embeddings = model.embed_queries(queries).cpu()
    allowed = None if allow is None else Jagged(allow, torch.tensor([0, len(allow)]))
    return Candidates(*index.search_rows(embeddings, k, exclude=exclude, allow=allowed))


def by_popularity(counts: Tensor, k: int, *, exclude: Jagged, allow: Tensor | None = None) -> Candidates:
    """List the most popular candidates for queries that nothing is known of.

    Args:
        counts: `(candidates,)` int64 interactions of each row of the catalogue.
        k: the length of a list.
        exclude: rows of the catalogue that a query must not get; its length is the number of queries.
        allow: ascending rows of the catalogue that any query may get; None allows all.

    Returns:
        The lists, with counts as scores; equal counts come in catalogue order.

    Example:
        >>> import torch, retrank as rr
        >>> nothing = rr.Jagged.empty(1)
        >>> rr.recommender.by_popularity(torch.tensor([1, 5, 3]), 2, exclude=nothing).rows.tolist()
        [[1, 2]]
    """
    order = torch.argsort(counts, descending=True, stable=True)
    if allow is not None:
        order = order[torch.isin(order, allow)]
    depth = min(k + _longest(exclude), len(order))
    rows = order[:depth].expand(len(exclude), -1)
    scores = counts[rows].to(torch.float32)
    excluded = torch.zeros(len(exclude), len(counts), dtype=torch.bool)
    excluded[exclude.row_index(), exclude.values] = True
    scores = scores.masked_fill(excluded.gather(1, rows), -torch.inf)
    return _padded(*_sorted(scores, rows), k)


def rank(model: nn.Module, queries: Batch, catalogue: Batch, retrieved: Candidates) -> Candidates:
    """Order retrieved candidates by a ranking model.

    Args:
        model: `(pairs) -> (pairs,)` scores, bigger is better.
        queries: transformed query features, one row a query.
        catalogue: transformed candidate features, one row a candidate.
        retrieved: the lists to order.

    Returns:
        The same candidates by descending score of the model; equal scores keep the order of retrieval.

    Raises:
        ShapeError: the model did not return one score a pair.
        DataError: a score is not finite.
    """
    pairs = pair_batch(queries, catalogue, retrieved)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    with torch.inference_mode():
        scores = model(pairs.to(device)).float().cpu()
    model.train(training)
    if scores.shape != (len(pairs),):
        raise ShapeError(
            f"one score a pair: ({len(pairs)},)", str(tuple(scores.shape)), "ranking model", "return shape (batch,)"
        )
    scores = scores.view_as(retrieved.rows).masked_fill(retrieved.rows < 0, -torch.inf)
    broken = (~scores.isfinite() & (retrieved.rows >= 0)).any(dim=1)
    if bool(broken.any()):
        raise DataError(
            "finite scores", "NaN or infinity", f"ranking model, query {int(broken.nonzero()[0])}", "check the model"
        )
    return Candidates(*_sorted(scores, retrieved.rows))


def _sorted(scores: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    ordered, places = torch.sort(scores, dim=1, descending=True, stable=True)
    return ordered, rows.gather(1, places).masked_fill(ordered == -torch.inf, -1)


def _padded(scores: Tensor, rows: Tensor, k: int) -> Candidates:
    missing = max(0, k - scores.shape[1])
    pad = nn.functional.pad
    return Candidates(pad(scores[:, :k], (0, missing), value=-torch.inf), pad(rows[:, :k], (0, missing), value=-1))


def _longest(jagged: Jagged) -> int:
    return int(jagged.lengths().max()) if len(jagged) else 0
