"""A store that hangs, refuses or loses what it has, as a test says."""

import threading

from retrank.core.errors import StoreUnavailableError

__all__ = ["UnreliableStore"]

_CALLS = ("append_events", "put", "get", "position", "changes", "log_impressions", "impressions", "identity", "check")


class UnreliableStore:
    """Another store, as if behind a server.

    While `hangs`, calls do not return (those that had begun return when it ends); while `error` is set, they raise it.
    """

    is_server = True

    def __init__(self, store):
        self.store, self.error, self.num_calls = store, None, 0
        self._goes = threading.Event()
        self._goes.set()

    def hang(self):
        self._goes.clear()

    def go_on(self):
        self._goes.set()

    def close(self):
        self.go_on()
        self.store.close()

    def __getattr__(self, name):
        if name not in _CALLS:
            raise AttributeError(name)

        def call(*values, **named):
            self.num_calls += 1
            assert self._goes.wait(60)
            if self.error is not None:
                raise self.error
            return getattr(self.store, name)(*values, **named)

        return call

    def refuse(self):
        self.error = StoreUnavailableError("a server", "none", "the store")
