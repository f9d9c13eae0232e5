"""How good is it, honestly: full-corpus metrics for each query, intervals and paired tests.

`evaluate` compares anything that `Recommends`, such as a `Recommender` and the baselines, on a train and a test table
and returns a `Report`.
"""

from retrank.evaluation.evaluate import RANKING_METRICS, evaluate, per_query_metrics
from retrank.evaluation.recommends import Recommends
from retrank.evaluation.report import Report
from retrank.evaluation.significance import Bootstrap, bootstrap

__all__ = [
    "Bootstrap",
    "RANKING_METRICS",
    "Recommends",
    "Report",
    "bootstrap",
    "evaluate",
    "per_query_metrics",
]
