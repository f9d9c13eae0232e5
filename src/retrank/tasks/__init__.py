"""Tasks: what is learned.

A `Task` turns a batch's outputs into one scalar loss, an average over rows, and feeds the metrics it was given.
`Ranking` learns labels from predictions; `Retrieval` learns to score each query's positive above all other candidates.
`RetrievalScorer` only scores, the positive first and then the negatives of pluggable samplers, for a loss of your
choice; `rescore_false_negatives` is its treatment of false negatives.
The corrections of retrieval scores are pure functions that compose in any order: `apply_temperature`, `correct_log_q`,
`remove_accidental_hits`, `apply_score_mask`, `mine_hard_negatives`; `SamplingProbabilityCorrection`,
`RemoveAccidentalHits` and `HardNegativeMining` are the same as modules. `mask_known_positives` says which pairs of a
batch must not be compared, as the candidate is another positive of the query.
"""

from retrank.tasks.corrections import HardNegativeMining, RemoveAccidentalHits, SamplingProbabilityCorrection
from retrank.tasks.known_positives import mask_known_positives
from retrank.tasks.logits import (
    apply_score_mask,
    apply_temperature,
    correct_log_q,
    mine_hard_negatives,
    remove_accidental_hits,
)
from retrank.tasks.ranking import Ranking
from retrank.tasks.retrieval import Retrieval
from retrank.tasks.scorer import RetrievalScorer, ScorerOutput, rescore_false_negatives
from retrank.tasks.task import BatchMetric, CorpusMetric, LossMetric, Task, TaskMetric

__all__ = [
    "BatchMetric",
    "CorpusMetric",
    "HardNegativeMining",
    "LossMetric",
    "Ranking",
    "RemoveAccidentalHits",
    "Retrieval",
    "RetrievalScorer",
    "SamplingProbabilityCorrection",
    "ScorerOutput",
    "Task",
    "TaskMetric",
    "apply_score_mask",
    "apply_temperature",
    "correct_log_q",
    "mask_known_positives",
    "mine_hard_negatives",
    "remove_accidental_hits",
    "rescore_false_negatives",
]
