"""What MLflow imports to load a bundle as a `pyfunc` model: named in the model's file, so that nothing is pickled."""

from pathlib import Path
from typing import Any, final

from retrank.recommender import Recommender

__all__ = ["BundleModel"]


@final
class BundleModel:
    """A recommender as MLflow asks it.

    Args:
        recommender: any.
    """

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender

    def predict(self, queries: Any, params: dict[str, Any] | None = None) -> Any:
        """Recommend to many queries.

        Args:
            queries: a pandas frame with a row per query: its key and, if they are new or have changed, its features.
            params: `k` and `exclude_seen`, as in `Recommender.recommend_many`.

        Returns:
            A pandas frame: query key, candidate key, `rank`, `score` and `stage`, best first.

        Raises:
            DataError: a query that cannot be answered, with its row.
        """
        given = params or {}
        return self.recommender.recommend_many(
            queries, int(given.get("k", 10)), exclude_seen=bool(given.get("exclude_seen", True))
        )


def _load_pyfunc(path: str) -> BundleModel:
    """Load the bundle of a model; the name is MLflow's."""
    return BundleModel(Recommender.load(Path(path), progress=False))
