"""A fresh store of each kind."""

import pytest

from retrank.serving.stores import open_store


@pytest.fixture(params=["sqlite"])
def url(request, tmp_path):
    """Where a store may be made that nobody has used."""
    return f"sqlite:///{tmp_path}/events.db"


@pytest.fixture
def store(url):
    with open_store(url) as store:
        yield store
