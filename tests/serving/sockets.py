"""A service behind real sockets in this process, and clients that write bytes."""

import asyncio
import contextlib

import uvicorn
from tests.recommender.song_world import KNOWN

from retrank.serving import create_app
from retrank.serving.connections import Connections

__all__ = ["GOOD", "Socket", "head", "listening"]

BODY = b'{"query": "%s"}' % KNOWN[0].encode()


def head(path="/recommend", length=None):
    length = len(BODY) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


GOOD = head() + BODY


class Socket:
    """A client; what it waits for comes soon or never."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, content):
        self.writer.write(content)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self):
        """Return the status and body of the next answer; None and nothing at the end of the connection."""
        try:
            lines = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:-2])
            return int(lines[0].split()[1]), await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None, b""

    async def end(self):
        """Wait for the end of the connection; return what came before it."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 60)
        return b""

    def close(self):
        self.writer.close()


@contextlib.asynccontextmanager
async def listening(service):
    """Let a service listen as a worker does; yields what connects, and the connections."""
    config = uvicorn.Config(create_app(service), log_config=None, access_log=False, lifespan="off", ws="none")
    config.load()
    state = {"config": config, "server_state": uvicorn.Server(config).server_state, "app_state": {}}
    connections = Connections(lambda: config.http_protocol_class(**state), service.settings.limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connections, "127.0.0.1", 0)
    watching = loop.create_task(connections.watch())
    sockets = []

    async def connect():
        sockets.append(Socket(*await asyncio.open_connection(*server.sockets[0].getsockname()[:2])))
        return sockets[-1]

    try:
        yield connect, connections
    finally:
        for one in sockets:
            one.close()
        watching.cancel()
        server.close()
