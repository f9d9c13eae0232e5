"""A fresh store of each kind, on servers that live as long as the tests."""

import pytest
from tests.serving.stores.servers import Postgres, Redis, why_missing

from retrank.serving.stores import open_store


def _running(kind, driver):
    if reason := why_missing(kind):
        pytest.skip(reason)
    pytest.importorskip(driver)
    server = kind()
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="session")
def shared_postgres():
    yield from _running(Postgres, "psycopg")


@pytest.fixture(scope="session")
def shared_redis():
    yield from _running(Redis, "redis")


@pytest.fixture
def postgres(shared_postgres):
    """A server of PostgreSQL without a store, which a test may stop."""
    return _emptied(shared_postgres)


@pytest.fixture
def redis(shared_redis):
    """A server of Redis without a store, which a test may stop."""
    return _emptied(shared_redis)


def _emptied(server):
    if server.process.poll() is not None or not server.is_ready():
        server.stop()
        server.options = ()
        server.start()
    server.clear()
    return server


@pytest.fixture(params=["postgres", "redis"])
def server(request):
    """Each kind of server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request, tmp_path):
    """Where a store may be made that nobody has used."""
    return (
        f"sqlite:///{tmp_path}/events.db" if request.param == "sqlite" else request.getfixturevalue(request.param).url
    )


@pytest.fixture
def store(url):
    with open_store(url) as store:
        yield store
