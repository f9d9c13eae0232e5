"""Lists that follow business rules: what is looked at for them, and what is made of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrank.core.errors import ConfigError, DataError
from retrank.core.jagged import Jagged
from retrank.recommender.answers import Answers, Rules, answer
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.baseline_parts import AnyParts, BaselineParts
from retrank.recommender.caps import Caps
from retrank.recommender.conditions import condition
from retrank.recommender.exploring import explore
from retrank.recommender.request import Key
from retrank.recommender.rerank import Boost, Rerank
from retrank.recommender.rules import condition_text
from retrank.recommender.selection import select

__all__ = ["Wanted", "answer_reranked", "depth_of", "identity_of", "require_rerank"]

_DEPTH: Final = 100  # of what has no ranking


@final
class Wanted(NamedTuple):
    """What a query wants.

    Attributes:
        k: the length of its list.
        rerank: its business rules, or None.
        identity: what tells it from other queries.
    """

    k: int
    rerank: Rerank | None
    identity: str


def identity_of(key: Key | None, history: Iterable[Key] | None = None) -> str:
    """Return what tells a query from others.

    Args:
        key: its key; None if it has none.
        history: what it says that it has done.
    """
    return repr((key, None if history is None else tuple(history)))


def require_rerank(parts: AnyParts, rerank: Rerank) -> None:
    """Require that rules can be applied.

    Args:
        parts: the recommender.
        rerank: the rules.

    Raises:
        ConfigError: diversity without embeddings.
        DataError: a column that is not there or cannot be counted, or a condition that cannot be applied.
    """
    if rerank.diversity and isinstance(parts, BaselineParts):
        got, fix = f"the baseline {type(parts.baseline).__name__}", "leave diversity out, or cap a column"
        raise ConfigError("a recommender of models, whose embeddings say what is alike", got, "diversity", fix)
    if rerank.caps or rerank.boosts:
        parts.require_own_process("a list with caps or boosts")
    for column in rerank.caps:
        parts.candidates.members.of(column)
    for place, boost in enumerate(rerank.boosts):
        _mask(parts, boost, f"boost {place}")


def depth_of(parts: AnyParts, k: int, rerank: Rerank | None) -> int:
    """Return how many candidates are looked at for a list.

    Args:
        parts: the recommender.
        k: its length.
        rerank: its rules.
    """
    num_retrieved = _DEPTH if isinstance(parts, BaselineParts) else parts.num_retrieved
    return min(k if rerank is None else max(k, num_retrieved), len(parts.candidates))


def answer_reranked(parts: AnyParts, asked: AskedQueries, rules: Rules, wanted: Sequence[Wanted]) -> Answers:
    """Make the lists of queries that share rules but for those of `Rerank`.

    Args:
        parts: the recommender.
        asked: the queries.
        rules: of all their lists; their length does not matter.
        wanted: of each query.

    Returns:
        One list per query, all as wide as the longest.

    Raises:
        DataError: a value that a feature refuses, or a model whose output is not finite.
    """
    depths = [depth_of(parts, one.k, one.rerank) for one in wanted]
    found, lists = _made(parts, asked, rules, wanted, depths)
    width = min(max((one.k for one in wanted), default=1), len(parts.candidates))
    scores = np.full((len(wanted), width), -np.inf, np.float32)
    rows, probabilities = np.full((len(wanted), width), -1), np.ones((len(wanted), width))
    for query, one in enumerate(lists):
        length = len(one.rows)
        scores[query, :length], rows[query, :length] = one.scores, one.rows
        probabilities[query, :length] = one.probabilities
    return Answers(torch.from_numpy(scores), torch.from_numpy(rows), found.origins, torch.from_numpy(probabilities))


class _List(NamedTuple):
    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    probabilities: Sequence[float]


def _made(
    parts: AnyParts, asked: AskedQueries, rules: Rules, wanted: Sequence[Wanted], depths: Sequence[int]
) -> tuple[Answers, list[_List]]:
    """Make lists from what is found at some depth, or deeper."""
    found = answer(parts, asked, replace(rules, k=max(depths, default=1)))
    favored, pools = _favored(parts, asked, rules, wanted, depths), _pools(found, depths)
    made, short = list[_List](), list[int]()
    for query, (one, depth, best) in enumerate(zip(wanted, depths, pools, strict=True)):
        if one.rerank is None:
            made.append(_List(best.scores[: one.k], best.rows[: one.k], [1.0] * len(best.rows[: one.k])))
            continue
        made.append(_reranked(parts, one, one.rerank, best, favored.get(query, [])))
        if len(made[-1].rows) < one.k and len(best.rows) == depth < len(parts.candidates):
            short.append(query)
    if short:
        index = torch.tensor(short)
        deeper = [min(2 * depths[query], len(parts.candidates)) for query in short]
        again = _made(parts, asked.take(index), rules.take(index), [wanted[query] for query in short], deeper)[1]
        for query, one_list in zip(short, again, strict=True):
            made[query] = one_list
    return found, made


class _Pool(NamedTuple):
    """Candidates of one query, best first."""

    scores: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]


def _pools(answers: Answers, depths: Sequence[int]) -> list[_Pool]:
    scores, rows = answers.scores.numpy(), answers.rows.numpy()
    there = (rows >= 0).sum(axis=1).tolist()  # missing places are at the end
    lengths = map(min, there, depths)
    return [_Pool(scores[query, :length], rows[query, :length]) for query, length in enumerate(lengths)]


def _favored(
    parts: AnyParts, asked: AskedQueries, rules: Rules, wanted: Sequence[Wanted], depths: Sequence[int]
) -> Mapping[int, list[_Pool]]:
    """Find for each query the best of those that its boosts move up, or leave where they are while others move down."""
    owners: dict[tuple[object, bool], list[tuple[int, Boost]]] = {}
    for query, one in enumerate(wanted):
        for boost in () if one.rerank is None else one.rerank.boosts:
            text = condition_text(condition(boost.where, "where"))
            if boost.by:
                owners.setdefault((text or id(boost), boost.by > 0), []).append((query, boost))
    found: dict[int, list[_Pool]] = {}
    for (_, moves_up), of in owners.items():
        mask = _mask(parts, of[0][1], "boost")
        favored = mask if moves_up else ~mask
        queries = list(dict.fromkeys(query for query, _ in of))
        index = torch.tensor(queries)
        own, depth = rules.take(index), max(depths[query] for query in queries)
        allowed = favored if own.allowed is None else favored & own.allowed
        some = answer(parts, asked.take(index), replace(own, allowed=allowed, k=depth))
        for query, pool in zip(queries, _pools(some, [depths[query] for query in queries]), strict=True):
            found.setdefault(query, []).append(pool)
    return found


def _reranked(parts: AnyParts, wanted: Wanted, rerank: Rerank, best: _Pool, favored: Sequence[_Pool]) -> _List:
    pool = _boosted(parts, rerank, best, favored)
    members: dict[str, Jagged] = {column: parts.candidates.members.of(column) for column in rerank.caps}
    caps = Caps(rerank.caps, members, pool.rows)
    embeddings = None
    if rerank.diversity and len(pool.rows):
        assert not isinstance(parts, BaselineParts)  # see `require_rerank`
        embeddings = parts.similar.embeddings(torch.from_numpy(pool.rows)).double().numpy()
    chosen = select(pool.scores, wanted.k, caps, rerank.diversity, embeddings)
    probabilities = [1.0] * len(chosen)
    if rerank.exploration is not None:
        chosen, probabilities = explore(chosen, len(pool.rows), wanted.k, caps, rerank.exploration, wanted.identity)
    return _List(pool.scores[chosen], pool.rows[chosen], probabilities)


def _boosted(parts: AnyParts, rerank: Rerank, best: _Pool, favored: Sequence[_Pool]) -> _Pool:
    """Put together what is looked at, with boosts in the scores, best first."""
    if not rerank.boosts or not len(best.rows):
        return best
    rows = np.concatenate([best.rows, *(pool.rows for pool in favored)])
    scores = np.concatenate([best.scores, *(pool.scores for pool in favored)])
    first = np.sort(np.unique(rows, return_index=True)[1])  # each candidate once
    rows, scores = rows[first], scores[first]
    deviation, by = best.scores.astype(np.float64).std(), np.zeros(len(rows))
    for boost in rerank.boosts:
        by += boost.by * _mask(parts, boost, "boost").numpy()[rows]
    scores = (scores + by * deviation).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return _Pool(scores[order], rows[order])


def _mask(parts: AnyParts, boost: Boost, where: str) -> Tensor:
    expression = condition(boost.where, where)
    try:
        return parts.candidates.conditions.mask(expression)
    except DataError as error:
        raise DataError(error.expected, error.got, where, error.fix) from error
