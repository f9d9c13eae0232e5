"""`finalmlp`: two MLPs that see the features through different gates, multiplied."""

from collections.abc import Sequence

from torch import nn

from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embeddings import Embeddings
from retrank.layers.two_stream_mlp import TwoStreamMLP
from retrank.models.number_columns import number_schemas
from retrank.models.ranking import Ranking
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["finalmlp"]


def finalmlp(
    embeddings: Embeddings,
    *,
    first_layers: Sequence[int] = (256, 64),
    second_layers: Sequence[int] = (256, 64),
    num_heads: int = 1,
    first_context: Sequence[str] | None = None,
    second_context: Sequence[str] | None = None,
    gate_units: int = 64,
    dropout: float = 0.0,
    dense_features: Sequence[str | ColumnSchema] = (),
    task: RankingTask | None = None,
    label: str = "label",
    weight: str | None = None,
    id_l2: float | None = None,
) -> Ranking:
    """Build a `Ranking` whose logit is the bilinear fusion of two MLPs, see `rr.layers.TwoStreamMLP`.

    Args:
        embeddings: feature ids to vectors, of any lengths.
        first_layers: width of each layer of the first MLP.
        second_layers: width of each layer of the second MLP.
        num_heads: into how many parts their outputs are cut before they are multiplied.
        first_context: id features by which the first stream weighs its input, e.g. those of the query; None for none.
        second_context: those of the second stream, e.g. the candidate's.
        gate_units: width of the hidden layer of the gates.
        dropout: share of the hidden values of the MLPs set to zero in training.
        dense_features: columns of numbers, which both streams see as they are.
        task: see `Ranking`.
        label: the column with the label.
        weight: the column with the weight of each row, None for equal weights.
        id_l2: penalty of the vectors of ids, see `Ranking`.

    Returns:
        The model.

    Raises:
        ConfigError: a context that has no embedding.

    Example:
        >>> import torch, retrank as rr
        >>> tables = rr.EmbeddingCollection({"user": rr.EmbeddingTable(10, 4), "movie": rr.EmbeddingTable(10, 8)})
        >>> model = rr.models.finalmlp(tables, first_context=["user"], second_context=["movie"])
        >>> model(rr.Batch({"movie": torch.tensor([2]), "user": torch.tensor([3])})).shape
        torch.Size([1])

    Source: Mao et al., FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction, 2023.
    """
    names = sorted(embeddings.features)  # the order in which Ranking passes them on
    unknown = sorted({*(first_context or ()), *(second_context or ())} - set(names))
    if unknown:
        raise ConfigError(f"some of {names}", str(unknown), "context of finalmlp", "name features with an embedding")
    numbers = sum(column.width for column in number_schemas(dense_features))
    return Ranking(
        embeddings,
        bottom_stack=nn.Identity() if dense_features else None,
        feature_interaction=TwoStreamMLP(
            [*(embeddings.dims[name] for name in names), *([numbers] if numbers else [])],
            first_layers,
            second_layers,
            num_heads=num_heads,
            first_context=None if first_context is None else [names.index(name) for name in first_context],
            second_context=None if second_context is None else [names.index(name) for name in second_context],
            gate_units=gate_units,
            dropout=dropout,
        ),
        top_stack=nn.Identity(),
        concat_dense=False,
        task=task,
        dense_features=dense_features,
        label=label,
        weight=weight,
        id_l2=id_l2,
    )
