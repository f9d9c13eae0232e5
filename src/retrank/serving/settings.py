"""`Settings` and `Limits`: how the service runs, and what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, final

from retrank.core.arguments import check_count
from retrank.core.errors import ConfigError

__all__ = ["EVENT_TYPES", "Effect", "Limits", "Settings"]

Effect = Literal["interaction", "hide", "unhide", "record"]
"""What an event does: counts as an interaction, leaves its candidate out from now on, lets it in again, or nothing
but being kept."""

EVENT_TYPES: Final[Mapping[str, Effect]] = MappingProxyType(
    {
        "view": "interaction",
        "click": "interaction",
        "play": "interaction",
        "like": "interaction",
        "cart": "interaction",
        "purchase": "interaction",
        "rate": "interaction",
        "hide": "hide",
        "dislike": "hide",
        "unhide": "unhide",
        "skip": "record",
    }
)
"""The types of events that are known by default, and what each does."""


@final
@dataclass(frozen=True)
class Limits:
    """What a request may ask for; more is refused.

    Args:
        k: the longest list.
        keys: the most keys in `allow`, `deny` or a session.
        requests: the most requests in one batch, and events in one call.
        body_bytes: the largest body.
        queue: how many requests wait at once; others get 503.
        micro_batch: how many requests are answered together.
        deadline: seconds after which a waiting request is given up.
        connections: the most connections of a worker.
        patience: seconds in which the headers of a request must have come, then its body, and in which a client must
            have read some more of its answer.

    Raises:
        ConfigError: a limit below 1, or seconds that are not above 0.
    """

    k: int = 1_000
    keys: int = 10_000
    requests: int = 1_000
    body_bytes: int = 2**20
    queue: int = 1_024
    micro_batch: int = 64
    deadline: float = 2.0
    connections: int = 4_096
    patience: float = 10.0

    def __post_init__(self) -> None:
        for name in ("k", "keys", "requests", "body_bytes", "queue", "micro_batch", "connections"):
            check_count(getattr(self, name), name, "limits")
        for name in ("deadline", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError("seconds above 0", str(getattr(self, name)), f"limits, {name}")


@final
@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Args:
        limits: what a request may ask for.
        event_types: the types of events that are accepted, and what each does.
        logs_impressions: whether what was shown is kept in the store.
        logs_requests: whether a line is logged per request.
        shows_page: whether there is the page at `/`, and the routes to look around by: who is known, and what they did.
        key_hashes: the SHA-256 digests, in hex, of the API keys that are accepted; none: everybody is let in.
        origins: the origins of pages that browsers let use the service (CORS); none by default.

    Raises:
        ConfigError: an unknown effect of a type.
    """

    limits: Limits = field(default_factory=Limits)
    event_types: Mapping[str, Effect] = field(default_factory=lambda: EVENT_TYPES)
    logs_impressions: bool = True
    logs_requests: bool = True
    shows_page: bool = True
    key_hashes: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, effect in self.event_types.items():
            if effect not in ("interaction", "hide", "unhide", "record"):
                raise ConfigError("interaction, hide, unhide or record", repr(effect), f"event type '{name}'")
