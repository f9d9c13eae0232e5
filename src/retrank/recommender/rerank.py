"""`Rerank`: business rules of a list: caps, diversity, boosts and exploration."""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

import polars as pl

from retrank.core.errors import ConfigError
from retrank.recommender.conditions import condition

__all__ = ["Boost", "Exploration", "Rerank"]


@final
@dataclass(frozen=True, eq=False)  # expressions have no truth of being equal
class Boost:
    """Adds to the scores of the candidates for which a condition is true.

    Args:
        where: a condition on the columns of the catalogue, as a polars expression or in SQL (kept as an expression).
        by: how much, in standard deviations of the scores of the list; negative to move candidates down.

    Raises:
        ConfigError: no condition, or a number that is not finite.

    Example:
        >>> import retrank as rr
        >>> rr.recommender.Boost("year >= 1995", by=0.5).by
        0.5
    """

    where: pl.Expr | str
    by: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", condition(self.where, "where of Boost"))
        object.__setattr__(self, "by", _number(self.by, "by of Boost"))


@final
@dataclass(frozen=True)
class Exploration:
    """Lets chance fill a place of a list, now and then, with a candidate that would not be shown.

    With a probability p, the candidate at the position gives way to one that is drawn uniformly from the n that could
    stand there: those that were retrieved and are not in the list, less those that would break a cap. So a candidate
    that is drawn had the probability p / n to be there, and the one that stays 1 - p (1 if n is 0). Every other place
    is certain. `RankedList.probabilities` has these numbers for each place: weights for an unbiased evaluation of
    another recommender from what users did with the lists of this one.

    Args:
        position: which place, from 1, as in `rank`.
        probability: p, in [0, 1].
        seed: the same request with the same seed gets the same list; queries are drawn for independently of each other.
            None draws anew each time.

    Raises:
        ConfigError: a position or a seed that is no integer of at least 1 or 0, or a number that is no probability.

    Example:
        >>> import retrank as rr
        >>> rr.recommender.Exploration(position=5, probability=0.1)
        Exploration(position=5, probability=0.1, seed=None)

    Source: inverse propensity scores; see Bottou et al., Counterfactual Reasoning and Learning Systems, JMLR 2013.
    """

    position: int
    probability: float
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _integer(self.position, 1, "position of Exploration"))
        probability = _number(self.probability, "probability of Exploration")
        if not 0 <= probability <= 1:
            raise ConfigError("a probability in [0, 1]", str(probability), "probability of Exploration")
        object.__setattr__(self, "probability", probability)
        if self.seed is not None:
            object.__setattr__(self, "seed", _integer(self.seed, 0, "seed of Exploration"))


@final
@dataclass(frozen=True, eq=False)
class Rerank:
    """Business rules of a list: first boosts, then caps and diversity together, and at last exploration.

    What is looked at are the best candidates by the scores of the last stage: as many as the recommender retrieves for
    ranking (`num_retrieved`; 100 for a baseline), or k if that is more. With boosts, also as many of those for which a
    boost's condition is true; or not true, where it moves candidates down. Where caps leave fewer than k, twice as many
    are looked at, and again, until the list is full or there are no more candidates.

    Args:
        caps: for columns of the catalogue, how many candidates of one value a list may hold; of a column of lists, each
            member counts. Null and NaN are not counted. The best candidates by score come first, those that would be
            too many are passed over.
        diversity: how much it counts that a candidate is unlike those that are chosen already, in [0, 1]. Each place
            goes to the largest `(1 - diversity) * relevance - diversity * similarity`. Relevance is the score, scaled
            to [0, 1] by the smallest and largest of those that are looked at; similarity is the largest cosine, of
            retrieval embeddings, with a candidate that is chosen already. 0 changes nothing.
        boosts: what is added to the scores. The standard deviation is that of the best candidates without boosts.
        exploration: a place that chance may fill; None for none.

    Raises:
        ConfigError: a value of another kind, a cap below 1, or a diversity outside of [0, 1].

    Example:
        >>> import retrank as rr
        >>> rr.recommender.Rerank(caps={"genre": 2}, diversity=0.3, boosts=[rr.recommender.Boost("year > 1995", by=1)])
        Rerank(caps={'genre': 2}, diversity=0.3, boosts=1, exploration=None)

    Source: diversity is maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998.
    """

    caps: Mapping[str, int] = field(default_factory=dict)
    diversity: float = 0.0
    boosts: Iterable[Boost] = ()
    exploration: Exploration | None = None

    def __post_init__(self) -> None:
        caps: object = self.caps
        if not isinstance(caps, Mapping) or not all(isinstance(name, str) for name in caps):
            raise ConfigError("columns and numbers", repr(caps), "caps of Rerank", 'write e.g. {"genre": 2}')
        object.__setattr__(self, "caps", {name: _integer(most, 1, f"caps of '{name}'") for name, most in caps.items()})
        diversity = _number(self.diversity, "diversity of Rerank")
        if not 0 <= diversity <= 1:
            raise ConfigError("diversity in [0, 1]", str(diversity), "diversity of Rerank")
        object.__setattr__(self, "diversity", diversity)
        given: object = self.boosts
        boosts = tuple(given) if isinstance(given, Iterable) else (given,)
        if not isinstance(given, Iterable) or not all(isinstance(boost, Boost) for boost in boosts):
            raise ConfigError("a list of rr.recommender.Boost", repr(given), "boosts of Rerank")
        object.__setattr__(self, "boosts", boosts)
        exploration: object = self.exploration
        if exploration is not None and not isinstance(exploration, Exploration):
            raise ConfigError("a rr.recommender.Exploration", repr(exploration), "exploration of Rerank")

    def __repr__(self) -> str:
        boosts = len(tuple(self.boosts))
        return f"Rerank(caps={self.caps}, diversity={self.diversity}, boosts={boosts}, exploration={self.exploration})"


def _number(given: object, where: str) -> float:
    is_number = isinstance(given, int | float) or hasattr(given, "__float__")
    if not is_number or isinstance(given, bool) or not math.isfinite(number := float(given)):  # type: ignore[arg-type]
        raise ConfigError("a finite number", repr(given), where)
    return number


def _integer(given: object, least: int, where: str) -> int:
    try:
        number = operator.index(given)  # type: ignore[arg-type]  # NumPy's integers too, but no float or text
    except TypeError:
        number = least - 1
    if number < least or isinstance(given, bool):
        raise ConfigError(f"an integer >= {least}", repr(given), where)
    return number
