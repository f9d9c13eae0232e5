"""From requests to lists of catalogue rows: the road of a request, without a data frame on it."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import DataError
from retrank.core.jagged import Jagged
from retrank.data.keys import as_key
from retrank.models.pairs import Candidates
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.baseline_parts import AnyParts, BaselineParts
from retrank.recommender.conditions import condition
from retrank.recommender.history_queries import HISTORY
from retrank.recommender.request import Key, Request
from retrank.recommender.rules import as_allowed, rows_of_keys
from retrank.recommender.stages import rank

__all__ = [
    "MODELS",
    "NO_ROWS",
    "POPULAR",
    "SIMILAR",
    "Answers",
    "Rules",
    "answer",
    "excluded_rows",
    "rules_of",
    "similar_candidates",
]

MODELS: Final = 0
"""Origin of lists that the models, or the baseline, make."""
SIMILAR: Final = 1
"""Origin of lists of what is like a history that a query brings to a model that reads none."""
POPULAR: Final = 2
"""Origin of lists of popular candidates, since too little is known of a query."""
NO_ROWS: Final = Jagged.single(torch.zeros(0, dtype=torch.int64))
"""One list of rows, which is empty."""

_BLOCK: Final = 1024  # queries at once


@final
class Answers(NamedTuple):
    """Lists of candidates.

    Attributes:
        scores: `(queries, k)` float32, best first; -inf where a list is shorter.
        rows: `(queries, k)` int64 rows of the catalogue; -1 where a list is shorter.
        origins: `(queries,)` int64, where each list is from: `MODELS`, `SIMILAR` or `POPULAR`.
        probabilities: `(queries, k)` float64, of each candidate to be in its place; None where all are certain.
    """

    scores: Tensor
    rows: Tensor
    origins: Tensor
    probabilities: Tensor | None = None


@final
@dataclass(frozen=True)
class Rules:
    """What holds for the lists of some queries.

    Args:
        k: the length of the lists, at most the number of candidates.
        exclude_seen: whether to leave out what a query interacted with.
        allowed: `(candidates,)` bool, which available rows the condition and the allow-list leave, or `(queries,
            candidates)` for queries that differ in that; None for all.
        denied: rows that must not be recommended, one row of them per query or one for all queries.
        available: `(candidates,)` bool, which rows anyone may get; None for all.
    """

    k: int
    exclude_seen: bool
    allowed: Tensor | None
    denied: Jagged
    available: Tensor | None

    def denied_of(self, index: Tensor) -> Jagged:
        """Return the denied rows of some queries."""
        return self.denied.take(torch.zeros_like(index) if len(self.denied) == 1 else index)

    def take(self, index: Tensor) -> "Rules":
        """Return the rules of some queries."""
        is_shared = self.allowed is None or self.allowed.dim() == 1
        allowed = self.allowed if is_shared or self.allowed is None else self.allowed[index]
        return replace(self, allowed=allowed, denied=self.denied if len(self.denied) == 1 else self.denied_of(index))

    def standard(self, num_retrieved: int) -> "Rules":
        """Return the rules of standard lists, which hold what was not seen and no request has a say in."""
        return replace(self, k=num_retrieved, exclude_seen=True, allowed=self.available, denied=NO_ROWS)

    @property
    def are_standard(self) -> bool:
        """Whether lists of any length begin like standard ones."""
        return self.exclude_seen and self.allowed is self.available and not len(self.denied.values)


def rules_of(parts: AnyParts, request: Request) -> Rules:
    """Look up the rules of a request.

    Args:
        parts: the recommender.
        request: the rules; its query does not matter here.

    Raises:
        DataError: keys of another type, or a condition that cannot be applied.
    """
    allowed = available = parts.candidates.available
    if request.where is not None:
        parts.require_own_process("a condition")
        allowed = parts.candidates.conditions.mask(condition(request.where, "where"))
    if request.allow is not None:
        only = parts.candidates.allow_lists.mask(request.allow)
        allowed = only if allowed is None else only & allowed
    denied = Jagged.single(rows_of_keys(parts.candidates.catalogue, request.deny)) if request.deny else NO_ROWS
    return Rules(min(request.k, len(parts.candidates)), request.exclude_seen, allowed, denied, available)


def answer(parts: AnyParts, asked: AskedQueries, rules: Rules) -> Answers:
    """Make the lists of queries.

    Args:
        parts: the recommender.
        asked: the queries.
        rules: of all their lists.

    Returns:
        One list per query.

    Raises:
        DataError: a value that a feature refuses, or a model whose output is not finite.
    """
    if len(asked) > _BLOCK:
        blocks = torch.split(torch.arange(len(asked)), _BLOCK)
        made = [answer(parts, asked.take(some), rules.take(some))[:3] for some in blocks]
        return Answers(*map(torch.cat, zip(*made, strict=True)))
    if not len(asked):
        return Answers(torch.zeros(0, rules.k), torch.zeros(0, rules.k, dtype=torch.int64), torch.zeros(0).long())
    usable = parts.queries.usable(asked)
    batch = None
    if asked.brought or bool(usable.any()):  # what is brought is checked
        batch, tells = parts.queries.read(asked)
        usable &= tells
    origins = torch.where(usable, MODELS, POPULAR)
    if asked.histories is not None and not parts.queries.reads_histories:
        is_empty = asked.histories.candidate_rows().lengths() == 0
        origins = torch.where(asked.histories.is_brought, torch.where(is_empty, POPULAR, SIMILAR), origins)
    exclude = excluded_rows(parts, asked, rules)
    if bool((origins == origins[0]).all()):
        return Answers(*_of_origin(int(origins[0]), parts, asked, batch, exclude, rules), origins)
    scores = torch.empty(len(asked), rules.k)
    rows = torch.empty(len(asked), rules.k, dtype=torch.int64)
    for origin in torch.unique(origins).tolist():
        some = (origins == origin).nonzero()[:, 0]
        of_some = None if batch is None else batch.take(some)
        scores[some], rows[some] = _of_origin(
            origin, parts, asked.take(some), of_some, exclude.take(some), rules.take(some)
        )
    return Answers(scores, rows, origins)


def similar_candidates(parts: AnyParts, candidate: Key, request: Request) -> Answers:
    """List the candidates whose embeddings have the largest cosine with that of one, or that a baseline has with it.

    Args:
        parts: the recommender.
        candidate: its key.
        request: the rules of the list; its query does not matter here.

    Raises:
        ConfigError: a baseline that gives everyone the same.
        DataError: the key is no candidate's, or of another type.
    """
    catalogue, rules = parts.candidates.catalogue, rules_of(parts, request)
    row = int(catalogue.rows([as_key(candidate, catalogue.key_type, "candidate")])[0])
    if row < 0:
        raise DataError("the key of a candidate", repr(candidate), "candidate")
    gone = Jagged.single(torch.cat([rules.denied.values, torch.tensor([row])]))
    if isinstance(parts, BaselineParts):
        found = parts.like(row, rules.k, exclude=gone, allow=rules.allowed)
    else:
        found = parts.like(Jagged.single(torch.tensor([row])), rules.k, exclude=gone, allow=rules.allowed)
    return Answers(*found, torch.tensor([SIMILAR]))


def _of_origin(
    origin: int, parts: AnyParts, asked: AskedQueries, batch: Batch | None, exclude: Jagged, rules: Rules
) -> Candidates:
    if origin == POPULAR:
        return parts.popular.best(rules.k, exclude=exclude, allow=rules.allowed)
    if origin == SIMILAR:
        assert asked.histories is not None
        assert not isinstance(parts, BaselineParts)
        return parts.like(asked.histories.candidate_rows(), rules.k, exclude=exclude, allow=rules.allowed)
    assert batch is not None
    return _personal(parts, asked, batch, exclude, rules)


def _personal(parts: AnyParts, asked: AskedQueries, batch: Batch, exclude: Jagged, rules: Rules) -> Candidates:
    if isinstance(parts, BaselineParts):
        return parts.best(batch[HISTORY], rules.k, exclude=exclude, allow=rules.allowed)
    embeddings, allow = parts.query_encoder(batch), as_allowed(rules.allowed)
    if parts.list_scorer is None:
        return Candidates(*parts.index.search_rows(embeddings, rules.k, exclude=exclude, allow=allow))
    num_standard = min(parts.num_retrieved, len(parts.candidates))
    depth = max(rules.k, num_standard)
    lists = Candidates(*parts.index.search_rows(embeddings, depth, exclude=exclude, allow=allow))
    if rules.are_standard and (depth == num_standard or parts.index.is_exact):  # else a longer search may find others
        standard = Candidates(lists.scores[:, :num_standard], lists.rows[:, :num_standard])
    else:
        seen = excluded_rows(parts, asked, rules.standard(num_standard))
        found = parts.index.search_rows(embeddings, num_standard, exclude=seen, allow=rules.available)
        standard = Candidates(*found)
    ranked = rank(parts.list_scorer, batch, lists, standard)
    return Candidates(ranked.scores[:, : rules.k], ranked.rows[:, : rules.k])


def excluded_rows(parts: AnyParts, asked: AskedQueries, rules: Rules) -> Jagged:
    """Return the rows of the catalogue that each query must not get.

    Args:
        parts: the recommender.
        asked: the queries.
        rules: of their lists.

    Returns:
        A list of rows per query; one may be there twice.
    """
    found = []
    if len(rules.denied.values):
        found.append(rules.denied if len(asked) == len(rules.denied) else rules.denied_of(torch.arange(len(asked))))
    if rules.exclude_seen:
        found.append(parts.history.rows_of(parts.history.events.events(asked.events)))
        found += [
            _rows_of_lists(parts, asked.brought[name]) for name in parts.queries.list_columns if name in asked.brought
        ]
        if asked.histories is not None:
            found.append(asked.histories.candidate_rows())
    filled = [part for part in found if len(part.values)]
    if len(filled) < 2:
        return filled[0] if filled else Jagged.empty(len(asked))
    if len(asked) == 1:
        return Jagged.single(torch.cat([part.values for part in filled]))
    owners = torch.cat([part.row_index() for part in filled])
    return Jagged.group(owners, torch.cat([part.values for part in filled]), len(asked))


def _rows_of_lists(parts: AnyParts, lists: pl.Series) -> Jagged:
    """Return the catalogue rows of lists of candidate keys; keys that are no candidates fall out."""
    catalogue = parts.candidates.catalogue
    lengths = torch.from_numpy(lists.list.len().fill_null(0).cast(pl.Int64).to_numpy(writable=True))
    owners = torch.arange(len(lists)).repeat_interleave(lengths)
    rows = catalogue.rows(lists.filter(pl.Series((lengths > 0).numpy())).explode())
    return Jagged.group(owners[rows >= 0], rows[rows >= 0], len(lists))
