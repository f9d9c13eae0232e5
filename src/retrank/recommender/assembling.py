"""From what a user gives to the parts of a recommender: of models, or of a baseline."""

from collections.abc import Mapping

import polars as pl

from retrank.baselines.baseline import Baseline
from retrank.core.errors import ConfigError
from retrank.core.working import Working
from retrank.data.sources import TableLike, frame
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.baseline_parts import AnyParts, BaselineParts, build_baseline_parts
from retrank.recommender.building import build_parts
from retrank.recommender.card import Card
from retrank.recommender.frozen import FrozenModel
from retrank.training.model import Model

__all__ = ["assemble"]


def assemble(
    retrieval: RetrievalModel | Baseline,
    *,
    space: FeatureSpace | None,
    catalogue: TableLike,
    history: TableLike,
    ranking: Model | None,
    queries: TableLike | None,
    time: str | None,
    num_retrieved: int,
    index: Index | None,
    card: Card | None,
    progress: bool,
) -> AnyParts:
    """Freeze models or a baseline, and build what answers requests; the arguments are those of `Recommender`.

    Args:
        retrieval: the model that embeds, or a fitted baseline.
        space: the feature space of the models; None for a baseline.
        catalogue: the candidates.
        history: past events.
        ranking: the model that ranks, or None.
        queries: the features of known queries; None to take them from the events.
        time: the column of times.
        num_retrieved: how many candidates are retrieved for ranking.
        index: the candidates' embeddings; None to choose one by their number.
        card: what a reader must know; None for an empty one.
        progress: whether to show on a terminal what takes longer than a second.

    Raises:
        ConfigError: models without a space, or a baseline with something that it does not read.
    """
    if num_retrieved < 1:
        raise ConfigError("num_retrieved >= 1", str(num_retrieved), "Recommender")
    with Working("building a recommender", enabled=progress):
        card = card or Card("A recommender")
        if isinstance(retrieval, Baseline):
            others = {"space": space, "ranking": ranking, "queries": queries, "index": index}
            return _of_baseline(retrieval, frame(catalogue), frame(history), others, time=time, card=card)
        if space is None:
            raise ConfigError("the fitted feature space of the models", "none", "Recommender", "pass space=")
        frozen = space.frozen()
        return build_parts(
            FrozenModel.of(retrieval, frozen),
            None if ranking is None else FrozenModel.of(ranking, frozen),
            frozen,
            frame(catalogue),
            frame(history),
            None if queries is None else frame(queries),
            time=time,
            index=index,
            num_retrieved=num_retrieved,
            card=card,
        )


def _of_baseline(
    baseline: Baseline,
    candidates: pl.DataFrame,
    history: pl.DataFrame,
    others: Mapping[str, object],
    *,
    time: str | None,
    card: Card,
) -> BaselineParts:
    name, given = type(baseline).__name__, [f"{name}=" for name, value in others.items() if value is not None]
    if given:
        what = f"nothing but catalogue=, history=, time= and card= beside a baseline ({name})"
        raise ConfigError(what, ", ".join(given), "Recommender", "leave it out: a baseline reads the history alone")
    own = baseline.with_learned(baseline.query, baseline.candidates, baseline.learned())
    return build_baseline_parts(own, candidates, history, time=time, card=card)
