"""`dcn_v2`: a cross network below or beside a deep one."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.concatenate import Concatenate
from retrank.layers.dcn import DCN
from retrank.layers.mlp import MLP
from retrank.layers.parallel import Parallel
from retrank.models.id_penalty import DEFAULT_LINEAR_L2
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["dcn_v2"]

Structure = Literal["stacked", "parallel"]


def dcn_v2(
    embeddings: Embeddings,
    *,
    structure: Structure = "stacked",
    num_crosses: int = 3,
    projection_dim: int | None = None,
    layers: Sequence[int] = (256, 128),
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
    linear: Embeddings | None = None,
    linear_l2: float = DEFAULT_LINEAR_L2,
) -> Ranking:
    """Build a `Ranking` from a cross network and an MLP on the concatenated features.

    Args:
        embeddings: feature ids to vectors, of any lengths.
        structure: `"stacked"`: the MLP sees what the crosses make; `"parallel"`: it sees the features, and a linear map
            of both makes the logit.
        num_crosses: layers of the cross network.
        projection_dim: rank of their matrices, None for full ones.
        layers: width of the hidden layers of the MLP.
        dropout: share of their values set to zero in training; in the parallel structure not of the last.
        dense_features: columns of numbers, which are crossed as they are.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.
        linear: weights to add to the logit, e.g. `embeddings.linear_terms()`. The paper has none; clicks are predicted
            better with them, see `Ranking`.
        linear_l2: penalty of these weights, see `Ranking`.

    Returns:
        The model.

    Raises:
        ConfigError: another structure.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 8)})
        >>> model = rr.models.dcn_v2(tables, structure="parallel", dense_features=["age"])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3]), "age": torch.tensor([0.5])})).shape
        torch.Size([1])

    Source: Wang et al., DCN V2: Improved Deep & Cross Network, 2021.
    """
    if structure not in get_args(Structure):
        raise ConfigError(f"one of {get_args(Structure)}", repr(structure), "dcn_v2")
    crosses = DCN(num_layers=num_crosses, projection_dim=projection_dim)
    interaction: nn.Module
    if structure == "stacked":
        interaction, top_stack = crosses, MLP(None, [*layers, 1], dropout=dropout)
    else:
        deep = MLP(None, layers, final_activation=nn.ReLU(), dropout=dropout)
        interaction, top_stack = Parallel([crosses, deep]), MLP(None, [1])
    return Ranking(
        embeddings,
        bottom_stack=nn.Identity() if dense_features else None,
        feature_interaction=nn.Sequential(Concatenate(), interaction),
        top_stack=top_stack,
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
        linear=linear,
        linear_l2=linear_l2,
    )
