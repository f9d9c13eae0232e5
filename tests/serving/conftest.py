"""A service over a small world, in this process."""

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.recommender.song_world import serve

from retrank.serving import Service, Settings, create_app
from retrank.serving.live import Live
from retrank.serving.settings import EVENT_TYPES
from retrank.serving.stores import open_store
from retrank.serving.telemetry import Telemetry


@pytest.fixture(scope="session")
def recommender():
    return serve("reranker")


class Client:
    """A service, and a client of it."""

    def __init__(self, recommender, store, settings):
        live = Live(recommender, version="v1", event_types=EVENT_TYPES)
        self.service = Service(live, store, settings, Telemetry(CollectorRegistry()))
        transport = httpx.ASGITransport(create_app(self.service), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def post(self, path, body, **more):
        return await self.http.post(path, json=body, **more)


@pytest.fixture
def make_client(recommender, tmp_path):
    made = []

    def make(recommender=recommender, store=None, **settings):
        client = Client(recommender, store or open_store(tmp_path / "events.sqlite"), Settings(**settings))
        made.append(client)
        return client

    yield make
    for client in made:
        client.service.close()
        client.service.store.close()
