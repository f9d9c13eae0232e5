"""The models of an update: grown, and trained on."""

from dataclasses import dataclass
from typing import Final, TypeVar, final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.jagged import Jagged
from retrank.core.schema import NUM_SPECIAL_IDS, UNKNOWN_ID
from retrank.core.seeds import derive_seed
from retrank.data.loader import Loader
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.catalogue import Catalogue
from retrank.features.categorical import VocabularyFeature
from retrank.features.history import History
from retrank.features.space import FeatureSpace
from retrank.models.reranker import Reranker
from retrank.models.retrieval import RetrievalModel
from retrank.models.tower import Tower
from retrank.optim.lazy_adam import LazyAdam
from retrank.optim.spec import OptimizerSpec
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.mining import mine_lists
from retrank.recommender.recommender import Recommender
from retrank.recommender.update_tables import UpdateTables
from retrank.training.device import model_device
from retrank.training.model import Model
from retrank.training.schedules import linear_decay

__all__ = ["ModelUpdate", "reads_past"]

AnyModel = TypeVar("AnyModel", bound=Model)

_LISTS: Final = 64  # of a batch that a reranker learns from


@final
@dataclass(frozen=True)
class ModelUpdate:
    """Grows and trains copies of a recommender's models.

    Args:
        before: the recommender, which stays as it is.
        tables: the events to learn from, and the features of queries and candidates.
        space: the grown feature space.
        catalogue: all candidates, as it transforms them.
        seed: of everything that is drawn.
        progress: whether training shows bars.
    """

    before: Recommender
    tables: UpdateTables
    space: FeatureSpace
    catalogue: Catalogue
    seed: int
    progress: bool

    def grown(self, model: AnyModel) -> AnyModel:
        """Return a grown copy of a model, to be trained.

        Raises:
            ConfigError: a part of the model cannot grow.
        """
        copied = FrozenModel.of(model, self.before.space).model.requires_grad_(True)
        device = model_device(copied)
        knows_candidates = any(getattr(part, "catalogue", None) is not None for part in copied.modules())
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self.seed, "update"))
            copied.grow(self.space, self.catalogue if knows_candidates else None)
        return copied

    def grown_ranking(self, model: AnyModel) -> AnyModel:
        """Return a grown copy of a ranking model, which scores new keys as it scored unknown ones.

        Raises:
            ConfigError: a part of the model cannot grow.
        """
        copied = self.grown(model)
        for old, new in zip(model.modules(), copied.modules(), strict=True):
            if isinstance(old, EmbeddingTable) and isinstance(new, EmbeddingTable) and new.column is not None:
                new.weight.data[old.num_ids :] = new.weight.data[UNKNOWN_ID]
        return copied

    def train_retrieval(
        self, model: RetrievalModel, rows: pl.DataFrame, *, epochs: int, optimizer: OptimizerSpec, batch_size: int
    ) -> None:
        """Train on rows, in place; negatives are corrected for how often these rows hold them.

        Each weight then goes back a part of the way that it has come. The few rows of an update pull at what many have
        made, with steps that do not know of those, and what they pull too far, nothing pulls back before the next
        update. So a weight that has been learned from N rows, n of them in this update, keeps sqrt(n / N) of its way:
        a key's vector by the rows that hold the key, what all share by all rows. New keys keep all of theirs.

        Args:
            model: the grown copy.
            rows: new and replayed events with their features.
            epochs: passes over them.
            optimizer: how weights are updated.
            batch_size: rows of a batch.
        """
        batch = self.space.transform(rows, features=list(model.features))
        kept = model.frequencies.counts
        if kept is not None:
            ids: Tensor = batch[model.candidate_id]
            model.use_counts(np.bincount(ids.numpy(), minlength=model.frequencies.num_ids)[NUM_SPECIAL_IDS:])
        loader = Loader(batch, batch_size, shuffle=True, seed=self.seed)
        self._fit(model, loader, optimizer, epochs)
        self._go_back(model, batch)
        if kept is not None:
            model.use_counts(kept)

    def train_ranking(self, model: Reranker, retrieval: RetrievalModel, rows: pl.DataFrame, epochs: int) -> None:
        """Train on what retrieval returns for new events, in place.

        Args:
            model: the grown copy.
            retrieval: the retrieval model, before it has seen these events.
            rows: the new events with their features.
            epochs: passes over the lists.

        Raises:
            DataError: no list holds its positive.
        """
        lists = mine_lists(
            retrieval,
            self.space,
            self.catalogue,
            rows,
            self.tables.events.table(),
            features=model.query_features,
            k=min(self.before.num_retrieved, len(self.catalogue)),
            seed=self.seed,
        )
        self._fit(model, Loader(lists, _LISTS, shuffle=True, seed=self.seed), LazyAdam(lr=0.001), epochs)

    def count_co_occurrences(self, model: Reranker) -> None:
        """Let a reranker count again what occurs together, over the whole history, in place."""
        if model.co_occurrence is not None:
            history = History.of(self.tables.events, self.catalogue)
            queries, rows = history.matrix()
            ids = self.catalogue.batch[model.candidate_id][rows]
            model.co_occurrence.fit(Jagged.from_lengths(ids, torch.bincount(queries, minlength=len(history))))

    @torch.no_grad()
    def _go_back(self, model: RetrievalModel, learned: Batch) -> None:
        of_all = torch.tensor(min(1.0, len(learned) / len(self.tables.events)))
        shares = {
            f"{name}.weight": self._share_of_each_key(part.column, learned)
            for name, part in model.named_modules()
            if isinstance(part, EmbeddingTable)
        }
        old = dict(self.before.retrieval.named_parameters())
        for name, weight in model.named_parameters():
            share = shares.get(name)
            part = (of_all if share is None else share[: len(old[name]), None]).sqrt().to(weight)
            there_before = weight[tuple(slice(size) for size in old[name].shape)]
            there_before.copy_(old[name].lerp(there_before, part))  # equal weights stay equal, to the last bit

    def _share_of_each_key(self, column: str | None, learned: Batch) -> Tensor | None:
        """Return `(num_ids,)` which share of the rows with a key is learned from; None if nobody has counted those."""
        if column is None or column not in learned:
            return None
        kind = self.space.features.get(column)
        if not isinstance(kind, VocabularyFeature):
            return None
        ids = learned[column].values if isinstance(learned[column], Jagged) else learned[column]
        counts = torch.from_numpy(kind.vocabulary.counts)
        of_keys = torch.bincount(ids, minlength=NUM_SPECIAL_IDS + len(counts))[NUM_SPECIAL_IDS:] / counts.clamp(min=1)
        special = torch.full((NUM_SPECIAL_IDS,), len(learned) / len(self.tables.events))
        return torch.cat([special, of_keys]).clamp(max=1.0)

    def _fit(self, model: Model, loader: Loader, optimizer: OptimizerSpec, epochs: int) -> None:
        model.fit(
            loader,
            optimizer=optimizer,
            schedule=linear_decay(epochs * len(loader)),
            epochs=epochs,
            seed=self.seed,
            device=model_device(model),
            progress=self.progress,
        )


def reads_past(model: RetrievalModel, tables: UpdateTables, space: FeatureSpace) -> list[str]:
    """Name the columns without which the query of a model is nothing: what it did, as the residual of a tower.

    Args:
        model: the retrieval model.
        tables: knows which columns hold what a query did.
        space: the features.
    """
    residuals = [part.residual_feature for part in model.modules() if isinstance(part, Tower)]
    columns = [space.layout.column(name) for name in residuals if name is not None]
    return [name for name in dict.fromkeys(columns) if name in tables.recents or name in tables.seens]
