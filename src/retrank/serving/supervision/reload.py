"""`Reload`: all workers go over to a new bundle, or none."""

from collections.abc import Sequence
from typing import Any, final

from retrank.serving.supervision.lines import Lines
from retrank.serving.supervision.worker_process import WorkerProcess

__all__ = ["Reload"]


@final
class Reload:
    """A reload that is going on, in two steps.

    One worker after the other loads the new bundle beside the old one; the first finds out whether it is good. When all
    have it, all take it. So at no time do more than a moment's answers come from two bundles.

    Args:
        workers: that are there.
        clients: who wait for the result.

    Attributes:
        result: None until the end.
    """

    def __init__(self, workers: Sequence[WorkerProcess], clients: Sequence[Lines]) -> None:
        self.clients = list(clients)
        self.result: dict[str, Any] | None = None
        self._to_load, self._loaded, self._to_take = list(workers), list[WorkerProcess](), list[WorkerProcess]()
        self._version: str | None = None
        self._go_on()

    def loaded(self, worker: WorkerProcess, version: str) -> None:
        """Note that a worker has the new bundle beside the old one.

        Args:
            worker: which one.
            version: of the bundle.
        """
        if worker not in self._to_load:
            return
        self._to_load.remove(worker)
        if self._version not in (None, version):  # it was replaced once more: the others have another one
            self._to_load += self._loaded
            self._loaded = []
        self._version = version
        self._loaded.append(worker)
        self._go_on()

    def taken(self, worker: WorkerProcess) -> None:
        """Note that a worker answers from the new bundle.

        Args:
            worker: which one.
        """
        if worker in self._to_take:
            self._to_take.remove(worker)
            self._end_when_taken()

    def refused(self, error: str) -> None:
        """Note that a worker could not load or take the bundle.

        Args:
            error: why.
        """
        self.result = {"result": "refused", "error": error}

    def died(self, worker: WorkerProcess) -> None:
        """Go on without a worker; but if the bundle may be what it died of, no other loads it.

        Args:
            worker: which one.
        """
        if worker in self._to_take:
            self.taken(worker)
        elif worker in self._to_load[:1] and not self._loaded:
            self.refused("the worker that loaded it died")
        elif worker in (*self._to_load, *self._loaded):
            was_loading = worker in self._to_load[:1]
            self._to_load = [one for one in self._to_load if one is not worker]
            self._loaded = [one for one in self._loaded if one is not worker]
            if was_loading:
                self._go_on()

    def _go_on(self) -> None:
        if self._to_load:
            self._to_load[0].lines.send({"do": "load"})
        elif self._loaded:
            self._to_take = list(self._loaded)
            for worker in self._loaded:
                worker.lines.send({"do": "take", "counts": worker is self._loaded[0]})
        else:
            self.refused("no worker is there to load it")

    def _end_when_taken(self) -> None:
        if not self._to_take:
            self.result = {"result": "loaded", "bundle": self._version, "workers": len(self._loaded)}
