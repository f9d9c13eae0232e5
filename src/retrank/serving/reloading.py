"""`Reloader`: loads a new bundle while the old one answers, and swaps them."""

import asyncio
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, final

from retrank.core.errors import ConfigError, StorageError
from retrank.recommender.recommender import Recommender
from retrank.serving.batching import BusyError, DeadlineError
from retrank.serving.bundles import load_live, version_of
from retrank.serving.live import Live
from retrank.serving.service import Call, Service, Serving

__all__ = ["Reloader"]

_NICENESS: Final = 5  # of the thread that loads: answers were as quick as without a reload; at 10 it took twice as long
_PAUSE: Final = 0.2  # seconds before what did not work is tried again
_log = logging.getLogger("retrank.serving")


@final
class Reloader:
    """Brings a service over to what stands in the directory of its bundle, in two steps.

    For the moment in between there are two bundles in memory. All methods are called from one thread, not that of the
    event loop.

    Args:
        service: that answers.
        bundle: the directory.
        loop: in which the service runs.
    """

    def __init__(self, service: Service, bundle: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._bundle, self._loop = service, bundle, loop
        self._loaded: Live | None = None

    def load(self) -> str:
        """Load the bundle beside the one that answers, find out whether it is good, and bring it up to date.

        Returns:
            Its version.

        Raises:
            StorageError: it is missing, damaged, or does not answer as when it was saved.
            ConfigError: its queries or candidates have other columns or types of keys.
            StoreUnavailableError: what has happened since it was made cannot be read.
        """
        self._loaded = None
        old = self._service.serving.live
        if version_of(self._bundle) == old.version:
            return old.version
        _be_nice()
        live = load_live(self._bundle, self._service.store, self._service.settings)
        _require_same_keys(old.recommender, live.recommender, str(self._bundle))
        self._loaded = live
        return live.version

    def take(self, *, counts: bool = True) -> str:
        """Answer from what was loaded, from the next batch on.

        If the store has gone meanwhile, it is waited for: an answer that has known of an event is followed by none that
        does not.

        Args:
            counts: whether the metrics count it here; of several workers one does.

        Returns:
            The version from which the service answers now.
        """
        while self._loaded is not None:
            asked = asyncio.run_coroutine_threadsafe(self._swap(self._loaded), self._loop)
            try:
                asked.result()
                self._loaded = None
                self._service.reload_error = None
                self._service.telemetry.reloads.labels("loaded").inc(counts)
            except (BusyError, DeadlineError, StorageError) as error:
                _log.warning("the new bundle is not taken yet: %s", error)
                time.sleep(_PAUSE)
        return self._service.serving.live.version

    def drop(self, error: str, *, counts: bool = True) -> None:
        """Stay with the old bundle.

        Args:
            error: why.
            counts: whether the metrics count it here.
        """
        self._loaded = None
        self._service.reload_error = error
        self._service.telemetry.reloads.labels("refused").inc(counts)

    async def _swap(self, live: Live) -> None:
        def swap(serving: Serving) -> None:
            if live.position < serving.live.position:
                service.bring_up_to_date(live)
            if live.position < serving.live.position:  # it must know all that the old one knows
                raise BusyError("a bundle that is up to date", "one that is not yet", "reload")
            service.serving = Serving(live, remembers=service.settings.logs_impressions)

        service = self._service
        await service.answers.submit(Call(swap), seconds=60.0)


def _require_same_keys(old: Recommender, new: Recommender, where: str) -> None:
    """Refuse a bundle to which the clients' requests would mean something else."""
    expected, got = _keys_of(old), _keys_of(new)
    if expected != got:
        fix = "a bundle of another kind needs a service of its own"
        raise ConfigError(str(expected), str(got), f"{where}, keys", fix)


def _keys_of(recommender: Recommender) -> dict[str, Any]:
    return {
        recommender.query: recommender.queries.key_type,
        recommender.candidate: recommender.catalogue.key_type,
    }


def _be_nice() -> None:
    """Let this thread, and those that it starts, have what the answering one leaves."""
    if sys.platform == "linux":  # elsewhere niceness is a whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
