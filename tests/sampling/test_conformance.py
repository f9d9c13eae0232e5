import pytest
from tests.conformance import SamplerCase, SamplerConformance

from retrank import sampling

COUNTS = list(range(1, 19))
CASES = {
    "in_batch": SamplerCase(sampling.InBatch),
    "cross_batch": SamplerCase(lambda: sampling.CrossBatch(capacity=8)),
    "uniform": SamplerCase(lambda: sampling.Uniform(6)),
    "uniform_repeated": SamplerCase(lambda: sampling.Uniform(30, unique=False)),
    "log_uniform": SamplerCase(lambda: sampling.Popularity(6)),
    "popularity": SamplerCase(lambda: sampling.Popularity(6, counts=COUNTS)),
    "mixed": SamplerCase(lambda: sampling.Mixed([sampling.InBatch(), sampling.Uniform(4)])),
}


class TestSamplers(SamplerConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        return request.param
