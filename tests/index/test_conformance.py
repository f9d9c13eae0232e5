import pytest
from tests.conformance import IndexCase, IndexConformance

import retrank as rr


def in_pieces(embeddings, keys):
    """A stream of 7 candidates at a time."""

    def pieces():
        for start in range(0, len(embeddings), 7):
            yield embeddings[start : start + 7], None if keys is None else keys[start : start + 7]

    return rr.index.Streaming(pieces)


CASES = {"exact": IndexCase(rr.index.Exact), "streaming": IndexCase(in_pieces)}


class TestIndexes(IndexConformance):
    @pytest.fixture(params=CASES.values(), ids=CASES.keys())
    def case(self, request):
        return request.param
