"""`youtube_dnn`: a deep tower over what a query had before, and one vector per candidate."""

from collections.abc import Sequence

from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.models.negatives import Negatives
from retrank.models.tower import Tower
from retrank.models.two_tower import TwoTower
from retrank.tasks.retrieval import Retrieval

__all__ = ["youtube_dnn"]


def youtube_dnn(
    space: FeatureSpace,
    features: Sequence[str],
    *,
    candidate_id: str,
    query_id: str | None = None,
    layers: Sequence[int] = (128, 64, 32),
    dim: int = 32,
    dropout: float = 0.0,
    l2: float = 0.0,
    task: Retrieval | None = None,
    catalogue: Catalogue | None = None,
    negatives: Negatives = "catalogue",
    weight: str | None = None,
    exclude: str | None = None,
) -> TwoTower:
    """Build a `TwoTower` whose candidates are rows of a table: a softmax classifier with one class per candidate.

    What the query had before is a list feature such as `rr.features.Recent`, pooled by its mean. With
    `negatives="catalogue"` the softmax goes over all candidates; with `rr.sampling.Popularity(...)` and
    `task=rr.tasks.Retrieval(log_q=True, remove_accidental_hits=True)` it is sampled, and corrected for that.

    Args:
        space: a fitted feature space.
        features: what the query's tower sees: the recent candidates, and whatever else is known about the query.
        candidate_id: the feature that identifies candidates.
        query_id: the feature that identifies queries, which the tower need not see; the first of `features` by default.
        layers: width of each layer of the tower; the last is the length of the candidates' vectors.
        dim: length of the vector of every id feature of the query.
        dropout: share of the hidden values set to zero in training.
        l2: factor of the squared norm of the vectors that a batch looks up.
        task: the loss, and the metrics of the evaluation.
        catalogue: all candidates; needed for corpus metrics and `CatalogueNegatives`.
        negatives: `"catalogue"`, `"in_batch"`, a sampler or a `NegativeSource`; see `TwoTower`.
        weight: the column with the weight of each row, None for equal weights.
        exclude: the column with the catalogue rows (`Jagged`) that a query's evaluation leaves out; None for none.

    Returns:
        The model.

    Example:
        >>> import polars as pl, retrank as rr
        >>> plays = pl.DataFrame({"user": [1, 1, 1], "song": ["x", "y", "z"], "time": [1, 2, 3]})
        >>> plays = rr.data.with_recent_candidates(plays, query="user", candidate="song", time="time", length=2)
        >>> kinds = {"song": rr.features.Categorical(), "recent": rr.features.Recent("song")}
        >>> space = rr.FeatureSpace(kinds).fit(plays)
        >>> model = rr.models.youtube_dnn(space, ["recent"], candidate_id="song", layers=[16, 8],
        ...                               catalogue=space.catalogue(plays.select("song"), key="song"))
        >>> model.embed_queries(space.transform(plays)).shape
        torch.Size([3, 8])

    Source: Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016: the candidate generation.
    """
    return TwoTower(
        Tower(space, features, layers, dim=dim, dropout=dropout, l2=l2),
        Tower(space, [candidate_id], layers=(), dim=layers[-1], l2=l2),
        Retrieval() if task is None else task,
        query_id=query_id,
        catalogue=catalogue,
        negatives=negatives,
        weight=weight,
        exclude=exclude,
    )
