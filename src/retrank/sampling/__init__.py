"""Sampling: which candidates a positive competes with, and with what probability each was drawn.

A `Sampler` takes the `Positives` of a batch and returns `Negatives`: ids, embeddings, and `log_q`, the logarithm of the
expected number of times that each is drawn. `InBatch` gives the other positives of the batch, `CrossBatch` those of
earlier batches; `Uniform` and `Popularity` draw from all candidates, embedded by a `CandidateTable`; `Mixed` combines
several. `StreamingFrequency` learns from the batches how often each candidate occurs.
"""

from retrank.sampling.cross_batch import CrossBatch
from retrank.sampling.frequency import StreamingFrequency
from retrank.sampling.in_batch import InBatch
from retrank.sampling.mixed import Mixed
from retrank.sampling.popularity import Popularity
from retrank.sampling.sampler import CandidateTable, Negatives, Positives, Sampler
from retrank.sampling.uniform import Uniform

__all__ = [
    "CandidateTable",
    "CrossBatch",
    "InBatch",
    "Mixed",
    "Negatives",
    "Popularity",
    "Positives",
    "Sampler",
    "StreamingFrequency",
    "Uniform",
]
