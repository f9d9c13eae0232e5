"""A whole run: tables, split, features, retrieval, ranking, evaluation."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import final

import polars as pl

from retrank import features
from retrank.cli.checks import require_features_of_keys, require_lists_of_positives, require_order, require_parts
from retrank.cli.comparison import NAMES, baseline_of, compare
from retrank.cli.config import FeatureConfig, RankingConfig, RetrievalConfig, RunConfig
from retrank.cli.histories import Histories, history_kind
from retrank.cli.splitting import described, split_off
from retrank.cli.tables import Tables, digest, read_tables
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.seeds import seed_everything
from retrank.data import Batches, Loader, require_columns
from retrank.evaluation import Recommends, Report
from retrank.features import Catalogue, FeatureSpace, History
from retrank.metrics import FullCorpusTopK
from retrank.models import InBatchNegatives, Reranker, Tower, TwoTower
from retrank.optim import LazyAdam
from retrank.recommender import Card, Recommender, mine_lists
from retrank.tasks import Retrieval
from retrank.training import linear_decay

__all__ = ["Pipeline"]

Say = Callable[[str], None]


@final
class Pipeline:
    """What a configuration describes, step by step.

    Args:
        config: the checked configuration.
        folder: where checkpoints of unfinished training are kept; None keeps none.
        say: is told what happens.
        progress: whether what takes long shows bars.

    Raises:
        ConfigError: a feature that does not exist or does not fit its place, or arguments that a kind does not take.
    """

    def __init__(
        self, config: RunConfig, *, folder: Path | None = None, say: Say = lambda _: None, progress: bool = False
    ) -> None:
        self.config, self.folder, self.say, self.progress = config, folder, say, progress
        self.space = _space(config)
        require_features_of_keys(config, self.space)
        require_lists_of_positives(config, self.space)
        require_order(config)

    def load(self) -> Tables:
        """Read the tables, split them, fit the features, and make sure that the models can be made of them.

        Returns:
            What `train` and `evaluate` take.

        Raises:
            ConfigError: a model does not fit the features.
            DataError: a table is not what it must be, or too little is left of it after the splits.
        """
        data, split = self.config.data, self.config.split
        read = read_tables(data)
        interactions, candidates, queries, test = read
        histories = Histories(self.config, self.space, interactions.columns)
        train, how = interactions, str(data.test)
        if test is None:
            train, test = split_off(interactions, self.config, split.test)
            how = described(self.config, split.test)
        self.say(f"{len(interactions):,} interactions, {len(candidates):,} candidates; test: {how} ({len(test):,})")
        if queries is None:  # the last row of each query is how it stands now
            queries = train if self.config.order is None else train.sort(self.config.order, maintain_order=True)
        train = histories.of(train)
        self.space.fit(train, progress=self.progress)
        catalogue = self._catalogue(candidates)
        needed = [data.query, *self.space.columns(self._query_features(catalogue))]
        columns = [name for name in dict.fromkeys(needed) if name not in histories.columns]  # read from the history
        require_columns(queries, columns, "queries")
        known = queries.select(columns).unique(data.query, keep="last", maintain_order=True)
        tables = Tables(train, test, candidates, known, catalogue, histories, digest(*read))
        parts = {"train": self._with_history(train, tables)}
        if self.config.ranking is not None:
            parts["earlier"] = self._with_history(split_off(train, self.config, split.ranking)[0], tables)
        require_parts(self.config, test, parts)
        return tables

    def train(self, tables: Tables, seed: int) -> Recommender:
        """Train retrieval and, if configured, ranking; or fit the baseline that is to be served.

        Args:
            tables: what `load` returned.
            seed: of weights, order and dropout.

        Returns:
            The recommender.
        """
        if self.config.serve != "models":
            return self._fit_baseline(tables)
        ranking = None if self.config.ranking is None else self._train_ranking(tables, seed)
        self.say(f"retrieval, on all of train (seed {seed})")
        retrieval = self._train_retrieval(tables.train, tables, seed, "retrieval")
        return Recommender(
            retrieval=retrieval,
            space=self.space,
            catalogue=tables.candidates,
            history=self._events(tables),
            ranking=ranking,
            queries=tables.queries,
            time=self.config.order,
            num_retrieved=100 if self.config.ranking is None else self.config.ranking.retrieved,
            card=Card(self.config.title),
            progress=self.progress,
        )

    def evaluate(self, tables: Tables, recommenders: Sequence[Recommender], seed: int) -> Report:
        """Compare with the baselines over the whole corpus, seen candidates excluded.

        Args:
            tables: what `load` returned.
            recommenders: one for each seed.
            seed: of the bootstrap.

        Returns:
            The report; see `compare`.
        """
        data, serve = self.config.data, self.config.serve
        systems: dict[str, Recommends | list[Recommends]] = {}
        if serve != "models":
            systems[NAMES[serve]] = recommenders[0]
        else:
            systems["two-tower"] = [recommender.without_ranking() for recommender in recommenders]
            if self.config.ranking is not None:
                systems["two-stage"] = list(recommenders)
        return compare(
            systems, tables.train, tables.test, self.config.baselines, query=data.query, candidate=data.candidate,
            time=self.config.order, ks=[10, 20], seed=seed, say=self.say, progress=self.progress,
        )  # fmt: skip

    def _fit_baseline(self, tables: Tables) -> Recommender:
        data, kind = self.config.data, self.config.serve
        self.say(f"{NAMES[kind]}, on all of train")
        names = {"query": data.query, "candidate": data.candidate, "time": self.config.order}
        baseline = baseline_of(kind, self.config.baselines).fit(tables.train, **names, progress=self.progress)
        return Recommender(
            baseline,
            catalogue=tables.candidates,
            history=self._events(tables),
            time=self.config.order,
            card=Card(self.config.title),
            progress=self.progress,
        )

    def forget(self, tables: Tables) -> None:
        """Delete the checkpoints of this configuration on these tables, and no others.

        Args:
            tables: what `load` returned.
        """
        own = self._checkpoints(tables)
        if self.folder is not None and own is not None:
            shutil.rmtree(own, ignore_errors=True)
            with suppress(OSError):  # not empty: another configuration's are there, or something that is not ours
                self.folder.rmdir()

    def _events(self, tables: Tables) -> pl.DataFrame:
        """Return what a bundle remembers of train, without times if they tell nothing of what comes next."""
        order = self.config.order
        return tables.train.select(
            self.config.data.query, self.config.data.candidate, *([] if order is None else [order])
        )

    def _catalogue(self, candidates: pl.DataFrame) -> Catalogue:
        names, data = self.config.retrieval.candidate, self.config.data
        if data.candidates is None and data.dataset is None:
            where = "the candidates, of which nothing but their keys is known as there is no data.candidates"
            require_columns(candidates, self.space.columns(names), where)
        return self.space.catalogue(candidates, key=names[0])

    def _checkpoints(self, tables: Tables, stage: str = "") -> Path | None:
        return None if self.folder is None else self.folder / f"{self.config.fingerprint}-{tables.digest}" / stage

    def _query_features(self, catalogue: Catalogue) -> list[str]:
        """Name all features of a query; makes the models, so that what they refuse is refused before training."""
        names = list(self._two_tower(catalogue).query_features)
        return names if self.config.ranking is None else [*names, *self._reranker(catalogue).query_features]

    def _with_history(self, table: pl.DataFrame, tables: Tables) -> pl.DataFrame:
        """Leave out what has no history where the query's residual is its history: there is nothing to learn from."""
        residual = self.config.retrieval.query_residual
        [column] = self.space.columns([residual]) if residual is not None else [""]
        return table.filter(pl.col(column).list.len() > 0) if column in tables.histories.columns else table

    def _two_tower(self, catalogue: Catalogue) -> TwoTower:
        settings = self.config.retrieval
        tower = partial(Tower, self.space, layers=settings.layers, dim=settings.dim, dropout=settings.dropout)
        both = settings.query_residual is not None and settings.candidate_residual is not None
        return TwoTower(
            tower(settings.query, residual=settings.query_residual),
            tower(settings.candidate, residual=settings.candidate_residual),
            Retrieval(
                temperature=settings.temperature,
                log_q=True,
                remove_accidental_hits=True,
                metrics=[FullCorpusTopK(ks=(10, 100))],
            ),
            catalogue=catalogue,
            negatives=InBatchNegatives(settings.remove_known_positives),
            normalize=True,
            tie_residuals=both,
        )

    def _reranker(self, catalogue: Catalogue) -> Reranker:
        settings = self.config.ranking
        assert settings is not None
        return Reranker(
            self.space,
            settings.features,
            candidate_id=catalogue.key,
            catalogue=catalogue,
            recent=settings.history,
            layers=settings.layers,
            dim=settings.dim,
            dropout=settings.dropout,
        )

    def _train_retrieval(self, table: pl.DataFrame, tables: Tables, seed: int, stage: str) -> TwoTower:
        settings = self.config.retrieval
        seed_everything(seed)
        model = self._two_tower(tables.catalogue)
        usable = self._with_history(table, tables)
        if len(usable) < len(table):
            self.say(f"  {len(table) - len(usable):,} interactions without a history are left out")
        names = [*model.query.inputs, *model.candidate.inputs]
        loader = self.space.loader(
            usable, settings.batch_size, shuffle=True, seed=seed, features=list(dict.fromkeys(names))
        )
        self._fit(model, loader, settings, seed, self._checkpoints(tables, f"{stage}-{seed}"))
        return model

    def _train_ranking(self, tables: Tables, seed: int) -> Reranker:
        settings, catalogue = self.config.ranking, tables.catalogue
        assert settings is not None
        held_back = self.config.split.ranking
        earlier, later = tables.histories.apart(*split_off(tables.train, self.config, held_back))
        self.say(
            f"retrieval, on {1 - held_back:.0%} of train (seed {seed}), without {described(self.config, held_back)}"
        )
        retrieval = self._train_retrieval(earlier, tables, seed, "earlier")
        seed_everything(seed)
        model = self._reranker(catalogue)
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
        self.say(f"ranking, on {len(lists):,} lists that retrieval made for the other {held_back:.0%}")
        self._learn_co_occurrence(model, earlier, catalogue)
        loader = Loader(lists, settings.batch_size, shuffle=True, seed=seed)
        self._fit(model, loader, settings, seed, self._checkpoints(tables, f"ranking-{seed}"))
        self._learn_co_occurrence(model, tables.train, catalogue)  # what served lists will be compared with
        return model

    def _learn_co_occurrence(self, model: Reranker, table: pl.DataFrame, catalogue: Catalogue) -> None:
        if model.co_occurrence is not None:
            history = History(table, catalogue, query=self.config.data.query, candidate=self.config.data.candidate)
            rows = history[history.queries]
            ids = catalogue.batch[model.candidate_id][rows.values]
            model.co_occurrence.fit(Jagged(ids, rows.offsets))

    def _fit(
        self,
        model: TwoTower | Reranker,
        loader: Batches,
        settings: RetrievalConfig | RankingConfig,
        seed: int,
        checkpoint: Path | None,
    ) -> None:
        model.fit(
            loader,
            optimizer=LazyAdam(lr=settings.lr),
            epochs=settings.epochs,
            schedule=linear_decay(settings.epochs * len(loader)),
            seed=seed,
            checkpoint=checkpoint,
            progress=self.progress,
        )


def _space(config: RunConfig) -> FeatureSpace:
    kinds = {name: _kind(f"features.{name}", entry, config.order) for name, entry in config.features.items()}
    crosses = [features.Cross(*cross.features, bins=cross.bins) for cross in config.crosses]
    return FeatureSpace(kinds, crosses)


def _kind(place: str, entry: FeatureConfig, order: str | None) -> features.Feature:
    try:
        if entry.kind == "History":
            return history_kind(entry, order)
        kind = getattr(features, entry.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, features.Feature)):
            raise ConfigError("a feature kind", repr(entry.kind), f"{place}.kind", "see rr.features")
        return kind(**entry.arguments)
    except TypeError as error:
        raise ConfigError(f"arguments of {entry.kind}", str(error), place) from error
    except ConfigError as error:
        if error.where == f"{place}.kind":
            raise
        raise ConfigError(error.expected, error.got, f"{place}, {error.where}", error.fix) from error
