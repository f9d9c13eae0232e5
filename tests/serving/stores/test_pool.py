import os
import socket
import threading
from contextlib import ExitStack

import pytest

from retrank.core.errors import StoreUnavailableError
from retrank.serving.stores.pool import Pool
from retrank.serving.stores.watch import Watch


class Connection:
    def __init__(self):
        self.is_open, self.works = True, True

    def close(self):
        assert self.is_open, "closed once"
        self.is_open = False


@pytest.fixture
def made():
    return []


@pytest.fixture
def pool(made):
    def connect():
        made.append(Connection())
        return made[-1]

    return Pool(connect, "a store", lambda connection: connection.works)


def test_a_connection_is_used_again(pool, made):
    for _ in range(3):
        with pool.borrowed():
            pass
    assert len(made) == 1


def test_there_are_as_many_as_are_used_at_once(pool, made):
    with pool.borrowed() as one, pool.borrowed() as other:
        assert one is not other
    with pool.borrowed(), pool.borrowed():
        pass
    assert len(made) == 2


def test_after_an_error_a_connection_is_closed(pool, made):
    with pytest.raises(KeyboardInterrupt), pool.borrowed():
        raise KeyboardInterrupt
    assert not made[0].is_open
    with pool.borrowed() as connection:
        assert connection is made[1]


def test_one_that_has_died_meanwhile_is_replaced(pool, made):
    with pool.borrowed(), pool.borrowed(), pool.borrowed():
        pass
    made[0].works = made[2].works = False
    with pool.borrowed() as connection, pool.borrowed() as other:
        assert {connection, other} == {made[1], made[3]}
    assert [connection.is_open for connection in made] == [False, True, False, True]


def test_one_that_is_lent_is_closed_when_it_comes_back(pool, made):
    with pool.borrowed() as lent:
        with pool.borrowed():
            pass
        pool.close()
        assert lent.is_open
        assert not made[1].is_open
    assert not lent.is_open
    with pytest.raises(StoreUnavailableError, match="closed"), pool.borrowed():
        pass


def test_who_waits_too_long_finds_the_socket_shut():
    watch = Watch(0.05)
    for _ in range(2):
        here, there = socket.socketpair()
        with here, there, watch.limited(here):
            assert here.recv(1) == b"", "no answer comes, and yet this ends"
    watch.close()


def test_who_does_not_wait_long_is_left_alone():
    watch = Watch(60)
    here, there = socket.socketpair()
    with here, there:
        for _ in range(100):
            with watch.limited(here):
                there.send(b"x")
                assert here.recv(1) == b"x"
    watch.close()


def test_one_thread_watches_over_all_and_ends():
    watch = Watch(0.05)
    watchers = set()

    def wait(here):
        with watch.limited(here):
            watchers.add(watch._thread)
            os.read(here.fileno(), 1)

    with ExitStack() as ends:
        pairs = [tuple(map(ends.enter_context, socket.socketpair())) for _ in range(20)]
        threads = [threading.Thread(target=wait, args=(here,)) for here, _ in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    [watcher] = watchers
    watch.close()
    watcher.join(60)
    assert not watcher.is_alive()
