"""How a list comes about, looked up once more for those who ask; nothing here is on the road of a request."""

from dataclasses import replace
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from retrank.core.jagged import Jagged
from retrank.recommender.answered_requests import answer_requests
from retrank.recommender.answers import MODELS, NO_ROWS, POPULAR, SIMILAR, Rules, answer, excluded_rows
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.baseline_parts import AnyParts, BaselineParts
from retrank.recommender.conditions import condition
from retrank.recommender.explanation import ExplainedCandidate, Explanation
from retrank.recommender.history_queries import HISTORY
from retrank.recommender.parts import Parts
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.request import Key, Request
from retrank.recommender.request_groups import joined, look_up
from retrank.recommender.rerank import Rerank
from retrank.recommender.rules import rows_of_keys

__all__ = ["explain"]

_MOST_REASONS: Final = 3
_LATEST: Final = 100  # of what a query has done, for a baseline: each is scored on its own
_ORIGINS: Final = {"popularity": POPULAR, "similar": SIMILAR}
_WITHOUT_RULES: Final = 100  # candidates of a baseline; of models, as many as are retrieved


@final
class _Past(NamedTuple):
    """What speaks for candidates.

    Attributes:
        keys: of what a query has done.
        values: `(past, listed)`, how much each speaks for each.
    """

    keys: list[Key]
    values: Tensor


def explain(parts: AnyParts, request: Request, found: RankedList | None = None) -> Explanation:
    """Explain the list of a request; see `Recommender.explain`.

    Args:
        parts: the recommender.
        request: the query and its rules.
        found: its list, if it is there already.

    Raises:
        DataError: what `recommend` refuses.
    """
    parts.require_own_process("an explanation")
    asked = joined(parts, [look_up(parts, request).query])
    found = _answered(parts, request) if found is None else found
    rows, origin = torch.tensor(found.rows, dtype=torch.int64), _ORIGINS.get(found.stage, MODELS)
    retrieval = parts.without_ranking()
    of_retrieval = None if origin == POPULAR else _scores(retrieval, asked, rows)
    of_ranking = _scores(parts, asked, rows) if origin == MODELS and parts.ranking is not None else None
    past = _past(parts, asked, rows, origin)
    popularity = torch.empty(len(parts.candidates), dtype=torch.int64)
    popularity[parts.popular.order] = torch.arange(1, len(popularity) + 1)
    all_keys = parts.candidates.catalogue.keys
    candidates = tuple(
        ExplainedCandidate(
            key,
            score,
            None if of_retrieval is None else float(of_retrieval[place]),
            None if of_ranking is None else float(of_ranking[place]),
            int(popularity[row]),
            _reasons(past, place, key),
        )
        for place, (key, score, row) in enumerate(zip(found.keys, found.scores, found.rows, strict=True))
    )
    forbidden = _forbidden(parts, asked, request)
    return Explanation(
        candidates,
        found.stage,
        _says(parts, origin, request.rerank),
        {rule: int(mask.sum()) for rule, mask in forbidden.items()},
        {
            all_keys[row : row + 1].tolist()[0]: rules
            for row in _without_rules(retrieval, asked)
            if (rules := tuple(rule for rule, mask in forbidden.items() if mask[row]))
        },
    )


def _answered(parts: AnyParts, request: Request) -> RankedList:
    (found,) = answer_requests(parts, [request])
    if isinstance(found, RankedList):
        return found
    raise found


def _says(parts: AnyParts, origin: int, rerank: Rerank | None) -> str:
    if rerank is None:
        return _made_by(parts, origin)
    named = {
        f"caps on {', '.join(rerank.caps)}": rerank.caps,
        "diversity": rerank.diversity,
        "boosts": rerank.boosts,
        "exploration": rerank.exploration,
    }
    return f"{_made_by(parts, origin)}, reranked by {', '.join(name for name, rule in named.items() if rule)}"


def _made_by(parts: AnyParts, origin: int) -> str:
    if origin == POPULAR:
        return "the popular candidates, since too little is known of the query"
    if isinstance(parts, BaselineParts):
        return f"{type(parts.baseline).__name__}, from what the query has done"
    model = type(parts.retrieval.model).__name__
    if origin != MODELS:
        return f"similar, to {model}, to what the query says that it has done"
    if parts.ranking is None:
        return f"retrieval by {model}"
    return f"retrieval by {model}, ranking by {type(parts.ranking.model).__name__}"


def _only(parts: AnyParts, rows: Tensor) -> Rules:
    """Return rules that leave some candidates, and ask for nothing else."""
    allowed = torch.zeros(len(parts.candidates), dtype=torch.bool)
    allowed[rows] = True
    k = max(len(rows), 1)
    return Rules(k, exclude_seen=False, allowed=allowed, denied=NO_ROWS, available=parts.candidates.available)


def _scores(parts: AnyParts, asked: AskedQueries, rows: Tensor) -> Tensor:
    """Score candidates, in their order: a score depends on its candidate alone, not on what else is asked for."""
    found = answer(parts, asked, _only(parts, rows))
    scores = torch.full((len(parts.candidates),), -torch.inf)
    there = found.rows[0] >= 0
    scores[found.rows[0][there]] = found.scores[0][there]
    return scores[rows]


def _without_rules(parts: AnyParts, asked: AskedQueries) -> list[int]:
    """Return the rows of the best candidates if there were no rules."""
    wanted = _WITHOUT_RULES if isinstance(parts, BaselineParts) else parts.num_retrieved
    k = min(wanted, len(parts.candidates))
    rows = answer(parts, asked, Rules(k, exclude_seen=False, allowed=None, denied=NO_ROWS, available=None)).rows[0]
    found: list[int] = rows[rows >= 0].tolist()
    return found


def _forbidden(parts: AnyParts, asked: AskedQueries, request: Request) -> dict[str, Tensor]:
    """Return which candidates each rule of a request leaves out."""
    table, forbidden = parts.candidates, {}

    def listed(rows: Tensor) -> Tensor:
        mask = torch.zeros(len(table), dtype=torch.bool)
        mask[rows] = True
        return mask

    if request.exclude_seen:
        seen = Rules(1, exclude_seen=True, allowed=None, denied=NO_ROWS, available=None)
        forbidden["seen"] = listed(excluded_rows(parts, asked, seen).values)
    if request.deny:
        forbidden["deny"] = listed(rows_of_keys(table.catalogue, request.deny))
    if request.allow is not None:
        forbidden["allow"] = ~table.allow_lists.mask(request.allow)
    if request.where is not None:
        forbidden["where"] = ~table.conditions.within(None).mask(condition(request.where, "where"))
    if table.available is not None:
        forbidden["unavailable"] = ~table.available
    if request.rerank is not None:
        certain = replace(request.rerank, exploration=None)
        kept = _answered(parts, replace(request, rerank=certain)).rows
        for rule, is_asked_for, others in (
            ("caps", certain.caps, replace(certain, caps={})),
            ("diversity", certain.diversity, replace(certain, diversity=0.0)),
            ("boosts", certain.boosts, replace(certain, boosts=())),
        ):
            if is_asked_for:
                without = _answered(parts, replace(request, rerank=others)).rows
                forbidden[rule] = listed(torch.tensor(sorted({*without} - {*kept}), dtype=torch.int64))
    return forbidden


def _past(parts: AnyParts, asked: AskedQueries, rows: Tensor, origin: int) -> _Past | None:
    if origin == POPULAR:
        return None
    if isinstance(parts, BaselineParts):
        return _contributions(parts, asked, rows)
    return _cosines(parts, asked, rows)


def _cosines(parts: Parts, asked: AskedQueries, rows: Tensor) -> _Past:
    """Compare candidates with what a query brings as its past, or else has in the log."""
    lists = [name for name in parts.queries.list_columns if name in asked.brought]
    if asked.histories is not None or lists:
        asked = replace(asked, events=torch.full_like(asked.events, -1))
    seen = Rules(1, exclude_seen=True, allowed=None, denied=NO_ROWS, available=None)
    past = torch.unique(excluded_rows(parts, asked, seen).values)
    values = parts.similar.embeddings(past) @ parts.similar.embeddings(rows).T
    return _Past(parts.candidates.catalogue.keys[past.numpy()].tolist(), values)


def _contributions(parts: BaselineParts, asked: AskedQueries, rows: Tensor) -> _Past:
    """Score what a query has one by one: the sum is its score, for a baseline that adds up."""
    batch, _ = parts.queries.read(asked)
    history = batch[HISTORY]
    latest = torch.topk(history.weights, min(_LATEST, len(history.values))).indices
    columns, weights = history.values[latest], history.weights[latest]
    values = torch.zeros(len(columns), len(rows))
    for place in range(len(columns)):
        alone = Jagged(columns[place : place + 1], torch.tensor([0, 1]), weights[place : place + 1])
        values[place] = parts.scores_of(alone, rows)
    return _Past(parts.baseline.candidates.gather(columns.numpy()).to_list(), values)


def _reasons(past: _Past | None, place: int, key: Key) -> tuple[tuple[Key, float], ...]:
    if past is None:
        return ()
    values = past.values[:, place].tolist()
    found = [(other, value) for other, value in zip(past.keys, values, strict=True) if value > 0 and other != key]
    return tuple(sorted(found, key=lambda reason: -reason[1])[:_MOST_REASONS])
