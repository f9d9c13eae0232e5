"""How good is it, honestly: baselines, full-corpus metrics for each query, intervals and paired tests.

`evaluate` compares anything that `Recommends` on a train and a test table and returns a `Report`. `baselines` holds
popularity, item-kNN and EASE.
"""

from retrank.evaluation import baselines
from retrank.evaluation.evaluate import RANKING_METRICS, evaluate, per_query_metrics
from retrank.evaluation.interactions import InteractionMatrix, query_and_candidate
from retrank.evaluation.recommends import Recommends
from retrank.evaluation.report import Report
from retrank.evaluation.significance import Bootstrap, bootstrap

__all__ = [
    "Bootstrap",
    "InteractionMatrix",
    "RANKING_METRICS",
    "Recommends",
    "Report",
    "baselines",
    "bootstrap",
    "evaluate",
    "per_query_metrics",
    "query_and_candidate",
]
