"""Choosing a recommender's index by the number of candidates, measured on what known queries look for."""

from dataclasses import replace
from typing import Final

import polars as pl
import torch
from torch import Tensor

from retrank.core.working import Working
from retrank.data.events import EventLog
from retrank.features.catalogue import Catalogue
from retrank.index.choice import LEAST_LISTED, IndexChoice, choose_index
from retrank.models.retrieval import RetrievalModel
from retrank.recommender.asked_queries import AskedQueries
from retrank.recommender.card import Card
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.query_features import QueryFeatures
from retrank.recommender.stages import query_encoder

__all__ = ["FACT", "card_with_index", "index_for", "index_sentence"]

FACT: Final = "index"
"""Under which of its facts a card says what index was chosen."""

_SAMPLE: Final = 500
_LOOKED_AT: Final = 2_000  # known queries; nothing may be known of many


def index_for(
    retrieval: FrozenModel[RetrievalModel],
    catalogue: Catalogue,
    known: QueryFeatures,
    events: EventLog,
) -> IndexChoice:
    """Embed all candidates and choose an index for them, on the CPU wherever the model is; see `choose_index`.

    Args:
        retrieval: the frozen model.
        catalogue: the candidates.
        known: the features of known queries, of which a sample is searched for.
        events: past events.
    """
    with Working(f"embedding and indexing {len(catalogue):,} candidates"):
        return choose_index(
            retrieval.model.embed_candidates(catalogue.batch).cpu(),
            catalogue.keys,
            lambda: _sample(retrieval, known, events),
            least_listed=LEAST_LISTED,
        )


def card_with_index(card: Card, choice: IndexChoice) -> Card:
    """Return a card that says what index was chosen, or nothing of it if that is the exact one.

    Args:
        card: what else a reader must know.
        choice: the index.
    """
    facts = {name: value for name, value in card.facts.items() if name != FACT}
    return replace(card, facts=facts if choice.facts is None else {**facts, FACT: choice.facts})


def index_sentence(card: Card) -> str:
    """Say how candidates are searched, if not exactly.

    Args:
        card: of a recommender.

    Example:
        >>> import retrank as rr
        >>> from retrank.recommender.index_choice import index_sentence
        >>> facts = {"kind": "Faiss", "factory": "IVF1024,SQ8", "effort": 12, "rescore": 2, "recall@10": 0.995,
        ...     "recall@100": 0.984, "queries": 500}
        >>> index_sentence(rr.recommender.Card("Songs", facts={"index": facts}))
        'Candidates are searched in 12 lists of IVF1024,SQ8: recall@10 0.995, recall@100 0.984 over 500 queries.'
    """
    facts = card.facts.get(FACT)
    if facts is None:
        return ""
    recall = ", ".join(f"{name} {value:.3f}" for name, value in facts.items() if name.startswith("recall@"))
    lists = f"{facts['effort']} list{'' if facts['effort'] == 1 else 's'} of {facts['factory']}"
    return f"Candidates are searched in {lists}: {recall} over {facts['queries']:,} queries."


@torch.no_grad()
def _sample(retrieval: FrozenModel[RetrievalModel], known: QueryFeatures, events: EventLog) -> Tensor:
    """Embed some of the known queries of which something is known, always the same ones."""
    places = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:_LOOKED_AT].sort().values
    keys = known.index.keys.gather(pl.Series(places.numpy()))
    log = torch.from_numpy(events.queries.find(keys))
    asked = AskedQueries(keys, places, log, {}, range(len(places)))
    asked = asked.take(known.usable(asked).nonzero()[:, 0])
    if not len(asked):
        return torch.empty(0, 1)
    batch, tells = known.read(asked)
    return query_encoder(retrieval)(batch.take(tells.nonzero()[:, 0][:_SAMPLE]))
