"""From the directory of a bundle to what the service answers from."""

import hashlib
import logging
from pathlib import Path
from typing import Any, Final

from retrank.core.errors import StorageError
from retrank.core.manifest import MANIFEST
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
    if not (bundle / SMOKE_FILE).exists():
        _log.info("the bundle was saved without a smoke set: whether it answers as then is not known")
    recommender = Recommender.load(bundle, progress=False, checks_answers=True)
    if version_of(bundle) != version:  # it was replaced meanwhile: what was read is one or the other
        return load_live(bundle, store, settings)
    after = position_of(recommender.card.facts.get(EVENTS_FACT), store)
    live = Live(recommender, version=version, event_types=settings.event_types, after=after)
    live.follow(store)
    return live


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
