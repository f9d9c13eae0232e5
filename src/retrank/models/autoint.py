"""`autoint`: feature crosses by self-attention."""

from collections.abc import Sequence

from torch import nn

from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.attention import FieldAttention
from retrank.layers.concatenate import Concatenate
from retrank.layers.mlp import MLP
from retrank.layers.parallel import Parallel
from retrank.models.number_columns import number_stack
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["autoint"]


def autoint(
    embeddings: Embeddings,
    *,
    attention: FieldAttention | None = None,
    layers: Sequence[int] = (),
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
) -> Ranking:
    """Build a `Ranking` whose logit is a linear map of features that attended to each other.

    Args:
        embeddings: feature ids to vectors, all of one length.
        attention: the attending layers; `rr.layers.FieldAttention()` by default.
        layers: width of the hidden layers of an MLP beside the attention (AutoInt+); none by default.
        dropout: share of their values set to zero in training, not of the last.
        dense_features: columns of numbers. Each has a vector; the sum of the vectors times the numbers is one feature.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.

    Returns:
        The model.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 4)})
        >>> model = rr.models.autoint(tables, layers=[16])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3])})).shape
        torch.Size([1])

    Source: Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, 2019.
    """
    interaction: nn.Module = FieldAttention() if attention is None else attention
    if layers:
        deep = nn.Sequential(Concatenate(), MLP(None, layers, final_activation=nn.ReLU(), dropout=dropout))
        interaction = Parallel([interaction, deep])
    return Ranking(
        embeddings,
        bottom_stack=number_stack(embeddings, dense_features),
        feature_interaction=interaction,
        top_stack=MLP(None, [1]),
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
    )
