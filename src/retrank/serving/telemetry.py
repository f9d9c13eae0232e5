"""What the service tells of itself: Prometheus metrics, and a line of JSON per request."""

import logging
import sys
import time
from typing import Any, Final, final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["JsonLines", "Telemetry", "TextLines", "log_json", "log_text"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@final
class Telemetry:
    """The metrics of a service.

    Args:
        registry: where they are registered.
        adds_up_workers: whether the metrics of all workers are told together; they are then in files of a folder, which
            PROMETHEUS_MULTIPROC_DIR has named since before prometheus_client was imported.
    """

    def __init__(self, registry: CollectorRegistry, *, adds_up_workers: bool = False) -> None:
        self.registry = registry  # what is told
        if adds_up_workers:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self.requests = Counter(
            "retrank_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "retrank_request_seconds", "From a request to its answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "retrank_batch_size", "Requests that were answered together.", buckets=_SIZES, registry=registry
        )
        self.compute_seconds = Histogram(
            "retrank_batch_seconds", "The making of a batch of answers.", buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("retrank_waiting", "Requests that wait.", registry=registry, multiprocess_mode="livesum")
        self.events = Counter("retrank_events", "Events that were kept.", ["type"], registry=registry)
        self.position = Gauge(
            "retrank_store_position",
            "Changes of the store that answers know of.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.is_degraded = Gauge(
            "retrank_degraded",
            "Whether answers go on without the store.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.refused_changes = Gauge(
            "retrank_refused_changes",
            "Changes of the store that do not fit the bundle.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.lost_impressions = Counter(
            "retrank_lost_impressions", "Lists that were shown and could not be kept.", registry=registry
        )
        self.workers = Gauge(
            "retrank_workers", "Processes that answer.", registry=registry, multiprocess_mode="livesum"
        )
        self.workers.set(1)
        self.reloads = Counter("retrank_reloads", "Bundles that were loaded or refused.", ["result"], registry=registry)

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self.registry)


@final
class JsonLines(logging.Formatter):
    """Formats log records as JSON, one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line.

        Args:
            record: to be logged; what it has as `fields` is part of the object.
        """
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


@final
class TextLines(logging.Formatter):
    """Formats log records for people at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line, and below it the trace of an exception.

        Args:
            record: to be logged; what it has as `fields` is appended.
        """
        fields = getattr(record, "fields", {})
        known = [f"{name}={value}" for name, value in fields.items() if name != "request_id"]
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = f"{time.strftime('%H:%M:%S')}  {level}{'  '.join([record.getMessage(), *known])}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_json() -> None:
    """Let everything that is logged go to standard error, as lines of JSON."""
    _log_as(JsonLines())


def log_text() -> None:
    """Let everything that is logged go to standard error, as text."""
    _log_as(TextLines())


def _log_as(formatter: logging.Formatter) -> None:
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # a third of the cost of a line
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
