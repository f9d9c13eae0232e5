"""Accepting from a common socket."""

import asyncio
import socket

from retrank.serving.accepting import Acceptor


class Greeting(asyncio.Protocol):
    def __init__(self, greeted):
        self.greeted = greeted

    def connection_made(self, transport):
        self.greeted.append(transport)


def listening():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def settled(greeted, count):
    while len(greeted) < count:
        await asyncio.sleep(0.001)


def close(transports, clients):
    for transport in transports:
        transport.abort()
    for client in clients:
        client.close()


def test_two_share_the_connections():
    async def main():
        listener = listening()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(16)]
        first, second = [], []
        acceptors = [Acceptor(listener.dup(), lambda: Greeting(first)), Acceptor(listener, lambda: Greeting(second))]
        while len(first) + len(second) < 16:
            await asyncio.sleep(0.001)
        for acceptor in acceptors:
            await acceptor.close()
        close([*first, *second], clients)
        assert len(first) == len(second) == 8  # one at a turn

    asyncio.run(main())


def test_answers_do_not_wait_for_acknowledgements():
    async def main():
        listener, greeted = listening(), []
        acceptor = Acceptor(listener, lambda: Greeting(greeted))
        client = socket.create_connection(listener.getsockname())
        await settled(greeted, 1)
        assert greeted[0].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await acceptor.close()
        close(greeted, [client])

    asyncio.run(main())


def test_what_has_come_is_taken_before_it_closes():
    async def main():
        listener, greeted = listening(), []
        place = listener.getsockname()
        acceptor = Acceptor(listener, lambda: Greeting(greeted))
        clients = [socket.create_connection(place) for _ in range(5)]
        await acceptor.close()
        assert len(greeted) == 5
        close(greeted, clients)
        try:
            socket.create_connection(place).close()
        except ConnectionRefusedError:
            return
        raise AssertionError("it still accepts")

    asyncio.run(main())


def test_it_goes_on_when_there_were_no_more_files(monkeypatch):
    monkeypatch.setattr("retrank.serving.accepting._PAUSE", 0.01)

    class OutOfFiles:
        """A listening socket that cannot accept at first."""

        def __init__(self, listener):
            self.listener, self.failures = listener, 3

        def __getattr__(self, name):
            return getattr(self.listener, name)

        def accept(self):
            if self.failures:
                self.failures -= 1
                raise OSError(24, "too many open files")
            return self.listener.accept()

    async def main():
        listener, greeted = OutOfFiles(listening()), []
        acceptor = Acceptor(listener, lambda: Greeting(greeted))
        client = socket.create_connection(listener.getsockname())
        await settled(greeted, 1)
        assert listener.failures == 0
        await acceptor.close()
        close(greeted, [client])

    asyncio.run(main())
