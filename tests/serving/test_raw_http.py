"""Bytes that are no good HTTP, over sockets: each gets a 4xx or the end of its connection, and others are served."""

import asyncio
import random
import sys
import time
from pathlib import Path

import pytest
from tests.recommender.song_world import serve
from tests.serving.running import ask, children, service
from tests.serving.sockets import BODY, GOOD, Socket, head, listening

from retrank.serving.settings import Limits

JSON = b"content-type: application/json\r\n"
POST = b"POST /recommend HTTP/1.1\r\n"
CHUNKS = POST + JSON + b"transfer-encoding: chunked\r\n\r\n"
ODD = {
    "no version": b"GET /\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100,
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": b"BREW /recommend HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: x\r\n\r\n",
    "a whole url": b"GET http://other/healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "connect": b"CONNECT other:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe%zz HTTP/1.1\r\nhost: x\r\n\r\n",
    "nul in the path": b"GET /items/\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    "encoded bytes in the path": b"GET /items/%ff%00%0d%0a HTTP/1.1\r\nhost: x\r\n\r\n",
    "a path upwards": b"GET /page/../../../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
    "an encoded path upwards": b"GET /page/%2e%2e%2f%2e%2e%2fsecret HTTP/1.1\r\nhost: x\r\n\r\n",
    "a line break in a header": b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
    "nul in a header": b"GET /healthz HTTP/1.1\r\nx-request-id: a\x00b\r\n\r\n",
    "an id with a line break": b"GET /healthz HTTP/1.1\r\nx-request-id: a%0d%0ab\r\n\r\n",
    "bytes as a key": POST + b"authorization: Bearer \xff\xfe\r\ncontent-length: 0\r\n\r\n",
    "bytes as a type": POST + b"content-type: \xff\xfe\r\ncontent-length: 0\r\n\r\n",
    "two lengths": head(length=4).replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n") + b"abcde",
    "a negative length": head(length=-1),
    "a huge length": head(length=10**30),
    "a length in letters": head(length="four") + b"abcd",
    "length and chunks": head(length=4).replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n") + b"0\r\n\r\n",
    "unknown coding": head(length=4).replace(b"\r\n\r\n", b"\r\ntransfer-encoding: gzip\r\n\r\n") + b"abcd",
    "chunked twice": POST + JSON + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": CHUNKS + b"xyz\r\nabc\r\n",
    "a huge chunk": CHUNKS + b"ffffffffffffffff\r\nabc",
    "a chunk that lies": CHUNKS + b"2\r\nabcdef\r\n0\r\n\r\n",
    "a request in a request": head(length=0) + b"GET /nowhere HTTP/1.1\r\nhost: y\r\n\r\n",
    "http/1.0": b"GET /nowhere HTTP/1.0\r\n\r\n",
    "http/0.9": b"GET /nowhere\r\n",
    "http/9.9": b"GET /nowhere HTTP/9.9\r\n\r\n",
    "websocket":
     b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "another upgrade": POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n",
    "head": b"HEAD /recommend HTTP/1.1\r\nhost: x\r\n\r\n",
    "head of a page": b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "options":
     b"OPTIONS /recommend HTTP/1.1\r\norigin: https://a.example\r\naccess-control-request-method: POST\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n",
    "expects": POST + b"expect: 200-ok\r\ncontent-length: 2\r\n\r\n{}",
    "waits to continue": head(length=2).replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n") + b"{}",
    "deep": head(length=200_000) + b"[" * 200_000,
    "deep objects": head(length=600_000) + b'{"a":' * 120_000,
    "not a number": head(length=17) + b'{"query":1,"k":NaN}'[:17],
    "bytes of no text": head(length=12) + b'{"query":"\xff"',
    "bytes of no text in a document": b'PUT /users/u1 HTTP/1.1\r\n' + JSON + b'content-length: 10\r\n\r\n{"a":"\xff"} ',
    "a document that is deep":
     b"PUT /users/u1 HTTP/1.1\r\n" + JSON + b"content-length: 100000\r\n\r\n" + b'[' * 100_000,
    "many parameters": b"GET /items?" + b"a=b&" * 10_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "a header that compresses":
     head(length=4).replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n") + b"\x1f\x8b\x08\x00",
    "many cookies": b"GET /nowhere HTTP/1.1\r\n" + b"cookie: a=b\r\n" * 3_000 + b"\r\n",
    "only line breaks": b"\r\n" * 1_000,
}  # fmt: skip


async def statuses(one, content, *, has_more=False):
    """Send bytes and no more; return the status of each answer until the connection ends."""
    await one.send(content)
    if one.writer.can_write_eof() and not has_more:
        try:
            one.writer.write_eof()
        except OSError:
            return []
    found = await one.end() or b""
    return [int(line.split()[1]) for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


async def is_served(connect):
    one = await connect()
    await one.send(GOOD)
    status, _ = await one.answer()
    one.close()
    return status == 200


@pytest.mark.parametrize("name", list(ODD))
def test_odd_requests(make_client, name):
    service = make_client(limits=Limits(patience=2.0), logs_requests=False).service

    async def main():
        async with listening(service) as (connect, connections):
            found = await statuses(await connect(), ODD[name])
            # 100 invites to go on; 200 answers what is odd and right, such as a whole URL, a head or a page's options.
            assert all(status < 500 for status in found), found
            assert await is_served(connect)
            end = time.monotonic() + 60
            while len(connections):
                assert time.monotonic() < end
                await asyncio.sleep(0.005)

    asyncio.run(main())


def test_requests_in_one_go_are_answered_in_their_order(make_client):
    service = make_client(logs_requests=False).service

    async def main():
        async with listening(service) as (connect, _):
            one = await connect()
            bad = head(length=2) + b"{}"
            await one.send((GOOD + bad) * 20)
            assert [(await one.answer())[0] for _ in range(40)] == [200, 422] * 20

    asyncio.run(main())


def test_a_body_in_chunks(make_client):
    service = make_client(logs_requests=False).service

    async def main():
        async with listening(service) as (connect, _):
            one = await connect()
            start = POST + b"host: x\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n"
            await one.send(start + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n")
            assert (await one.answer())[0] == 200
            await one.send(start + b"10000\r\n" + b" " * 65_536 + b"\r\n")
            for _ in range(20):
                await one.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            assert (await one.answer())[0] == 413

    asyncio.run(main())


INSERTED = [b"\r\n", b"\x00", b"\xff", b":", b" ", b"\t", b"0", b"{", b'"', b"9" * 20]


def mutated(random, content):
    """Change, repeat, remove or insert some bytes."""
    content = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(content) + 1)
        kind = random.randrange(4)
        if kind == 0:
            content[place : place + random.randint(1, 8)] = b""
        elif kind == 1:
            content[place:place] = random.choice(
                [b"\r\n", b"\x00", b"\xff", b":", b" ", b"\t", b"0", b"{", b'"', b"9" * 20]
            )
        elif kind == 2:
            content[place : place + 1] = bytes([random.randrange(256)])
        else:
            content[place:place] = content[place : place + random.randint(1, 40)]
        if not content:
            break
    return bytes(content)


def resident(pid):
    """Return the memory of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_odd_requests(tmp_path, record_property):
    serve("baseline").save(tmp_path / "bundle")
    choice = random.Random(0)
    counts, ends = {}, 0

    async def throw(place, number):
        nonlocal ends
        one = Socket(*await asyncio.open_connection(*place))
        base = choice.choice([GOOD, GOOD, *ODD.values()])
        content = mutated(choice, base) if number % 5 else base
        found = await statuses(one, content)
        ends += not found
        for status in found:
            counts[status] = counts.get(status, 0) + 1
        one.close()

    async def main(place, count):
        for first in range(0, count, 20):
            await asyncio.gather(*(throw(place, first + n) for n in range(20)))

    with service(tmp_path / "bundle", "--no-log-requests") as one:
        place = one.url.removeprefix("http://").rstrip("/").split(":")
        (worker,) = children(one.process.pid)
        asyncio.run(main(place, 2_000))
        before = resident(worker)
        asyncio.run(main(place, 8_000))
        after = resident(worker)
        assert not [status for status in counts if status >= 500], counts
        assert children(one.process.pid) == [worker]
        assert ask(one.url, "/recommend", {"query": "u1"})[0] == 200
        assert after - before < 32
        record_property("statuses", dict(sorted(counts.items())))
        record_property("connections that ended without an answer", ends)
        record_property("MiB before and after", (round(before), round(after)))
