"""Stores of events: what keeps events, what is known of candidates and queries, and which lists were shown.

`open_store` opens one by its URL; whatever it returns is a `Store`, and all stores behave alike. An `Event` says what a
query did, a `Document` what a candidate or query is, an `Impression` which list was shown. `export_events` and
`export_impressions` write Parquet files, `read_events` a table for `rr.update`.
"""

from retrank.serving.stores.export import export_events, export_impressions, read_events
from retrank.serving.stores.opening import open_store
from retrank.serving.stores.records import Change, Document, Event, Impression, Kind
from retrank.serving.stores.store import Store

__all__ = [
    "Change",
    "Document",
    "Event",
    "Impression",
    "Kind",
    "Store",
    "export_events",
    "export_impressions",
    "open_store",
    "read_events",
]
