"""Models that are ready to train, one idea a file.

`TwoTower` and `MatrixFactorization` retrieve: they embed queries and candidates so that an index can search them; what
they share is in `RetrievalModel`, and a `Tower` turns features into a vector. `Ranking` scores pairs in the manner of
DLRM and DCN; `Reranker` orders what was retrieved, list by list. All are `rr.Model`: `fit`, `evaluate` and `predict`
come from there.
"""

from retrank.models.matrix_factorization import MatrixFactorization
from retrank.models.pairs import LIST, PAIR_COLUMNS, RETRIEVAL_RANK, RETRIEVAL_SCORE, Candidates, pair_batch
from retrank.models.ranking import Ranking
from retrank.models.reranker import POSITIVE, ROWS, Reranker
from retrank.models.retrieval import Negatives, RetrievalModel
from retrank.models.tower import Tower
from retrank.models.two_tower import TwoTower

__all__ = [
    "Candidates",
    "LIST",
    "MatrixFactorization",
    "Negatives",
    "PAIR_COLUMNS",
    "POSITIVE",
    "RETRIEVAL_RANK",
    "RETRIEVAL_SCORE",
    "ROWS",
    "Ranking",
    "Reranker",
    "RetrievalModel",
    "Tower",
    "TwoTower",
    "pair_batch",
]
