"""A whole run: tables, split, features, retrieval, ranking, evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import polars as pl

from retrank import features
from retrank.cli.config import RunConfig
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.seeds import seed_everything
from retrank.data import Batches, Loader, frame, latest_candidates, leave_last_split, with_recent_candidates
from retrank.datasets import movielens_1m, movielens_20m, movielens_100k
from retrank.evaluation import Recommends, Report, baselines, evaluate
from retrank.features import Catalogue, FeatureSpace, History
from retrank.metrics import FullCorpusTopK
from retrank.models import Reranker, Tower, TwoTower
from retrank.optim import LazyAdam
from retrank.recommender import Card, Recommender, mine_lists
from retrank.tasks import Retrieval
from retrank.training import linear_decay

__all__ = ["RECENT", "Pipeline", "Tables"]

RECENT = "recent"
"""The column with each interaction's past."""

_DATASETS = {"movielens_100k": movielens_100k, "movielens_1m": movielens_1m, "movielens_20m": movielens_20m}
Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class Tables:
    """The tables of a run.

    Args:
        train: interactions to learn from, with the columns of query and candidate, and of the past if asked for.
        test: each query's last interactions.
        candidates: one row a candidate.
        queries: one row a query, with its features as they stand after training.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    candidates: pl.DataFrame
    queries: pl.DataFrame


@final
class Pipeline:
    """What a configuration describes, step by step.

    Args:
        config: the checked configuration.
        folder: where checkpoints of unfinished training are kept; None keeps none.
        say: is told what happens.
        progress: whether training shows bars.

    Raises:
        ConfigError: a feature kind that does not exist, or arguments that it does not take.
    """

    def __init__(
        self, config: RunConfig, *, folder: Path | None = None, say: Say = lambda _: None, progress: bool = False
    ) -> None:
        self.config, self.folder, self.say, self.progress = config, folder, say, progress
        self.space = _space(config)

    def load(self) -> Tables:
        """Read the tables, split them, and fit the features."""
        data, split = self.config.data, self.config.split
        interactions, candidates, queries = self._read()
        train, test = self._last(interactions, split.test)
        if data.recent is not None:
            past = {"query": data.query, "candidate": data.candidate, "time": data.time, "name": RECENT}
            latest = latest_candidates(train, length=data.recent, **past)
            queries = queries.join(latest, on=data.query, how="left", maintain_order="left")
            train = with_recent_candidates(train, length=data.recent, **past)
        self.say(
            f"{len(interactions):,} interactions, {len(queries):,} queries, {len(candidates):,} candidates; "
            f"test: the last {split.test:.0%} of each query ({len(test):,})"
        )
        self.space.fit(train)
        return Tables(train, test, candidates, queries)

    def train(self, tables: Tables, seed: int) -> Recommender:
        """Train retrieval and, if configured, ranking.

        Args:
            tables: what `load` returned.
            seed: of weights, order and dropout.

        Returns:
            The recommender.
        """
        catalogue = self.space.catalogue(tables.candidates, key=self.config.data.candidate)
        ranking = None if self.config.ranking is None else self._train_ranking(tables, catalogue, seed)
        self.say(f"retrieval, on all of train (seed {seed})")
        retrieval = self._train_retrieval(tables.train, catalogue, seed, "retrieval")
        return Recommender(
            retrieval=retrieval,
            space=self.space,
            catalogue=tables.candidates,
            history=tables.train,
            ranking=ranking,
            queries=tables.queries,
            num_retrieved=100 if self.config.ranking is None else self.config.ranking.retrieved,
            card=Card(self.config.title),
        )

    def evaluate(self, tables: Tables, recommenders: Sequence[Recommender], seed: int) -> Report:
        """Compare with the baselines over the whole corpus, seen candidates excluded.

        Args:
            tables: what `load` returned.
            recommenders: one for each seed.
            seed: of the bootstrap.

        Returns:
            The report; the reference is EASE.
        """
        settings = self.config.baselines
        systems: dict[str, Recommends | Sequence[Recommends]] = {
            "popularity": baselines.Popularity(),
            "item-kNN": baselines.ItemKNN(settings.knn_neighbors, settings.knn_shrink),
            "EASE": baselines.EASE(settings.ease_l2),
            "EASE, recent first": baselines.EASE(settings.ease_l2, decay=settings.ease_decay),
            "two-tower": [recommender.without_ranking() for recommender in recommenders],
        }
        if self.config.ranking is not None:
            systems["two-stage"] = list(recommenders)
        return evaluate(
            systems,
            tables.train,
            tables.test,
            query=self.config.data.query,
            candidate=self.config.data.candidate,
            time=self.config.data.time,
            reference="EASE",
            seed=seed,
        )

    def _last(self, table: pl.DataFrame, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
        data = self.config.data
        return leave_last_split(table, query=data.query, time=data.time, fraction=fraction)

    def _read(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        data = self.config.data
        if data.dataset is not None:
            loaded = _DATASETS[data.dataset](data.root)
            return loaded.interactions, loaded.candidates, loaded.queries
        assert data.interactions is not None
        assert data.candidates is not None
        interactions, candidates = frame(data.interactions), frame(data.candidates)
        if data.queries is None:
            queries = interactions.select(data.query).unique(maintain_order=True)
        else:
            queries = frame(data.queries)
            interactions = _joined(interactions, queries, data.query)
        return _joined(interactions, candidates, data.candidate), candidates, queries

    def _train_retrieval(self, table: pl.DataFrame, catalogue: Catalogue, seed: int, stage: str) -> TwoTower:
        settings = self.config.retrieval
        seed_everything(seed)
        tower = partial(Tower, self.space, layers=settings.layers, dim=settings.dim, dropout=settings.dropout)
        both = settings.query_residual is not None and settings.candidate_residual is not None
        model = TwoTower(
            tower(settings.query, residual=settings.query_residual),
            tower(settings.candidate, residual=settings.candidate_residual),
            Retrieval(
                temperature=settings.temperature,
                log_q=True,
                remove_accidental_hits=True,
                metrics=[FullCorpusTopK(ks=(10, 100))],
            ),
            catalogue=catalogue,
            normalize=True,
            tie_residuals=both,
        )
        if settings.query_residual == RECENT:
            table = table.filter(pl.col(RECENT).list.len() > 0)  # a first interaction has no past to learn from
        names = [*model.query.inputs, *model.candidate.inputs]
        loader = self.space.loader(
            table, settings.batch_size, shuffle=True, seed=seed, features=list(dict.fromkeys(names))
        )
        self._fit(model, loader, settings.epochs, settings.lr, seed, stage)
        return model

    def _train_ranking(self, tables: Tables, catalogue: Catalogue, seed: int) -> Reranker:
        settings, data = self.config.ranking, self.config.data
        assert settings is not None
        earlier, later = self._last(tables.train, self.config.split.ranking)
        self.say(f"retrieval, on the earlier {1 - self.config.split.ranking:.0%} of train (seed {seed})")
        retrieval = self._train_retrieval(earlier, catalogue, seed, "earlier")
        seed_everything(seed)
        model = Reranker(
            self.space,
            settings.features,
            candidate_id=data.candidate,
            catalogue=catalogue,
            recent=settings.recent,
            layers=settings.layers,
            dim=settings.dim,
            dropout=settings.dropout,
        )
        lists = mine_lists(
            retrieval,
            self.space,
            catalogue,
            later,
            tables.train,
            features=model.query_features,
            k=min(settings.retrieved, len(catalogue)),
            max_lists=settings.max_lists,
            seed=seed,
        )
        self.say(f"ranking, on {len(lists):,} lists that retrieval made for the later {self.config.split.ranking:.0%}")
        self._learn_co_occurrence(model, earlier, catalogue)
        loader = Loader(lists, settings.batch_size, shuffle=True, seed=seed)
        self._fit(model, loader, settings.epochs, settings.lr, seed, "ranking")
        self._learn_co_occurrence(model, tables.train, catalogue)  # what served lists will be compared with
        return model

    def _learn_co_occurrence(self, model: Reranker, table: pl.DataFrame, catalogue: Catalogue) -> None:
        if model.co_occurrence is not None:
            history = History(table, catalogue, query=self.config.data.query)
            rows = history[history.queries]
            ids = catalogue.batch[model.candidate_id][rows.values]
            model.co_occurrence.fit(Jagged(ids, rows.offsets))

    def _fit(self, model: TwoTower | Reranker, loader: Batches, epochs: int, lr: float, seed: int, stage: str) -> None:
        checkpoint = None if self.folder is None else self.folder / self.config.fingerprint / f"{stage}-{seed}"
        model.fit(
            loader,
            optimizer=LazyAdam(lr=lr),
            epochs=epochs,
            schedule=linear_decay(epochs * len(loader)),
            seed=seed,
            checkpoint=checkpoint,
            progress=self.progress,
        )


def _space(config: RunConfig) -> FeatureSpace:
    kinds = {}
    for name, entry in config.features.items():
        kind = getattr(features, entry.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, features.Feature)):
            raise ConfigError("a feature kind", repr(entry.kind), f"features.{name}.kind", "see rr.features")
        try:
            kinds[name] = kind(**entry.arguments)
        except TypeError as error:
            raise ConfigError(
                f"arguments of {entry.kind}", str(error), f"features.{name}", "see its documentation"
            ) from error
    crosses = [features.Cross(*cross.features, bins=cross.bins) for cross in config.crosses]
    return FeatureSpace(kinds, crosses)


def _joined(interactions: pl.DataFrame, details: pl.DataFrame, key: str) -> pl.DataFrame:
    new = [name for name in details.columns if name == key or name not in interactions.columns]
    return interactions.join(details.select(new), on=key, how="left", maintain_order="left")
