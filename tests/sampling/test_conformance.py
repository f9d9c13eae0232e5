import pytest
from tests.conformance import SamplerCase, SamplerConformance

from retrank import sampling

COUNTS = list(range(1, 19))
CASES = {
    "in_batch": SamplerCase(sampling.InBatch),
    "in_batch_counted": SamplerCase(lambda: sampling.InBatch(counts=COUNTS)),
    "in_batch_learned": SamplerCase(lambda: sampling.InBatch(frequency=sampling.StreamingFrequency(64))),
    "cross_batch": SamplerCase(lambda: sampling.CrossBatch(capacity=8)),
    "cross_batch_counted": SamplerCase(lambda: sampling.CrossBatch(capacity=8, dim=4, counts=COUNTS)),
    "cross_batch_learned": SamplerCase(
        lambda: sampling.CrossBatch(capacity=8, frequency=sampling.StreamingFrequency(64))
    ),
    "uniform": SamplerCase(lambda: sampling.Uniform(6)),
    "uniform_repeated": SamplerCase(lambda: sampling.Uniform(30, unique=False)),
    "log_uniform": SamplerCase(lambda: sampling.Popularity(6)),
    "log_uniform_repeated": SamplerCase(lambda: sampling.Popularity(30, unique=False)),
    "popularity": SamplerCase(lambda: sampling.Popularity(6, counts=COUNTS)),
    "popularity_repeated": SamplerCase(lambda: sampling.Popularity(30, counts=COUNTS, unique=False)),
    "mixed": SamplerCase(lambda: sampling.Mixed([sampling.InBatch(), sampling.Uniform(4)])),
    "mixed_counted": SamplerCase(
        lambda: sampling.Mixed([sampling.InBatch(counts=COUNTS), sampling.Popularity(4, counts=COUNTS)])
    ),
}


class TestSamplers(SamplerConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        return request.param
