"""`Explanation`: where a list comes from, what speaks for each of its candidates, and what rules have left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from retrank.recommender.ranked_list import Stage
from retrank.recommender.request import Key

__all__ = ["ExplainedCandidate", "Explanation"]


@final
@dataclass(frozen=True)
class ExplainedCandidate:
    """Why a candidate is where it is.

    Args:
        key: its key.
        score: in the list.
        retrieval_score: what the retrieval model or the baseline gave, or the sum of cosines with a history; None in a
            list of popular candidates.
        ranking_score: what the ranking model gave; None without one.
        popularity_rank: its place, from 1, among all candidates by how many queries had them.
        reasons: up to three keys of what the query has done that speak for it most, each with its value: the cosine of
            the embeddings, or of a baseline what that alone adds to the score.
    """

    key: Key
    score: float
    retrieval_score: float | None
    ranking_score: float | None
    popularity_rank: int
    reasons: tuple[tuple[Key, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        return {
            "key": self.key,
            "score": self.score,
            "retrieval_score": self.retrieval_score,
            "ranking_score": self.ranking_score,
            "popularity_rank": self.popularity_rank,
            "reasons": [{"key": key, "value": value} for key, value in self.reasons],
        }


@final
@dataclass(frozen=True)
class Explanation:
    """A list, what each of its candidates owes its place to, and what rules have left out.

    Args:
        candidates: the list, best first.
        stage: which stage gave the scores.
        says: who made the list, in words.
        left_out: how many candidates each rule of the request leaves out on its own: "seen", "deny", "allow", "where",
            "unavailable"; and by "caps", "diversity" and "boosts" how many of the list that there would be without.
        removed: of the candidates that would be best without rules, those that are left out: each key with the rules
            that do so, best first.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": list("aabbbcc"), "song": list("xyxyzyz")})
        >>> songs = pl.DataFrame({"song": list("xyz"), "year": [1990, 2000, 2010]})
        >>> knn = rr.baselines.ItemKNN().fit(plays)
        >>> recommender = rr.Recommender(knn, catalogue=songs, history=plays)
        >>> why = recommender.explain(rr.recommender.Request({"user": "a"}, where="year >= 1995"))
        >>> why.says
        'ItemKNN, from what the query has done'
        >>> [(one.key, [key for key, _ in one.reasons]) for one in why.candidates]
        [('z', ['y', 'x'])]
        >>> why.left_out, why.removed
        ({'seen': 2, 'where': 1}, {'y': ('seen',), 'x': ('seen', 'where')})
    """

    candidates: tuple[ExplainedCandidate, ...]
    stage: Stage
    says: str
    left_out: Mapping[str, int]
    removed: Mapping[Key, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        return {
            "says": self.says,
            "stage": self.stage,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "left_out": dict(self.left_out),
            "removed": [{"key": key, "rules": list(rules)} for key, rules in self.removed.items()],
        }
