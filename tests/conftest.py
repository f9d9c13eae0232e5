"""What all tests share."""

import os
from contextlib import nullcontext

import pytest
import torch
from hypothesis import HealthCheck, settings

from retrank.core import native
from retrank.core.notices import forget_warnings
from tests import fake_movielens

# The tests compute little, and two threads on a busy machine wait for each other; the sanitizers want to see them.
torch.set_num_threads(int(os.environ.get("RETRANK_TEST_THREADS", "1")))

# No test may fail because a machine is busy.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _same_random_numbers_for_every_test():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _every_test_hears_its_warnings():
    forget_warnings()


@pytest.fixture(scope="session")
def movielens_folder(tmp_path_factory):
    """A folder with invented data in the layout of MovieLens-100K."""
    folder = tmp_path_factory.mktemp("movielens") / "ml-100k"
    fake_movielens.write(folder)
    return folder.parent


@pytest.fixture
def fake_movielens_data(movielens_folder, monkeypatch):
    """Make `rr.datasets.movielens_100k()` find the invented data."""
    monkeypatch.setenv("RETRANK_DATA", str(movielens_folder))


@pytest.fixture(params=["kernels", "plain torch"], scope="module")
def with_and_without_kernels(request):
    """Run every test of a module twice."""
    with nullcontext() if request.param == "kernels" else native.without_kernels():
        if request.param == "kernels" and native.library() is None:
            pytest.skip("no C++ compiler")
        yield
