"""`ncf`: matrix factorization beside a deep network."""

from collections.abc import Sequence

from torch import nn

from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.collection import EmbeddingCollection
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.layers.concatenate import Concatenate
from retrank.layers.hadamard_product import HadamardProduct
from retrank.layers.mlp import MLP
from retrank.layers.parallel import Parallel
from retrank.layers.slice import Slice
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["ncf"]


def ncf(
    query: ColumnSchema,
    candidate: ColumnSchema,
    *,
    dim: int = 16,
    layers: Sequence[int] = (64, 32, 16),
    l2: float = 0.0,
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
) -> Ranking:
    """Build a `Ranking` of ids alone: a linear map of the product of two vectors and of an MLP on two others.

    One table per id holds both vectors, one after the other; they share no weights.

    Args:
        query: the schema of the column with the query's id.
        candidate: the schema of the column with the candidate's id.
        dim: length of the vectors that are multiplied; 0 leaves only the MLP.
        layers: width of each layer of the MLP, whose vectors are half as long as the first; none leaves only the
            product.
        l2: factor of the squared norm of the vectors that a batch looks up.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.

    Returns:
        The model.

    Raises:
        ConfigError: neither a product nor layers, or a first layer of odd width.

    Example:
        >>> import torch, retrank as rr
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=10)
        >>> model = rr.models.ncf(schema("user"), schema("movie"), dim=8, layers=[16, 8])
        >>> model(rr.Batch({"user": torch.tensor([2, 3]), "movie": torch.tensor([5, 5])})).shape
        torch.Size([2])

    Source: NeuMF of He et al., Neural Collaborative Filtering, 2017, trained at once instead of part by part. Rendle et
    al., Neural Collaborative Filtering vs. Matrix Factorization Revisited, 2020, find a dot product as good.
    """
    if dim < 0 or (dim == 0 and not layers) or (layers and layers[0] % 2):
        raise ConfigError("dim >= 1 or layers, the first of even width", f"dim={dim}, layers={list(layers)}", "ncf")
    branches: list[nn.Module] = []
    if dim:
        branches.append(nn.Sequential(Slice(0, dim), HadamardProduct()))
    if layers:
        deep = MLP(None, layers, final_activation=nn.ReLU())
        branches.append(nn.Sequential(Slice(dim), Concatenate(), deep))
    length = dim + (layers[0] // 2 if layers else 0)
    return Ranking(
        EmbeddingCollection({column.name: EmbeddingTable(column, length, l2=l2) for column in (query, candidate)}),
        feature_interaction=Parallel(branches),
        top_stack=MLP(None, [1]),
        task=task,
        label=label,
        weight=weight,
        id_l2=0.0,  # l2 is the penalty here
    )
