"""`wide_and_deep`: remember pairs of features by a linear model, generalize by a deep one."""

from collections.abc import Sequence

from torch import nn

from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.concatenate import Concatenate
from retrank.layers.mlp import MLP
from retrank.models.id_penalty import DEFAULT_LINEAR_L2
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["wide_and_deep"]


def wide_and_deep(
    embeddings: Embeddings,
    wide: Embeddings,
    *,
    layers: Sequence[int] = (256, 128, 64),
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
    linear_l2: float = DEFAULT_LINEAR_L2,
) -> Ranking:
    """Build a `Ranking` whose logit is an MLP on all features plus a weight for every id of the wide ones.

    Wide features are usually crosses, such as `rr.features.Cross`. The paper trains them by FTRL and the rest by
    Adagrad: `rr.optim.Composite([(rr.optim.FTRL(), model.linear.parameters()), ...])`.

    Args:
        embeddings: vectors of the ids that the deep part sees.
        wide: tables of length 1, of the ids that the wide part sees.
        layers: width of the hidden layers of the deep part.
        dropout: share of their values set to zero in training.
        dense_features: columns of numbers, which both parts see as they are.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.
        linear_l2: penalty of the weights of ids, see `Ranking`.

    Returns:
        The model.

    Example:
        >>> import torch, retrank as rr
        >>> model = rr.models.wide_and_deep(
        ...     rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)}),
        ...     rr.EmbeddingCollection({"user_x_movie": rr.EmbeddingTable(100, 1)}))
        >>> model.features
        ('user', 'movie', 'user_x_movie')

    Source: Cheng et al., Wide & Deep Learning for Recommender Systems, 2016.
    """
    return Ranking(
        embeddings,
        bottom_stack=nn.Identity() if dense_features else None,
        feature_interaction=Concatenate(),
        top_stack=MLP(None, [*layers, 1], dropout=dropout),
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
        linear_l2=linear_l2,
        linear=wide,
    )
