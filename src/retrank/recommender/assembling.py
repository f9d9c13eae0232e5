"""From what a user gives to the parts of a recommender: of models, or of a baseline."""

from retrank.baselines.baseline import Baseline
from retrank.core.errors import ConfigError
from retrank.data.sources import TableLike, frame
from retrank.features.space import FeatureSpace
from retrank.index.index import Index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.baseline_parts import AnyParts, build_baseline_parts
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
        index: the candidates' embeddings; None for the exact index.
        card: what a reader must know; None for an empty one.

    Raises:
        ConfigError: models without a space, or a baseline with something that it does not read.
    """
    candidates, events, card = frame(catalogue), frame(history), card or Card("A recommender")
    if isinstance(retrieval, Baseline):
        others = {"space": space, "ranking": ranking, "queries": queries, "index": index}
        names = [f"{name}=" for name, value in others.items() if value is not None]
        if names:
            what = f"nothing but catalogue=, history=, time= and card= beside a baseline ({type(retrieval).__name__})"
            raise ConfigError(what, ", ".join(names), "Recommender", "leave it out: a baseline reads the history alone")
        own = retrieval.with_learned(retrieval.query, retrieval.candidates, retrieval.learned())
        return build_baseline_parts(own, candidates, events, time=time, card=card)
    if space is None:
        raise ConfigError("the fitted feature space of the models", "none", "Recommender", "pass space=")
    frozen = space.frozen()
    return build_parts(
        FrozenModel.of(retrieval, frozen),
        None if ranking is None else FrozenModel.of(ranking, frozen),
        frozen,
        candidates,
        events,
        None if queries is None else frame(queries),
        time=time,
        index=index,
        num_retrieved=num_retrieved,
        card=card,
    )
