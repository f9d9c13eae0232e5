"""`RetrievalModel`: queries and candidates as vectors whose dot product is the score."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.penalties import add_penalty
from retrank.data.batches import Batches
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.index.exact import Exact
from retrank.index.index import Index
from retrank.models.candidates import log_shares, rows_of_ids
from retrank.models.missing import MissingPositives
from retrank.models.sampled import CandidatesById, draw, sampled_softmax
from retrank.sampling.sampler import Sampler
from retrank.tasks.retrieval import Retrieval
from retrank.training.device import Precision, model_device
from retrank.training.mode import evaluating
from retrank.training.model import Model

__all__ = ["Negatives", "RetrievalModel"]

_Named = Literal["in_batch", "catalogue"]
Negatives = _Named | Sampler
"""What a positive competes with: the other candidates of its batch, all that there are, or what a sampler draws."""

_ROWS_AT_ONCE = 4096


class RetrievalModel(Configurable, Model, ABC):
    """The common part of models that embed queries and candidates separately.

    A subclass says how, in `query_embeddings` and `candidate_embeddings`. Training is a softmax over `negatives`.
    Evaluation embeds the catalogue once and ranks every positive among all of it.

    Args:
        task: the loss, and the metrics of the evaluation.
        candidate_id: the column with the candidate's vocabulary id.
        num_candidate_ids: how many such ids there are, padding and unknown included.
        space: knows how frequent each candidate is, for a task with `log_q=True`.
        catalogue: all candidates; needed for corpus metrics and for `negatives="catalogue"`.
        negatives: `"in_batch"`; `"catalogue"`, which embeds the whole catalogue in every step; or a sampler, whose
            draws alone a positive then competes with. Evaluation draws the same ones every time.
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
    row_of_id: Tensor | None
    log_q: Tensor | None

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
        if not isinstance(negatives, Sampler) and negatives not in get_args(_Named):
            raise self._error(f"one of {get_args(_Named)} or a sampler", repr(negatives), "choose one of them")
        if negatives == "catalogue" and catalogue is None:
            raise self._error("a catalogue, for negatives='catalogue'", "none", _pass_catalogue(candidate_id))
        if negatives == "catalogue" and task.log_q is not False:
            raise self._error(
                "log_q=False, for negatives='catalogue'",
                "a task that corrects for log_q",
                "a softmax over all candidates samples none, so there is nothing to correct",
            )
        if isinstance(negatives, Sampler) and not isinstance(task.log_q, bool):
            raise self._error(
                "log_q=True or False, for a sampler", f"log_q={task.log_q}", "a sampler knows its own probabilities"
            )
        counted = negatives == "in_batch" and task.log_q is True
        if counted and space is None:
            raise self._error("a feature space, for a task with log_q", "none", "pass space=, which knows the counts")
        self.task, self.negatives, self.weight, self.exclude = task, negatives, weight, exclude
        self.output_l2 = output_l2
        self.candidate_id, self._num_candidate_ids = candidate_id, num_candidate_ids
        counts = space.vocabulary(candidate_id).counts if counted and space is not None else None
        log_q = None if counts is None else log_shares(counts, num_candidate_ids)
        self.register_buffer("log_q", log_q, persistent=False)
        self.register_buffer("row_of_id", None, persistent=False)
        self.catalogue: Catalogue | None = None
        if catalogue is not None:
            self.use_catalogue(catalogue)
        self._catalogue_embeddings: Tensor | None = None
        self._missing = MissingPositives()

    @property
    @abstractmethod
    def query_features(self) -> tuple[str, ...]:
        """The features that `query_embeddings` reads."""

    @property
    @abstractmethod
    def candidate_features(self) -> tuple[str, ...]:
        """The features that `candidate_embeddings` reads."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a score needs: the query's, then the candidate's."""
        return tuple(dict.fromkeys([*self.query_features, *self.candidate_features]))

    @abstractmethod
    def query_embeddings(self, batch: Batch) -> Tensor:
        """Embed queries, differentiably.

        Args:
            batch: has the query's features.

        Returns:
            `(batch, dim)`.
        """

    @abstractmethod
    def candidate_embeddings(self, batch: Batch) -> Tensor:
        """Embed candidates, differentiably.

        Args:
            batch: has the candidate's features.

        Returns:
            `(batch, dim)`.
        """

    def use_catalogue(self, catalogue: Catalogue) -> None:
        """Rank among these candidates from now on.

        Args:
            catalogue: all candidates.

        Raises:
            ConfigError: the catalogue has no column of candidate ids.
            DataError: two of its rows have the same id.
        """
        rows = rows_of_ids(catalogue, self.candidate_id, self._num_candidate_ids)
        self.row_of_id = rows.to(model_device(self))
        self.catalogue, self._catalogue_batch = catalogue, catalogue.batch

    def forward(self, batch: Batch) -> Tensor:
        """Score pairs.

        Args:
            batch: has the features of a query and a candidate in each row.

        Returns:
            `(batch,)` dot products.
        """
        return (self.query_embeddings(batch) * self.candidate_embeddings(batch)).sum(dim=1)

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:
        """Say how far the positives are from the top; within an evaluation, also update the corpus metrics.

        Args:
            batch: positive pairs of query and candidate.
            training: whether weights will be moved by this loss.

        Returns:
            Scalar: the mean softmax cross-entropy.
        """
        queries = self.query_embeddings(batch)
        corpus = None if training else self._catalogue_embeddings
        if corpus is not None:
            self._rank(batch, queries, corpus)
        if isinstance(self.negatives, Sampler):
            candidates = self.candidate_embeddings(batch)
            loss = self._sampled_loss(batch, queries, candidates, self.negatives, training=training)
        elif self.negatives == "in_batch":
            candidates = self.candidate_embeddings(batch)
            loss = self._in_batch_loss(batch, queries, candidates)
        else:
            candidates = self._embed_whole_catalogue() if corpus is None else corpus
            loss = self._catalogue_loss(batch, queries, candidates, training=training)
        if training and self.output_l2 > 0:
            add_penalty(partial(self._output_penalty, queries, candidates))
        return loss

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
            ConfigError: they need it and there is none.
        """
        self._missing.reset()
        if not self.task.metrics and self.negatives != "catalogue":
            return
        if self.catalogue is None:
            raise self._error("a catalogue, for corpus metrics", "none", _pass_catalogue(self.candidate_id))
        self._catalogue_embeddings = self._embed_in_pieces(self.catalogue.batch)

    def end_evaluation(self) -> None:
        """Drop the embedded catalogue, and warn of candidates that it does not have."""
        self._catalogue_embeddings = None
        self._missing.warn(
            self.candidate_id,
            "they count as misses in the corpus metrics and are left out of a loss over the catalogue",
        )

    def end_epoch(self) -> None:
        """Warn of training candidates that a loss over the catalogue had to leave out."""
        self._missing.warn(self.candidate_id, "they are left out of the loss over the catalogue")

    def embed_queries(self, batch: Batch) -> Tensor:
        """Embed queries as at serving time: no dropout, no gradient.

        Args:
            batch: has the query's features, on any device.

        Returns:
            `(batch, dim)` on the model's device.
        """
        with evaluating(self), torch.no_grad():
            return self.query_embeddings(batch.to(model_device(self)))

    def embed_candidates(self, batch: Batch) -> Tensor:
        """Embed candidates as at serving time: no dropout, no gradient.

        Args:
            batch: has the candidate's features, on any device.

        Returns:
            `(batch, dim)` on the model's device.
        """
        with evaluating(self), torch.no_grad():
            return self._embed_in_pieces(batch)

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
        return index_type(self.embed_candidates(catalogue.batch), catalogue.keys)

    def _output_penalty(self, queries: Tensor, candidates: Tensor) -> Tensor:
        norms = [vectors.float().square().sum(dim=1).mean() for vectors in (queries, candidates)]
        return self.output_l2 * (norms[0] + norms[1])

    def _in_batch_loss(self, batch: Batch, queries: Tensor, candidates: Tensor) -> Tensor:
        ids = batch[self.candidate_id]
        loss: Tensor = self.task(
            queries,
            candidates,
            candidate_ids=ids,
            log_q=None if self.log_q is None else self.log_q[ids],
            weight=None if self.weight is None else batch[self.weight],
        )
        return loss

    def _sampled_loss(
        self, batch: Batch, queries: Tensor, candidates: Tensor, sampler: Sampler, *, training: bool
    ) -> Tensor:
        table = self._table()
        drawn = draw(sampler, batch[self.candidate_id], candidates, table, training=training)
        if drawn.embeddings is None:
            raise self._error("a catalogue, for a sampler", "none", _pass_catalogue(self.candidate_id))
        if self.task.log_q is True and drawn.log_q_of is None:
            raise self._error(
                "a sampler that knows its probabilities, for log_q", type(sampler).__name__, "give counts"
            )
        return sampled_softmax(
            self.task,
            queries,
            candidates,
            batch[self.candidate_id],
            drawn,
            known=drawn.valid if table is None else drawn.valid & table.known(drawn.ids),
            weight=None if self.weight is None else batch[self.weight],
        )

    def _table(self) -> CandidatesById | None:
        embed, num_ids = self.candidate_embeddings, self._num_candidate_ids
        if self.candidate_features == (self.candidate_id,):
            return CandidatesById(embed, self.candidate_id, num_ids, None, None)
        if self.catalogue is None:
            return None
        return CandidatesById(embed, self.candidate_id, num_ids, self.row_of_id, self._catalogue_here())

    def _catalogue_loss(self, batch: Batch, queries: Tensor, candidates: Tensor, *, training: bool) -> Tensor:
        rows = self._positive_rows(batch)
        if training:
            self._missing.add(rows)
        known = (rows >= 0).float()  # a positive outside of the catalogue has nothing to be told from
        loss: Tensor = self.task(
            queries,
            candidates,
            positives=rows.clamp(min=0),
            candidate_ids=torch.arange(len(candidates), device=rows.device),
            weight=known if self.weight is None else known * batch[self.weight],
        )
        return loss

    def _rank(self, batch: Batch, queries: Tensor, corpus: Tensor) -> None:
        rows = self._positive_rows(batch)
        self._missing.add(rows)
        exclude = None if self.exclude is None else batch[self.exclude]
        weight = None if self.weight is None else batch[self.weight]
        with torch.autocast(queries.device.type, enabled=False):  # ranks in full precision, whatever the model's
            self.task.update_metrics(queries.float(), corpus, rows, exclude=exclude, weight=weight)

    def _positive_rows(self, batch: Batch) -> Tensor:
        """Return the catalogue row of each positive, -1 if it has none."""
        assert self.row_of_id is not None
        return self.row_of_id[batch[self.candidate_id]]

    def _embed_in_pieces(self, batch: Batch) -> Tensor:
        device = model_device(self)
        starts = range(0, len(batch), _ROWS_AT_ONCE)
        return torch.cat(
            [self.candidate_embeddings(batch[start : start + _ROWS_AT_ONCE].to(device)) for start in starts]
        )

    def _embed_whole_catalogue(self) -> Tensor:
        return self.candidate_embeddings(self._catalogue_here())

    def _catalogue_here(self) -> Batch:
        device = model_device(self)
        if self._catalogue_batch.device != device:
            self._catalogue_batch = self._catalogue_batch.to(device)  # once, not in every step
        return self._catalogue_batch

    def _error(self, expected: str, got: str, fix: str) -> ConfigError:
        return ConfigError(expected, got, type(self).__name__, fix)


def _pass_catalogue(candidate_id: str) -> str:
    return f'pass catalogue=space.catalogue(candidates, key="{candidate_id}")'
