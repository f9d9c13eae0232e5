"""Training lists for a ranking model: what retrieval returns, with the one candidate that was then chosen."""

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.core.seeds import generator
from retrank.data.checks import require_columns
from retrank.data.sources import TableLike, frame
from retrank.features.catalogue import Catalogue
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.models.pairs import RETRIEVAL_SCORE
from retrank.models.reranker import POSITIVE, ROWS
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.stages import query_encoder, serving_index

__all__ = ["mine_lists"]

_BLOCK = 1024  # queries searched at once


def mine_lists(
    retrieval: RetrievalModel,
    space: FeatureSpace,
    catalogue: Catalogue,
    positives: TableLike,
    history: TableLike,
    *,
    features: list[str],
    k: int = 100,
    max_lists: int | None = None,
    seed: int = 0,
) -> Batch:
    """Retrieve for interactions that came after what the retrieval model was trained on.

    A model scores what it was trained on higher than anything new, so a ranking model must not learn from such lists:
    give `positives` that the model has not seen. Whatever else a query has in `history`, earlier or later, is left out
    of its lists, so that no liked candidate stands for a negative. A list that misses its positive is dropped: it
    cannot teach how to order what was retrieved.

    Args:
        retrieval: a model trained on earlier interactions.
        space: the feature space.
        catalogue: all candidates.
        positives: later interactions with all feature columns of the query, as they were at that time.
        history: all interactions of the queries.
        features: names of the query features that the ranking model needs.
        k: the length of a list.
        max_lists: retrieve for at most so many positives, drawn at random; None takes all.
        seed: of that draw.

    Returns:
        One row a list: the query features, `candidates` `(lists, k)` catalogue rows, `retrieval_score` `(lists, k)`
        and `positive` `(lists,)`, the place of the positive.

    Raises:
        ConfigError: k is not between 1 and the number of candidates.
        DataError: a column is missing, or no list holds its positive.
    """
    if not 1 <= k <= len(catalogue):
        raise ConfigError(f"k in [1, {len(catalogue)}]", str(k), "mine_lists", "there are not more candidates")
    query, candidate = (space.columns([name])[0] for name in (retrieval.query_id, retrieval.candidate_id))
    table = frame(positives)
    require_columns(table, [query, candidate], "positives")
    if max_lists is not None and max_lists < len(table):
        chosen = torch.randperm(len(table), generator=generator(seed, "mine_lists"))[:max_lists]
        table = table[chosen.sort().values.numpy()]
    seen = History(history, catalogue, query=query, candidate=candidate)
    names = list(dict.fromkeys([*retrieval.query_features, *features]))
    frozen = FrozenModel.of(retrieval, space)
    index, encode = serving_index(retrieval, catalogue), query_encoder(frozen)
    parts = []
    for start in range(0, len(table), _BLOCK):
        block = table[start : start + _BLOCK]
        batch, rows = space.transform(block, features=names), catalogue.rows(block[candidate])
        exclude = _without(seen[block[query]], rows)
        lists = index.search_rows(encode(batch), k, exclude=exclude)
        parts.append(_found(batch, features, lists, rows))
    if not sum(map(len, parts)):
        raise DataError("lists that hold their positive", "none", "mine_lists", "train retrieval longer, or raise k")
    return Batch.concat([part for part in parts if len(part)])


def _found(queries: Batch, features: list[str], lists: tuple[Tensor, Tensor], rows: Tensor) -> Batch:
    scores, candidates = lists
    is_positive = candidates == rows[:, None]
    kept = torch.nonzero(is_positive.any(dim=1) & (rows >= 0))[:, 0]
    found = {
        ROWS: candidates[kept],
        RETRIEVAL_SCORE: scores[kept],
        POSITIVE: is_positive[kept].int().argmax(dim=1),
    }
    taken = queries.take(kept)
    return Batch({**{name: taken[name] for name in features}, **found})


def _without(seen: Jagged, rows: Tensor) -> Jagged:
    owner = seen.row_index()
    others = seen.values != rows[owner]
    return Jagged.from_lengths(seen.values[others], torch.bincount(owner[others], minlength=len(seen)))
