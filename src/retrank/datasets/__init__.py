"""Data to learn from: MovieLens, fetched and checked, and synthetic worlds whose right answers are known.

Every data set has `interactions`, `queries` and `candidates`, three polars tables. `movielens_100k`, `movielens_1m` and
`movielens_20m` look for their files on this machine first and download them at most once. `synthetic` makes a world of
any size in which the best candidates of each query can be asked for.
"""

from retrank.datasets.movielens import MovieLens, movielens_1m, movielens_20m, movielens_100k
from retrank.datasets.synthetic import SyntheticWorld, synthetic

__all__ = ["MovieLens", "SyntheticWorld", "movielens_100k", "movielens_1m", "movielens_20m", "synthetic"]
