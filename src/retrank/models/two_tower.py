"""`TwoTower`: one tower for queries, one for candidates."""

from collections.abc import Callable
from typing import final

from torch import Tensor
from torch.nn import functional

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.features.catalogue import Catalogue
from retrank.models.negatives import Negatives
from retrank.models.retrieval import RetrievalModel
from retrank.models.tower import Tower
from retrank.tasks.retrieval import Retrieval

__all__ = ["TwoTower"]


@final
class TwoTower(RetrievalModel):
    """Scores a candidate for a query by the dot product of the outputs of two towers.

    With `Retrieval(log_q=True)` the frequency of each candidate among the positives is taken from the counts of its
    vocabulary; a `rr.sampling.StreamingFrequency` in its place learns it from the batches.
    With `normalize` the score is a cosine, and this is DSSM: then `task=rr.tasks.Retrieval(temperature=0.05)` or so.

    Args:
        query: the tower of queries.
        candidate: the tower of candidates, of equal output width.
        task: the loss, and the metrics of the evaluation.
        catalogue: all candidates, `space.catalogue(...)`; needed for corpus metrics and `CatalogueNegatives`.
        negatives: what a positive competes with in training: `"in_batch"` or `rr.models.InBatchNegatives()`, the other
            positives of its batch; `"catalogue"` or `rr.models.CatalogueNegatives()`, all candidates, which costs one
            pass of the candidate tower over the catalogue in every step; a sampler of `rr.sampling`, what it draws; or
            a `rr.models.NegativeSource` of your own.
        candidate_id: the feature that identifies candidates; the candidate tower's first by default.
        query_id: the feature that identifies queries to a `rr.Recommender`; the query tower's first by default.
        weight: the column with the weight of each row, None for equal weights.
        exclude: the column with the catalogue rows (`Jagged`) that a query's evaluation leaves out; None for none.
        output_l2: in training, factor of the mean squared norm of the queries plus that of the scored candidates.
        normalize: whether the outputs of both towers are scaled to length 1; the task then wants a temperature.
        tie_residuals: whether the towers share one residual table: the query's recent candidates and the candidate
            itself then are the same vectors.

    Raises:
        ConfigError: towers of different width, or arguments that contradict each other.

    Example:
        >>> import polars as pl, retrank as rr
        >>> views = pl.DataFrame({"user_id": [1, 1, 2, 2], "movie_id": ["a", "b", "b", "c"]})
        >>> space = rr.FeatureSpace({"user_id": rr.features.Categorical(), "movie_id": rr.features.Categorical()})
        >>> catalogue = space.fit(views).catalogue(views.select("movie_id").unique(maintain_order=True), key="movie_id")
        >>> model = rr.models.TwoTower(
        ...     rr.models.Tower(space, ["user_id"]), rr.models.Tower(space, ["movie_id"]),
        ...     rr.tasks.Retrieval(), catalogue=catalogue)
        >>> history = model.fit(space.loader(views, batch_size=4), optimizer=rr.optim.Adagrad(0.1), epochs=1,
        ...                     progress=False)
        >>> scores, keys = model.build_index().search(model.embed_queries(space.transform(views[:1])), k=3)
        >>> sorted(keys[0])
        ['a', 'b', 'c']

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, 2019; Huang et
    al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data, 2013.
    """

    def __init__(
        self,
        query: Tower,
        candidate: Tower,
        task: Retrieval,
        *,
        catalogue: Catalogue | None = None,
        negatives: Negatives = "in_batch",
        candidate_id: str | None = None,
        query_id: str | None = None,
        weight: str | None = None,
        exclude: str | None = None,
        output_l2: float = 0.0,
        normalize: bool = False,
        tie_residuals: bool = False,
    ) -> None:
        candidate_id = candidate.id_feature if candidate_id is None else candidate_id
        schema = candidate.space.schema.get(candidate_id)
        if schema is None or schema.num_ids is None or schema.is_jagged:
            raise ConfigError(
                "a feature with one id per row",
                repr(candidate_id),
                "candidate_id of TwoTower",
                "name the candidates' key",
            )
        super().__init__(
            task,
            candidate_id=candidate_id,
            num_candidate_ids=schema.num_ids,
            space=candidate.space,
            catalogue=catalogue,
            negatives=negatives,
            weight=weight,
            exclude=exclude,
            output_l2=output_l2,
        )
        if query_id is not None and query_id not in candidate.space.schema:
            raise self._error(f"one of {list(candidate.space.schema)}", repr(query_id), "name the queries' key")
        if query.out_features != candidate.out_features:
            got = f"{query.out_features} and {candidate.out_features}"
            raise self._error("towers of equal output width", got, "end both in layers of one size")
        self.query, self.candidate = query, candidate
        self.query_id = query.id_feature if query_id is None else query_id
        self.normalize = normalize
        if tie_residuals:
            self._tie_residuals()

    @property
    def query_features(self) -> tuple[str, ...]:
        """The features that a query needs."""
        return self.query.inputs

    @property
    def candidate_features(self) -> tuple[str, ...]:
        """The features that a candidate needs."""
        return self.candidate.inputs

    def query_embeddings(self, batch: Batch) -> Tensor:
        """Pass queries through their tower; see `RetrievalModel.query_embeddings`."""
        return self._normalized(self.query(batch))

    def query_encoder(self) -> Callable[[Batch], Tensor]:
        """Prepare the query tower to be served; see `RetrievalModel.query_encoder`."""
        tower = self.query.prepared()
        return lambda batch: self._normalized(tower(batch))

    def candidate_embeddings(self, batch: Batch) -> Tensor:
        """Pass candidates through their tower; see `RetrievalModel.candidate_embeddings`."""
        return self._normalized(self.candidate(batch))

    def _normalized(self, embeddings: Tensor) -> Tensor:
        return functional.normalize(embeddings, dim=1) if self.normalize else embeddings

    def _tie_residuals(self) -> None:
        one, other = self.query.residual, self.candidate.residual
        if one is None or other is None or one.weight.shape != other.weight.shape:
            raise self._error(
                "residuals of both towers in one vocabulary, for tie_residuals",
                f"'{self.query.residual_feature}' and '{self.candidate.residual_feature}'",
                "give the query tower a rr.features.Recent of the candidate's residual",
            )
        self.query.residual = other
