"""`VectorModel`: embeds queries and candidates separately; a score is a dot product."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from retrank.core.batch import Batch
from retrank.models.corpus import embed_in_pieces
from retrank.training.device import model_device
from retrank.training.mode import evaluating
from retrank.training.model import Model

__all__ = ["VectorModel"]


class VectorModel(Model, ABC):
    """A model whose subclass says how it embeds, in `query_embeddings` and `candidate_embeddings`."""

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

    def query_encoder(self) -> Callable[[Batch], Tensor]:
        """Prepare to embed queries again and again, out of training and without gradients.

        Returns:
            Gives the bits of `query_embeddings`; the model must not change.
        """
        return self.query_embeddings

    @abstractmethod
    def candidate_embeddings(self, batch: Batch) -> Tensor:
        """Embed candidates, differentiably.

        Args:
            batch: has the candidate's features.

        Returns:
            `(batch, dim)`.
        """

    def forward(self, batch: Batch) -> Tensor:
        """Score pairs.

        Args:
            batch: has the features of a query and a candidate in each row.

        Returns:
            `(batch,)` dot products.
        """
        return (self.query_embeddings(batch) * self.candidate_embeddings(batch)).sum(dim=1)

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
            return embed_in_pieces(self.candidate_embeddings, batch, model_device(self)).vectors
