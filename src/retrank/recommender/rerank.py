"""Stub."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Boost", "Exploration", "Rerank"]


@dataclass(frozen=True)
class Boost:
    """Stub."""

    where: Any
    by: float


@dataclass(frozen=True)
class Exploration:
    """Stub."""

    position: int
    probability: float
    seed: Any = None


@dataclass(frozen=True)
class Rerank:
    """Stub."""

    caps: Any = None
    diversity: float = 0
    boosts: Any = ()
    exploration: Any = None
