"""Tasks: what is learned.

A `Task` turns a batch's outputs into one scalar loss, an average over rows, and feeds the metrics it was given.
`Ranking` learns labels from predictions; `Retrieval` learns to score each query's positive above all other candidates.
The corrections of retrieval scores are pure functions that compose in any order: `apply_temperature`, `correct_log_q`,
`remove_accidental_hits`, `mine_hard_negatives`.
"""

from retrank.tasks.logits import apply_temperature, correct_log_q, mine_hard_negatives, remove_accidental_hits
from retrank.tasks.ranking import Ranking
from retrank.tasks.retrieval import Retrieval
from retrank.tasks.task import CorpusMetric, Task, TaskMetric

__all__ = [
    "CorpusMetric",
    "Ranking",
    "Retrieval",
    "Task",
    "TaskMetric",
    "apply_temperature",
    "correct_log_q",
    "mine_hard_negatives",
    "remove_accidental_hits",
]
