"""A new bundle takes the place of the old one while requests are answered; one that is no good never does."""

import asyncio
import gc
import json
import shutil
import weakref

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.recommender.song_world import KNOWN, serve

import retrank as rr
from retrank.core.directories import atomic_directory
from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError
from retrank.core.manifest import parse_manifest, write_manifest
from retrank.serving import Service, Settings, create_app
from retrank.serving.bundles import load_live, version_of
from retrank.serving.reloading import Reloader
from retrank.serving.settings import Limits
from retrank.serving.stores import Event, open_store
from retrank.serving.telemetry import Telemetry

KINDS = ["two towers", "reranker"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two bundles of one world, which answer differently."""
    folder = tmp_path_factory.mktemp("bundles")
    for kind in KINDS:
        serve(kind).save(folder / kind)
    return folder


class World:
    """A service of a bundle that may be replaced."""

    def __init__(self, saved, folder):
        self.saved, self.bundle, self.store = saved, folder / "bundle", open_store(folder / "events.sqlite")
        self.publish("two towers")

    def publish(self, kind):
        with atomic_directory(self.bundle) as draft:
            shutil.copytree(self.saved / kind, draft, dirs_exist_ok=True)

    async def start(self):
        settings = Settings(limits=Limits(deadline=600.0))  # no request fails because the machine is busy
        live = load_live(self.bundle, self.store, settings)
        self.service = Service(live, self.store, settings, Telemetry(CollectorRegistry()))
        self.reloader = Reloader(self.service, self.bundle, asyncio.get_running_loop())
        transport = httpx.ASGITransport(create_app(self.service), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def reload(self):
        version = await asyncio.to_thread(self.reloader.load)
        assert await asyncio.to_thread(self.reloader.take) == version
        return version

    async def ask(self, query, **rules):
        answer = await self.http.post("/recommend", json={"query": query, **rules})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def end(self):
        await self.service.drain()
        self.store.close()


@pytest.fixture
def run(saved, tmp_path):
    """Run a coroutine that is given a world."""

    def run(function):
        async def main():
            world = World(saved, tmp_path)
            await world.start()
            try:
                await function(world)
            finally:
                await world.end()

        asyncio.run(asyncio.wait_for(main(), 1200))

    return run


def pairs(answer):
    return [(item["key"], item["score"]) for item in answer["items"]]


def reloads_under_load(run, count):
    async def test(world):
        right, answers, is_over = {}, [], False
        for kind in KINDS:
            recommender = rr.Recommender.load(world.saved / kind)
            right[version_of(world.saved / kind)] = {
                key: [(row["song"], row["score"]) for row in recommender.recommend(key).to_dicts()] for key in KNOWN
            }

        async def keep_asking(first):
            number = first
            while not is_over:
                answers.append(await world.ask(KNOWN[number % len(KNOWN)]))
                number += 1

        asking = [asyncio.create_task(keep_asking(first)) for first in range(8)]
        for number in range(count):
            world.publish(KINDS[(number + 1) % 2])
            assert await world.reload() == version_of(world.bundle)
        is_over = True
        await asyncio.gather(*asking)
        assert {answer["bundle"] for answer in answers} == right.keys()
        assert all(pairs(answer) == right[answer["bundle"]][answer["query"]] for answer in answers)
        text = world.service.telemetry.text().decode()
        assert f'retrank_reloads_total{{result="loaded"}} {count}.0' in text

    run(test)


def test_five_reloads_under_load(run):
    reloads_under_load(run, 5)


@pytest.mark.slow
def test_a_hundred_reloads_under_load(run):
    reloads_under_load(run, 100)


def test_a_damaged_bundle_never_takes_over(run):
    async def test(world):
        before = await world.ask("u1")
        world.publish("reranker")
        file = world.bundle / "ranking.safetensors"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(StorageError, match=r"ranking\.safetensors"):
            await asyncio.to_thread(world.reloader.load)
        world.reloader.drop("the reason")
        assert await asyncio.to_thread(world.reloader.take) == before["bundle"]
        after = await world.ask("u1")
        assert pairs(after) == pairs(before)
        assert after["bundle"] == before["bundle"]
        state = (await world.http.get("/readyz")).json()
        assert state["status"] == "ready"
        assert state["reload_error"] == "the reason"
        assert 'retrank_reloads_total{result="refused"} 1.0' in world.service.telemetry.text().decode()
        world.publish("reranker")
        await world.reload()
        assert "reload_error" not in (await world.http.get("/readyz")).json()

    run(test)


def test_a_bundle_that_is_gone(run):
    async def test(world):
        shutil.rmtree(world.bundle)
        with pytest.raises(StorageError, match="the directory of a bundle"):
            await asyncio.to_thread(world.reloader.load)
        await world.ask("u1")

    run(test)


def test_a_bundle_of_another_kind_of_keys(run):
    async def test(world):
        table = world.service.serving.live.recommender.history.events.table().rename({"song": "track"})
        baseline = rr.baselines.ItemKNN().fit(table, query="user", candidate="track", time="time")
        other = rr.Recommender(baseline, catalogue=table.select("track").unique(), history=table, time="time")
        other.save(world.bundle)
        with pytest.raises(ConfigError, match="track"):
            await asyncio.to_thread(world.reloader.load)

    run(test)


def test_only_another_version_may_answer_otherwise(run, caplog):
    async def test(world):
        await world.ask("u1")
        world.publish("reranker")
        file = world.bundle / "smoke.json"
        payload = parse_manifest((world.bundle / "manifest.json").read_bytes(), "").payload
        smoke = json.loads(file.read_text())
        smoke["requests"][0]["scores"][0] += 1
        file.write_text(json.dumps(smoke))
        write_manifest(world.bundle, payload)
        with pytest.raises(StorageError, match=r"smoke\.json, request 0"):
            await asyncio.to_thread(world.reloader.load)
        file.write_text(json.dumps({**smoke, "retrank": "0.0.1"}))
        write_manifest(world.bundle, payload)
        await world.reload()
        assert "retrank 0.0.1 saved the bundle, and this version answers otherwise" in caplog.text
        (world.bundle / "candidates.parquet").write_bytes(b"")
        write_manifest(world.bundle, payload)
        with pytest.raises(StorageError, match=r"candidates\.parquet"):
            await asyncio.to_thread(world.reloader.load)

    run(test)


def test_nothing_is_loaded_where_nothing_is_new(run):
    async def test(world):
        live = world.service.serving.live
        assert await world.reload() == live.version
        assert world.service.serving.live is live

    run(test)


def test_events_of_before_and_of_meanwhile_count_afterwards(run):
    async def test(world):
        async def click(song):
            events = {"events": [{"query": "newcomer", "candidate": song, "type": "click"}]}
            assert (await world.http.post("/events", json=events)).status_code == 200

        await click("s1")
        world.publish("reranker")
        await asyncio.to_thread(world.reloader.load)
        await click("s2")  # the old bundle knows of it, and so must the first answer of the new one
        loaded = world.reloader._loaded
        assert loaded.position == 1
        await asyncio.to_thread(world.reloader.take)
        assert world.service.serving.live is loaded
        assert loaded.position == 2
        keys = [item["key"] for item in (await world.ask("newcomer", k=100))["items"]]
        assert len(keys) == 58
        assert not {"s1", "s2"} & set(keys)

    run(test)


def test_a_store_that_is_down_is_waited_for_before_a_bundle_takes_over(run, monkeypatch):
    monkeypatch.setattr("retrank.serving.reloading._PAUSE", 0.01)

    async def test(world):
        world.publish("reranker")
        await asyncio.to_thread(world.reloader.load)
        world.store.append_events([Event("e1", "u1", "s1", "click", 0)])
        await world.ask("u1")
        before, loaded = world.service.serving.live, world.reloader._loaded
        assert (before.position, loaded.position) == (1, 0)
        bring_up_to_date, tries = world.service.bring_up_to_date, []

        def failing(live):
            if live is not loaded:
                return bring_up_to_date(live)
            tries.append(world.service.serving.live)
            if len(tries) == 1:
                raise StoreUnavailableError("a store", "none", "here")
            return len(tries) > 2 and bring_up_to_date(live)  # the second time there is too much for one batch

        monkeypatch.setattr(world.service, "bring_up_to_date", failing)
        await asyncio.to_thread(world.reloader.take)
        assert tries[:3] == [before] * 3
        assert world.service.serving.live is loaded
        assert loaded.position == 1

    run(test)


def test_the_old_bundle_is_freed(run):
    async def test(world):
        await world.ask("u1", details=True)
        gone = [weakref.ref(world.service.serving.live), weakref.ref(world.service.serving.live.recommender.retrieval)]
        gc.collect()
        gc.disable()  # what a cycle of references holds would wait for the collector, which may come late
        try:
            world.publish("reranker")
            await world.reload()
            await world.ask("u1")
            await world.ask("u2")
            assert [one() for one in gone] == [None, None]
        finally:
            gc.enable()

    run(test)
