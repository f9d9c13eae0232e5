"""Clients that are slow, greedy or gone: their connections end, and others are served."""

import asyncio
import time

import pytest
from tests.serving.sockets import BODY, GOOD, head, listening

from retrank.serving.settings import Limits


@pytest.fixture
def run(make_client):
    """Run a test against a service that has little patience."""

    def run(test, **limits):
        limits = {"patience": 0.3, **limits}
        service = make_client(limits=Limits(**limits), logs_requests=False).service

        async def main():
            async with listening(service) as (connect, connections):
                await test(connect, connections)
                await until(lambda: service.answers._idle.is_set())

        asyncio.run(main())
        return service

    return run


async def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def slowly(one, content):
    """Send a byte at a time, until the other side has enough."""
    for place in range(len(content)):
        await one.send(content[place : place + 1])
        await asyncio.sleep(0.02)
        if one.reader.at_eof() or one.writer.is_closing():
            break


async def is_served(connect):
    one = await connect()
    await one.send(GOOD)
    status, _ = await one.answer()
    one.close()
    return status == 200


@pytest.mark.parametrize("start", [b"", GOOD])
@pytest.mark.parametrize("is_silent", [True, False])
def test_headers_that_do_not_come_to_an_end(run, start, is_silent):
    async def test(connect, connections):
        one = await connect()
        if start:
            await one.send(start)
            assert (await one.answer())[0] == 200
        await one.send(b"POST /recommend HTTP/1.1\r\nx-")
        sending = asyncio.create_task(slowly(one, b"" if is_silent else b"a" * 1_000))
        assert await is_served(connect)
        ending = await one.end()
        assert b" 408 " in ending or not is_silent  # who goes on sending may not hear why
        await until(lambda: not len(connections))
        await sending

    run(test)


def test_a_connection_without_a_request(run):
    async def test(connect, connections):
        one = await connect()
        assert await one.end() == b""
        await until(lambda: not len(connections))

    run(test)


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_body_that_comes_slowly(run, is_silent):
    async def test(connect, connections):
        for path in ("/recommend", "/events", "/items/s1"):
            one = await connect()
            await one.send(head(path, 1_000).replace(b"POST /items", b"PUT /items") + b" ")
            sending = asyncio.create_task(slowly(one, b"" if is_silent else b" " * 900))
            assert await is_served(connect)
            status, body = await one.answer()
            assert (status, b"send a body within 0.3 s" in body) == (408, True) or not is_silent
            await one.end()
            await sending
        await until(lambda: not len(connections))

    run(test)


def test_an_answer_that_is_not_read(run):
    async def test(connect, connections):
        one = await connect()
        # Few bytes are asked for many: the buffers of the sockets fill, and then the service has to wait.
        sending = asyncio.create_task(one.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000))
        one.writer.transport.pause_reading()
        await until(lambda: any(c._transport.get_write_buffer_size() for c in connections._open))
        assert await is_served(connect)
        await until(lambda: not len(connections))
        sending.cancel()

    run(test, patience=0.5)


def test_clients_that_have_gone_are_not_worked_for(run):
    async def test(connect, connections):
        for content in (GOOD, GOOD[:-1], GOOD[:30], head("/events", 99)):
            one = await connect()
            await one.send(content)
            one.writer.transport.abort()
        await until(lambda: not len(connections))
        assert await is_served(connect)

    service = run(test)
    counts = {
        sample.labels["status"]
        for metric in service.telemetry.registry.collect()
        for sample in metric.samples
        if sample.name == "retrank_requests_total"
    }
    assert counts <= {"200", "499"}


def test_a_batch_whose_client_has_gone_is_given_up(make_client):
    service = make_client(logs_requests=False, logs_impressions=False).service
    asked = []

    async def main():
        body = b'{"requests": [%s]}' % b", ".join([BODY] * 1_000)
        async with listening(service) as (connect, connections):
            one = await connect()
            await one.send(head("/recommend/batch", len(body)) + body)
            await until(lambda: asked)
            one.writer.transport.abort()
            await until(lambda: not len(connections))
            await until(lambda: service.answers._idle.is_set())

    service.lists = lambda asks, serving: asked.append(len(asks)) or time.sleep(0.1) or [b"{}"] * len(asks)
    asyncio.run(main())
    assert 0 < sum(asked) < 1_000  # those that had begun when it went


def test_no_end_of_headers(run):
    async def test(connect, connections):
        for content in (b"GET /" + b"a" * 10**6, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200_000, b"x: " + b"y" * 10**6):
            one = await connect()
            await one.send(content)
            status, _ = await one.answer()
            assert status in (400, 431, None)  # None: the connection was reset before the answer was read
            await one.end()
        await until(lambda: not len(connections))

    run(test, patience=10.0)


def test_a_large_body_is_no_head(run):
    async def test(connect, connections):
        one = await connect()
        body = BODY + b" " * 500_000
        await one.send(head(length=len(body)) + body)
        assert (await one.answer())[0] == 200
        await one.send(head(length=2_000_000))
        await one.send(b" " * 2_000_000)
        assert (await one.answer())[0] == 413
        await one.send(GOOD)
        assert (await one.answer())[0] == 200

    run(test, patience=10.0)


def test_more_connections_than_allowed(run):
    async def test(connect, connections):
        some = [await connect() for _ in range(5)]
        await until(lambda: len(connections) == 5)
        one = await connect()
        assert (await one.answer())[0] == 503
        await one.end()
        some[0].close()
        await until(lambda: len(connections) == 4)
        assert await is_served(connect)

    run(test, connections=5, patience=10.0)


def test_a_connection_that_lies_idle_after_an_answer_stays_until_others_need_its_place(run):
    async def test(connect, connections):
        some = [await connect() for _ in range(3)]
        for one in some:
            await one.send(GOOD)
            assert (await one.answer())[0] == 200
        await asyncio.sleep(0.5)  # longer than patience
        assert len(connections) == 3
        await some[0].send(GOOD)
        assert (await some[0].answer())[0] == 200
        newest = await connect()
        await newest.send(GOOD)
        assert (await newest.answer())[0] == 200
        await some[0].send(GOOD)
        assert (await some[0].answer())[0] == 200
        ends = [asyncio.create_task(one.end()) for one in some[1:]]
        await asyncio.wait(ends, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert sum(end.done() for end in ends) == 1
        assert len(connections) == 3
        for end in ends:
            end.cancel()

    run(test, connections=3)


def test_many_idle_connections_hold_nobody_up(run):
    async def test(connect, connections):
        for _ in range(400):
            await connect()
        await until(lambda: len(connections) == 400)
        assert await is_served(connect)
        await until(lambda: not len(connections))

    run(test, patience=1.0)
