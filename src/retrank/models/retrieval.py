"""`RetrievalModel`: queries and candidates as vectors whose dot product is the score."""

from abc import ABC
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.penalties import add_penalty
from retrank.core.working import Working
from retrank.data.batches import Batches
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.candidate_frequencies import CandidateFrequencies
from retrank.models.candidates_by_id import CandidatesById
from retrank.models.checks import row_weights
from retrank.models.corpus import Corpus, EmbeddedCandidates, embed_in_pieces
from retrank.models.missing_positives import MissingPositives
from retrank.models.negatives import Negatives, as_negative_source
from retrank.models.retrieval_step import RetrievalStep
from retrank.models.vector_model import VectorModel
from retrank.sampling.sampler import Sampler
from retrank.tasks.retrieval import Retrieval
from retrank.training.device import Precision, model_device

__all__ = ["RetrievalModel"]


class RetrievalModel(Configurable, VectorModel, ABC):
    """The common part of models that embed queries and candidates separately.

    A subclass says how, in `query_embeddings` and `candidate_embeddings`. In training a positive competes
    with `negatives`; evaluation embeds the catalogue once and ranks every positive among all of it.

    Args:
        task: the loss, and the metrics of the evaluation.
        candidate_id: the column with the candidate's vocabulary id.
        num_candidate_ids: how many such ids there are, padding and unknown included.
        space: knows how frequent each candidate is, for a task with `log_q=True`.
        catalogue: all candidates; needed for corpus metrics and for `CatalogueNegatives`.
        negatives: `InBatchNegatives()` or `"in_batch"`: the other positives of the batch; `CatalogueNegatives()` or
            `"catalogue"`: all candidates; a sampler of `rr.sampling`: what it draws, in evaluation always the same;
            or a `NegativeSource` of your own.
        weight: the column with the weight of each row, None for equal weights.
        exclude: the column with the catalogue rows (`Jagged`) that a query's evaluation leaves out, such as those seen
            before; None for none. `evaluate` can be told another.
        output_l2: in training, factor of the mean squared norm of the queries plus that of the scored candidates.

    Raises:
        ConfigError: arguments that contradict each other.
    """

    query_id: str
    """The feature that identifies a query."""
    candidate_id: str
    """The column with the candidate's vocabulary id."""

    def __init__(
        self,
        task: Retrieval,
        *,
        candidate_id: str,
        num_candidate_ids: int,
        space: FeatureSpace | None,
        catalogue: Catalogue | None,
        negatives: Negatives,
        weight: str | None,
        exclude: str | None,
        output_l2: float,
    ) -> None:
        super().__init__()
        if not output_l2 >= 0:
            raise self._error("output_l2 >= 0", str(output_l2), "0 turns it off")
        source = as_negative_source(negatives, type(self).__name__)
        source.check(task, has_catalogue=catalogue is not None, where=type(self).__name__)
        counted = source.reads_log_q and task.log_q is True
        if counted and space is None:
            raise self._error("a feature space, for a task with log_q", "none", "pass space=, which knows the counts")
        self.task, self.weight, self.exclude, self.output_l2 = task, weight, exclude, output_l2
        self.negatives = negatives if isinstance(negatives, Sampler) else source  # a sampler may have state to save
        self.candidate_id = candidate_id
        self.frequencies = CandidateFrequencies(candidate_id, num_candidate_ids, space, counted=counted)
        self.corpus: Corpus | None = None
        if catalogue is not None:
            self.use_catalogue(catalogue)
        self._embedded: EmbeddedCandidates | None = None  # the catalogue, within an evaluation
        self._missing = MissingPositives()

    @property
    def catalogue(self) -> Catalogue | None:
        """All candidates, if the model knows them."""
        return None if self.corpus is None else self.corpus.catalogue

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Rank among these candidates from now on.

        Args:
            catalogue: all candidates.

        Raises:
            ConfigError: the catalogue has no column of candidate ids.
            DataError: two of its rows have the same id.
        """
        self._follow_space()
        self.corpus = Corpus(catalogue, self.candidate_id, self.frequencies.num_ids).to(model_device(self))

    def grow(self, space: FeatureSpace, catalogue: Catalogue | None = None) -> None:
        """Make room for new keys, and count candidates as the grown space does; see `Model.grow`."""
        super().grow(space, catalogue)
        if self.frequencies.counts is not None:
            self.use_counts(self.frequencies.counts)
        catalogue = self.catalogue if catalogue is None else catalogue
        if catalogue is not None:
            self.use_catalogue(catalogue)
            if "catalogue" in self.recorded_arguments():
                self.record_shared(catalogue=catalogue)

    def use_counts(self, counts: Sequence[int] | np.ndarray) -> None:
        """Correct from now on for other frequencies of candidates, such as those of rows that training goes on with.

        Args:
            counts: occurrences of each key of the candidates' vocabulary among the positives, in id order.
        """
        self.frequencies.use(counts)
        if isinstance(self.negatives, Sampler):
            self.negatives.grow(counts)

    @property
    def log_q(self) -> Tensor | None:
        """`(num_ids,)` log-probabilities of candidates as in-batch negatives, where the task corrects for them."""
        return self.frequencies.log_q

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:
        """Return the loss of the positives among `negatives`; within an evaluation, also update the corpus metrics.

        Args:
            batch: positive pairs of query and candidate.
            training: whether this loss will update the weights.

        Returns:
            Scalar: the mean softmax cross-entropy.
        """
        self._follow_space()
        source = as_negative_source(self.negatives, type(self).__name__)
        queries = self._penalized(self.query_embeddings(batch), training)
        ids: Tensor = batch[self.candidate_id]
        weight = row_weights(batch, self.weight, type(self).__name__)
        embedded, rows = None if training else self._embedded, None
        if self.corpus is not None and (embedded is not None or source.reads_catalogue):
            rows = self.corpus.row_of_id[ids]
            if embedded is not None or training:
                self._missing.add(rows)
        if rows is not None and embedded is not None:
            self._update_metrics(queries, embedded.vectors, rows, weight, batch)
        return source.loss(
            RetrievalStep(
                task=self.task,
                batch=batch,
                query_id=self.query_id,
                queries=queries,
                ids=ids,
                rows=rows,
                weight=weight,
                log_q=None if self.log_q is None else self.log_q[ids],
                training=training,
                embed_positives=lambda: self._penalized(self.candidate_embeddings(batch), training),
                embed_catalogue=partial(self._embed_catalogue, embedded, training),
                candidates=self._candidates_by_id(),
            )
        )

    def evaluate(
        self,
        batches: Batches,
        *,
        exclude: str | Literal[False] | None = None,
        precision: Precision = "float32",
        progress: bool = False,
    ) -> dict[str, float]:
        """Measure losses and metrics; see `Model.evaluate`.

        Args:
            batches: the data.
            exclude: the column with the catalogue rows (`Jagged`) that the corpus metrics leave out, a query's each,
                such as `history[test["user_id"]]`; False for none. None is what the model was built with.
            precision: `"float32"`, or `"bfloat16"` for the forward passes.
            progress: whether to show a bar.

        Returns:
            The metrics by name, then `loss`, `regularization_loss` and `total_loss`, averages over all rows; the losses
            exclude nothing.

        Raises:
            ConfigError: `exclude` is no name, there are no corpus metrics that could leave anything out, or `batches`
                is no loader.
            DataError: there are no rows.
        """
        if exclude is None:
            return super().evaluate(batches, precision=precision, progress=progress)
        if exclude is not False and not isinstance(exclude, str):
            raise self._error("the name of a column, False or None", repr(exclude), "merge the rows into the batches")
        if exclude and not self.task.metrics:
            raise self._error("a task with corpus metrics, for exclude", "none", "give the task metrics=[...]")
        own, self.exclude = self.exclude, exclude or None
        try:
            return super().evaluate(batches, precision=precision, progress=progress)
        finally:
            self.exclude = own

    def begin_evaluation(self) -> None:
        """Embed the catalogue once, if the metrics or the loss need it.

        Raises:
            ConfigError: it is needed and missing.
        """
        self._missing.reset()
        if not self.task.metrics and not as_negative_source(self.negatives, type(self).__name__).reads_catalogue:
            return
        if self.corpus is None:
            fix = f'pass catalogue=space.catalogue(candidates, key="{self.candidate_id}")'
            raise self._error("a catalogue, for corpus metrics", "none", fix)
        self._embedded = embed_in_pieces(self.candidate_embeddings, self.corpus.catalogue.batch, model_device(self))

    def end_evaluation(self) -> None:
        """Drop the embedded catalogue, and warn of candidates that it does not have."""
        self._embedded = None
        self._missing.warn(
            self.candidate_id,
            "they count as misses in the corpus metrics and are left out of a loss over the catalogue",
        )

    def end_epoch(self) -> None:
        """Warn of training candidates that a loss over the catalogue had to leave out."""
        self._missing.warn(self.candidate_id, "they are left out of the loss over the catalogue")

    def build_index(self, catalogue: Catalogue | None = None, index_type: Callable[..., Index] = Exact) -> Index:
        """Embed all candidates and make them searchable.

        Args:
            catalogue: the candidates; those of the model by default.
            index_type: what to build: called with the embeddings `(num_candidates, dim)` and the keys.

        Returns:
            An index whose ids are catalogue rows and whose keys are the catalogue's.

        Raises:
            ConfigError: there is no catalogue.
        """
        catalogue = self.catalogue if catalogue is None else catalogue
        if catalogue is None:
            raise self._error("a catalogue", "none", "pass it to build_index or to the model")
        with Working(f"embedding and indexing {len(catalogue):,} candidates"):
            return index_type(self.embed_candidates(catalogue.batch), catalogue.keys)

    def _penalized(self, vectors: Tensor, training: bool) -> Tensor:
        if training and self.output_l2 > 0:
            add_penalty(lambda: self.output_l2 * vectors.float().square().sum(dim=1).mean())
        return vectors

    def _embed_catalogue(self, embedded: EmbeddedCandidates | None, training: bool) -> Tensor:
        if embedded is not None:  # once for all batches of an evaluation, whose losses compare with those of training
            add_penalty(lambda: embedded.penalty)
            return embedded.vectors
        if self.corpus is None:
            raise self._error("a catalogue, for these negatives", "none", "pass catalogue=")
        return self._penalized(self.candidate_embeddings(self.corpus.batch), training)

    def _follow_space(self) -> None:
        """Have room for ids that the space has gained since, wherever a table is to be grown by hand."""
        if self.frequencies.follow():
            if isinstance(self.negatives, Sampler) and self.frequencies.counts is not None:
                self.negatives.grow(self.frequencies.counts)
            if self.corpus is not None:
                self.corpus.grow(self.frequencies.num_ids)

    def _candidates_by_id(self) -> CandidatesById | None:
        embed, num_ids = self.candidate_embeddings, self.frequencies.num_ids
        if self.candidate_features == (self.candidate_id,):
            return CandidatesById(embed, self.candidate_id, num_ids, None, None)
        if self.corpus is None:
            return None
        return CandidatesById(embed, self.candidate_id, num_ids, self.corpus.row_of_id, self.corpus.batch)

    def _update_metrics(
        self, queries: Tensor, candidates: Tensor, rows: Tensor, weight: Tensor | None, batch: Batch
    ) -> None:
        exclude = None if self.exclude is None else batch[self.exclude]
        with torch.autocast(queries.device.type, enabled=False):  # ranks in full precision, whatever the model's
            self.task.update_metrics(queries.float(), candidates, rows, exclude=exclude, weight=weight)

    def _error(self, expected: str, got: str, fix: str) -> ConfigError:
        return ConfigError(expected, got, type(self).__name__, fix)
