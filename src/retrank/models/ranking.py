"""`Ranking`: embeddings, dense features, their interaction, a score."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from retrank.core.batch import Batch
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.schema import UNKNOWN_ID, ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.dot_interaction import DotInteraction
from retrank.layers.mlp import MLP
from retrank.layers.shapes import concatenate
from retrank.metrics import binary_metrics
from retrank.models.base_score import BaseScore
from retrank.models.checks import require_embeddings, row_weights
from retrank.models.id_penalty import DEFAULT_LINEAR_L2, IdPenalty
from retrank.models.linear_terms import LinearTerms
from retrank.models.number_columns import number_columns, number_schemas
from retrank.optim import Adagrad, Adam, Composite, OptimizerSpec
from retrank.tasks.ranking import Ranking as RankingTask
from retrank.training.device import model_device
from retrank.training.mode import evaluating
from retrank.training.model import Model

__all__ = ["Ranking"]


@final
class Ranking(Configurable, Model):
    """A ranking model in the manner of DLRM and DCN, put together from parts.

    The dense features pass through the bottom stack to one vector. It and the embeddings, in the order of the feature
    names with the dense vector last, meet in the feature interaction; after it, preceded by the dense vector if
    `concat_dense`, the top stack makes a logit, to which the linear terms are added. `DotInteraction` gives DLRM;
    `nn.Sequential(Concatenate(), Cross())` gives DCN. Ready-made combinations are `autoint`, `dcn_v2`, `deepfm`,
    `finalmlp`, `ncf`, `wide_and_deep` and `xdeepfm`.

    Args:
        embeddings: feature ids to vectors: an `EmbeddingCollection`, a `UnifiedEmbedding`, or your own.
        bottom_stack: from the dense features to a vector; an `MLP` [256, 64, dim] that ends in a ReLU by default.
        feature_interaction: from the list of vectors to one; `DotInteraction()` by default.
        top_stack: from there to one logit; an `MLP` [512, 256, 1] by default.
        concat_dense: whether the top stack sees the dense vector too.
        task: the loss and metrics; by default binary cross-entropy on logits with AUC, accuracy, calibration
            error, prediction and label means.
        dense_features: columns of numbers: names of those with one number per row, or schemas.
        label: the column with the label.
        weight: the column with the weight of each row, in evaluation too; None for equal weights.
        linear: tables of length 1, of any features, whose numbers are added to the logit. The dense features as they
            are then get a weight each, too.
        id_l2: factor of the squared norm of every id's vector, beside the sum of the losses of all training rows, as in
            a penalised logistic regression: what keeps rare ids from being learned by heart. By default 100, or a
            hundredth of the number of rows if that is less. `fit` reads the rows once more to count how often each id
            occurs; with binary cross-entropy, scores then start at the log-odds of all labels. Tables of
            `EmbeddingCollection`s with an `l2` of their own are left out, and so are other embeddings.
        linear_l2: the same factor for the weights of ids in the linear terms.

    Raises:
        ConfigError: an option that would do nothing, embeddings of another kind, or of different length with the
            default bottom stack, or tables of another length in `linear`.
        ShapeError: the parts do not fit each other.

    Example:
        >>> import torch, retrank as rr
        >>> model = rr.models.Ranking(
        ...     rr.EmbeddingCollection({"movie": rr.EmbeddingTable(10, 4), "user": rr.EmbeddingTable(10, 4)}),
        ...     dense_features=["age"])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3]), "age": torch.tensor([0.5])})).shape
        torch.Size([1])

    Source: `experimental.models.Ranking` of TensorFlow Recommenders; Naumov et al., DLRM, 2019; Wang et al., DCN V2,
    2021. Differs: the output is a logit of shape `(batch,)` even for a batch of one, weights work, and there may be no
    dense features.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        bottom_stack: nn.Module | None = None,
        feature_interaction: nn.Module | None = None,
        top_stack: nn.Module | None = None,
        concat_dense: bool = True,
        task: RankingTask | None = None,
        *,
        dense_features: Sequence[str | ColumnSchema] = (),
        label: str = "label",
        weight: str | None = None,
        linear: Embeddings | None = None,
        id_l2: float | None = None,
        linear_l2: float = DEFAULT_LINEAR_L2,
    ) -> None:
        super().__init__()
        self._id_penalty = IdPenalty(id_l2, linear_l2)
        self.base_score = BaseScore()
        require_embeddings(embeddings, "models.Ranking(embeddings=...)")
        columns = number_schemas(dense_features)
        if bottom_stack is not None and not columns:
            raise _config_error("dense features, for a bottom stack", "none", "name them in dense_features")
        if any(column.kind != "number" or column.is_jagged for column in columns):
            raise _config_error("dense features that are numbers", str(columns), "embed the ids")
        self.embeddings, self.concat_dense, self.label, self.weight = embeddings, concat_dense, label, weight
        self.dense_features = tuple(column.name for column in columns)
        self.feature_interaction = DotInteraction() if feature_interaction is None else feature_interaction
        self.top_stack = MLP(None, [512, 256, 1]) if top_stack is None else top_stack
        self.bottom_stack = bottom_stack
        if bottom_stack is None and columns:
            self.bottom_stack = MLP(None, [256, 64, self._common_dim()], final_activation=nn.ReLU())
        self.linear = None if linear is None else LinearTerms(linear, sum(column.width for column in columns))
        self.task = RankingTask(metrics=binary_metrics()) if task is None else task
        self._materialize(columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a score needs: ids, then dense features."""
        return (*self._id_features, *self.dense_features)

    def forward(self, batch: Batch) -> Tensor:
        """Score rows.

        Args:
            batch: has the ids and the dense features.

        Returns:
            `(batch,)` logits, or whatever the task's loss compares with labels.

        Raises:
            ShapeError: the top stack does not end in one number.
        """
        vectors = self.embeddings(batch)
        if self.training:
            self._id_penalty.add(batch, self.embeddings, vectors)
        inputs = [vectors[name] for name in sorted(vectors)]
        numbers = self._numbers(batch)
        dense = None if self.bottom_stack is None else self.bottom_stack(numbers)
        if dense is not None:
            inputs.append(dense)
        hidden = self.feature_interaction(inputs)
        if dense is not None and self.concat_dense:
            hidden = concatenate([dense, hidden])
        scores: Tensor = self.top_stack(hidden)
        if scores.shape != (len(batch), 1):
            raise ShapeError(f"({len(batch)}, 1)", str(tuple(scores.shape)), "output of top_stack")
        if self.linear is not None:
            terms = self.linear.tables(batch)
            if self.training:
                self._id_penalty.add(batch, self.linear.tables, terms)
            scores = scores + self.linear(terms, numbers)
        with_base: Tensor = self.base_score(scores.squeeze(1))
        return with_base

    def compute_loss(self, batch: Batch, training: bool = False) -> Tensor:  # noqa: ARG002 (the same for both)
        """Compare the scores with the labels, and update the metrics.

        Args:
            batch: has the ids, the dense features, the label and, if named, the weight.
            training: whether this loss will update the weights.

        Returns:
            Scalar: the task's mean loss.

        Raises:
            DataError: a column is missing.
        """
        weight = row_weights(batch, self.weight, "models.Ranking")
        loss: Tensor = self.task(labels=batch[self.label], predictions=self(batch), weight=weight)
        return loss

    def begin_fit(self, epoch: Iterable[Batch]) -> None:
        """Count how often each id occurs, for the penalty; see `Trainable.begin_fit`."""
        rows = self.base_score.find(epoch, self.task, self.label, self.weight)
        weights = None if self.linear is None else self.linear.tables
        self._id_penalty.count(rows, self.embeddings, weights, model_device(self))

    def default_optimizer(self) -> OptimizerSpec:
        """Return Adagrad (0.05) for tables and Adam (0.001) for all else: ids move fast, layers slowly.

        Adam moves a weight by about its learning rate, and a rare id is met a few times an epoch. At the rate that is
        right for layers neither its rows nor its penalty move its vector away from where it started, which is noise
        that the layers learn by heart.
        """
        tables = set(self.embedding_parameters)
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        parts = [
            (Adagrad(lr=0.05, initial_accumulator=1e-8), [parameter for parameter in learned if parameter in tables]),
            (Adam(lr=0.001), [parameter for parameter in learned if parameter not in tables]),
        ]
        return Composite([part for part in parts if part[1]])

    def end_fit(self) -> None:
        """Drop the counts; see `Trainable.end_fit`."""
        self._id_penalty.forget()

    @property
    def _id_features(self) -> tuple[str, ...]:
        wide = () if self.linear is None else self.linear.tables.features
        return tuple(dict.fromkeys([*self.embeddings.features, *wide]))

    def _numbers(self, batch: Batch) -> Tensor | None:
        columns = number_columns(batch, self.dense_features)
        return concatenate(columns) if columns else None

    def _common_dim(self) -> int:
        dims = self.embeddings.dims
        if len(set(dims.values())) != 1:
            raise _config_error("embeddings of one length", str(dims), "give a bottom_stack of the width that fits")
        return next(iter(dims.values()))

    def _materialize(self, columns: list[ColumnSchema]) -> None:
        """Give every lazily sized layer its width by a forward pass of two rows of zeros."""
        if not any(is_lazy(parameter) for parameter in self.parameters()):
            return
        rows: dict[str, Any] = {name: torch.full((2,), UNKNOWN_ID) for name in self._id_features}
        rows |= {column.name: torch.zeros(2, column.width) for column in columns}
        with evaluating(self), torch.no_grad():
            self(Batch(rows))


def _config_error(expected: str, got: str, fix: str) -> ConfigError:
    return ConfigError(expected, got, "models.Ranking", fix)
