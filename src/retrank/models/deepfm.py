"""`deepfm` and `xdeepfm`: explicit feature crosses beside a deep network, on the same vectors."""

from collections.abc import Sequence

from torch import nn

from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.cin import CIN
from retrank.layers.concatenate import Concatenate
from retrank.layers.fm import FM
from retrank.layers.mlp import MLP
from retrank.layers.parallel import Parallel
from retrank.models.id_penalty import DEFAULT_LINEAR_L2
from retrank.models.number_columns import number_stack
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["deepfm", "xdeepfm"]


def deepfm(
    embeddings: Embeddings,
    *,
    layers: Sequence[int] = (256, 128),
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
    linear_l2: float = DEFAULT_LINEAR_L2,
) -> Ranking:
    """Build a `Ranking` whose logit is a factorization machine plus an MLP on the same vectors.

    Args:
        embeddings: feature ids to vectors, all of one length; every id also gets a weight of its own.
        layers: width of the hidden layers of the MLP.
        dropout: share of their values set to zero in training.
        dense_features: columns of numbers. Each has a vector; the sum of the vectors times the numbers is one feature.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.
        linear_l2: penalty of the weights of ids, see `Ranking`.

    Returns:
        The model.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)})
        >>> model = rr.models.deepfm(tables, dense_features=["age"])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3]), "age": torch.tensor([0.5])})).shape
        torch.Size([1])

    Source: Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, 2017. Differs: numbers
    are multiplied with ids but not with each other.
    """
    deep = nn.Sequential(Concatenate(), MLP(None, [*layers, 1], dropout=dropout))
    return Ranking(
        embeddings,
        bottom_stack=number_stack(embeddings, dense_features),
        feature_interaction=Parallel([FM(), deep], combine="sum"),
        top_stack=nn.Identity(),
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
        linear_l2=linear_l2,
        linear=embeddings.linear_terms(),
    )


def xdeepfm(
    embeddings: Embeddings,
    *,
    cross_units: Sequence[int] = (128, 128),
    layers: Sequence[int] = (256, 128),
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
    linear_l2: float = DEFAULT_LINEAR_L2,
) -> Ranking:
    """Build a `Ranking` whose logit is a linear map of a compressed interaction network and an MLP, plus linear terms.

    Args:
        embeddings: feature ids to vectors, all of one length; every id also gets a weight of its own.
        cross_units: vectors of each layer of the interaction network, see `rr.layers.CIN`.
        layers: width of the hidden layers of the MLP.
        dropout: share of their values set to zero in training, not of the last.
        dense_features: columns of numbers. Each has a vector; the sum of the vectors times the numbers is one feature.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.
        linear_l2: penalty of the weights of ids, see `Ranking`.

    Returns:
        The model.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)})
        >>> model = rr.models.xdeepfm(tables, cross_units=[8, 8])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3])})).shape
        torch.Size([1])

    Source: Lian et al., xDeepFM: Combining Explicit and Implicit Feature Interactions, KDD 2018.
    """
    deep = nn.Sequential(Concatenate(), MLP(None, layers, final_activation=nn.ReLU(), dropout=dropout))
    return Ranking(
        embeddings,
        bottom_stack=number_stack(embeddings, dense_features),
        feature_interaction=Parallel([CIN(None, cross_units), deep]),
        top_stack=MLP(None, [1]),
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
        linear_l2=linear_l2,
        linear=embeddings.linear_terms(),
    )
