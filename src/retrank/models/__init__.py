"""Models that are ready to train, one idea per file.

`TwoTower` and `MatrixFactorization` retrieve: they embed queries and candidates so that an index can search them; what
they share is in `RetrievalModel`, and a `Tower` turns features into a vector. In training a positive competes with
`InBatchNegatives`, `CatalogueNegatives`, what a sampler draws, or another `NegativeSource`. `youtube_dnn` builds a
`TwoTower` over recent candidates, and a `TwoTower` with `normalize=True` is DSSM. `Ranking` scores pairs in the manner
of DLRM and DCN, and `autoint`, `dcn_v2`, `deepfm`, `finalmlp`, `ncf`, `wide_and_deep` and `xdeepfm` put one together
after the paper of that name. `MultiTaskRanking` learns several labels together, of which `TaskScore` makes one score;
`Reranker` orders what was retrieved, list by list. All are `rr.Model`: `fit`, `evaluate` and `predict` come from there.
"""

from retrank.models.autoint import autoint
from retrank.models.catalogue_negatives import CatalogueNegatives
from retrank.models.dcn import dcn_v2
from retrank.models.deepfm import deepfm, xdeepfm
from retrank.models.finalmlp import finalmlp
from retrank.models.in_batch_negatives import InBatchNegatives
from retrank.models.matrix_factorization import MatrixFactorization
from retrank.models.multitask import MultiTaskRanking
from retrank.models.ncf import ncf
from retrank.models.negative_source import NegativeSource
from retrank.models.pairs import (
    IS_STANDARD,
    LIST,
    PAIR_COLUMNS,
    RETRIEVAL_RANK,
    RETRIEVAL_SCORE,
    Candidates,
    pair_batch,
)
from retrank.models.ranking import Ranking
from retrank.models.reranker import POSITIVE, ROWS, Reranker
from retrank.models.retrieval import RetrievalModel
from retrank.models.retrieval_step import RetrievalStep
from retrank.models.sampled_negatives import SampledNegatives
from retrank.models.task_score import TaskScore
from retrank.models.tower import Tower
from retrank.models.two_tower import TwoTower
from retrank.models.wide_and_deep import wide_and_deep
from retrank.models.youtube_dnn import youtube_dnn

__all__ = [
    "Candidates",
    "CatalogueNegatives",
    "IS_STANDARD",
    "InBatchNegatives",
    "LIST",
    "MatrixFactorization",
    "MultiTaskRanking",
    "NegativeSource",
    "PAIR_COLUMNS",
    "POSITIVE",
    "RETRIEVAL_RANK",
    "RETRIEVAL_SCORE",
    "ROWS",
    "Ranking",
    "Reranker",
    "RetrievalModel",
    "RetrievalStep",
    "SampledNegatives",
    "TaskScore",
    "Tower",
    "TwoTower",
    "autoint",
    "dcn_v2",
    "deepfm",
    "finalmlp",
    "ncf",
    "pair_batch",
    "wide_and_deep",
    "xdeepfm",
    "youtube_dnn",
]
