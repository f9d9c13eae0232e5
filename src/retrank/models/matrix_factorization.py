"""`MatrixFactorization`: one vector per query, one vector and a bias per candidate."""

from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.core.schema import ColumnSchema
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.models.negatives import Negatives
from retrank.models.retrieval import RetrievalModel
from retrank.tasks.retrieval import Retrieval

__all__ = ["MatrixFactorization"]


@final
class MatrixFactorization(RetrievalModel):
    """Scores a candidate for a query by the dot product of their vectors, plus the candidate's bias.

    The bias is one more dimension, in which every query is 1, so that an index needs to know nothing of it.

    Args:
        query: the schema of the column with the query's id.
        candidate: the schema of the column with the candidate's id.
        task: the loss, and the metrics of the evaluation.
        dim: length of the vectors.
        bias: whether candidates have one; it starts at zero.
        l2: factor of the squared norm of the vectors that a batch looks up.
        space: knows how frequent each candidate is; needed by a task with `log_q=True`.
        catalogue: all candidates; needed for corpus metrics and `CatalogueNegatives`.
        negatives: `"in_batch"`, `"catalogue"`, a sampler or a `NegativeSource`; see `TwoTower`.
        weight: the column with the weight of each row, None for equal weights.
        exclude: the column with the catalogue rows (`Jagged`) that a query's evaluation leaves out; None for none.
        output_l2: in training, factor of the mean squared norm of the queries plus that of the scored candidates.

    Raises:
        ConfigError: a column that does not hold one id per row, or arguments that contradict each other.

    Example:
        >>> import torch, retrank as rr
        >>> schema = lambda name: rr.core.ColumnSchema(name, "ids", num_ids=10)
        >>> model = rr.models.MatrixFactorization(schema("user_id"), schema("movie_id"), rr.tasks.Retrieval(), dim=4)
        >>> batch = rr.Batch({"user_id": torch.tensor([2, 3]), "movie_id": torch.tensor([5, 5])})
        >>> model.embed_queries(batch).shape, model(batch).shape
        (torch.Size([2, 5]), torch.Size([2]))

    Source: Koren et al., Matrix Factorization Techniques for Recommender Systems, 2009; trained by a softmax.
    """

    def __init__(
        self,
        query: ColumnSchema,
        candidate: ColumnSchema,
        task: Retrieval,
        *,
        dim: int = 64,
        bias: bool = True,
        l2: float = 0.0,
        space: FeatureSpace | None = None,
        catalogue: Catalogue | None = None,
        negatives: Negatives = "in_batch",
        weight: str | None = None,
        exclude: str | None = None,
        output_l2: float = 0.0,
    ) -> None:
        for column in (query, candidate):
            if column.kind != "ids" or column.is_jagged:
                raise ConfigError(
                    "one id per row", f"{column}", "MatrixFactorization", "pass the schema of a Categorical feature"
                )
        super().__init__(
            task,
            candidate_id=candidate.name,
            num_candidate_ids=candidate.num_ids or 0,
            space=space,
            catalogue=catalogue,
            negatives=negatives,
            weight=weight,
            exclude=exclude,
            output_l2=output_l2,
        )
        self.query_id = query.name
        self.query = EmbeddingTable(query, dim, l2=l2)
        self.candidate = EmbeddingTable(candidate, dim, l2=l2)
        self.bias = EmbeddingTable(candidate, 1, scale=0.0, name=f"{candidate.name}_bias") if bias else None

    def recorded_arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, with schemas of the size that the tables have by now."""
        recorded = super().recorded_arguments()
        tables = {"query": self.query, "candidate": self.candidate}
        return recorded | {name: replace(recorded[name], num_ids=table.num_ids) for name, table in tables.items()}

    @property
    def query_features(self) -> tuple[str, ...]:
        """The features that a query needs."""
        return (self.query_id,)

    @property
    def candidate_features(self) -> tuple[str, ...]:
        """The features that a candidate needs."""
        return (self.candidate_id,)

    def query_embeddings(self, batch: Batch) -> Tensor:
        """Look up queries.

        Args:
            batch: has the query's id.

        Returns:
            `(batch, dim)`, one wider with a bias.
        """
        vectors: Tensor = self.query(batch[self.query_id])
        return vectors if self.bias is None else torch.cat([vectors, vectors.new_ones(len(vectors), 1)], dim=1)

    def candidate_embeddings(self, batch: Batch) -> Tensor:
        """Look up candidates.

        Args:
            batch: has the candidate's id.

        Returns:
            `(batch, dim)`, one wider with a bias.
        """
        ids = batch[self.candidate_id]
        vectors: Tensor = self.candidate(ids)
        return vectors if self.bias is None else torch.cat([vectors, self.bias(ids)], dim=1)
