"""From the directory of a bundle to what the service answers from."""

import hashlib
import logging
from pathlib import Path
from typing import Any, Final

from retrank.core.errors import StorageError
from retrank.core.manifest import MANIFEST
from retrank.core.values import parse_json
from retrank.core.version import __version__
from retrank.recommender.recommender import Recommender
from retrank.recommender.smoke_set import SMOKE_FILE
from retrank.serving.live import Live
from retrank.serving.settings import Settings
from retrank.serving.stores.store import Store

__all__ = ["EVENTS_FACT", "load_live", "version_of"]

_log = logging.getLogger("retrank.serving")
EVENTS_FACT: Final = "events"
"""The fact of a card that says which changes of which store a bundle has learned from."""


def load_live(bundle: Path, store: Store, settings: Settings) -> Live:
    """Load a bundle, and bring in what happened since it was made.

    Args:
        bundle: its directory.
        store: where the changes are.
        settings: what events do.

    Returns:
        What the service answers from.

    Raises:
        StorageError: the bundle is missing, damaged, or does not answer as when it was saved.
        StoreUnavailableError: the store does not answer.
    """
    version = version_of(bundle)
    recommender = _recommender(bundle)
    if version_of(bundle) != version:  # it was replaced meanwhile: what was read is one or the other
        return load_live(bundle, store, settings)
    after = position_of(recommender.card.facts.get(EVENTS_FACT), store)
    live = Live(recommender, version=version, event_types=settings.event_types, after=after)
    live.follow(store)
    return live


def _recommender(bundle: Path) -> Recommender:
    """Load a bundle that answers as when it was saved; only another version of retrank may have changed answers."""
    saved_by = _saved_by(bundle)
    try:
        return Recommender.load(bundle, progress=False, checks_answers=True)
    except StorageError as error:
        if saved_by in (None, __version__):
            raise
        recommender = Recommender.load(bundle, progress=False)  # which fails if that was not all
        message = "retrank %s saved the bundle, and this version answers otherwise: %s"
        _log.warning(message, saved_by, error)
        return recommender


def _saved_by(bundle: Path) -> str | None:
    """Return the version of retrank that a smoke set tells of, if it can be read."""
    file = bundle / SMOKE_FILE
    if not file.exists():
        _log.info("the bundle has no smoke set, as an earlier version of retrank saved it")
        return None
    try:
        found = parse_json(file.read_bytes(), str(file))
    except (OSError, StorageError):
        return None
    return str(found.get("retrank")) if isinstance(found, dict) else None


def version_of(bundle: Path) -> str:
    """Return what tells a bundle from any other: a digest of its manifest, which has the digests of its files.

    Args:
        bundle: its directory.

    Raises:
        StorageError: there is no manifest.
    """
    try:
        return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()[:12]
    except OSError as error:
        fix = "name the directory that `retrank train` or Recommender.save wrote"
        raise StorageError("the directory of a bundle", f"{type(error).__name__}: {error}", str(bundle), fix) from error


def position_of(fact: Any, store: Store) -> int:
    """Return up to which change of a store a bundle has learned.

    Args:
        fact: of its card.
        store: that is served from.
    """
    if isinstance(fact, dict) and fact.get("store") == store.identity() and isinstance(fact.get("position"), int):
        return int(fact["position"])
    return 0
