import importlib.util
from functools import partial

import pytest
from tests.conformance import IndexCase, IndexConformance

import retrank as rr

NEEDS_FAISS = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="no Faiss")


def in_pieces(embeddings, keys):
    """A stream of 7 candidates at a time."""

    def pieces():
        for start in range(0, len(embeddings), 7):
            yield embeddings[start : start + 7], None if keys is None else keys[start : start + 7]

    return rr.index.Streaming(pieces, device=embeddings.device)


CASES = {
    "exact": IndexCase(rr.index.Exact),
    "streaming": IndexCase(in_pieces),
    "faiss": IndexCase(partial(rr.index.Faiss, factory="Flat"), is_exact=False),
    "faiss_lists": IndexCase(partial(rr.index.Faiss, factory="IVF2,Flat", effort=2), is_exact=False),
    "faiss_graph": IndexCase(partial(rr.index.Faiss, factory="HNSW32"), is_exact=False),
}


class TestIndexes(IndexConformance):
    @pytest.fixture(
        params=[
            pytest.param(case, id=name, marks=NEEDS_FAISS if name.startswith("faiss") else ())
            for name, case in CASES.items()
        ]
    )
    def case(self, request):
        return request.param
