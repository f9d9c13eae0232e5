"""The service: a bundle behind HTTP, kept up to date with a store of events.

`create_app` makes the ASGI application around a `Service`; `retrank serve` runs it. `stores` holds where events go.
"""

from retrank.serving import stores
from retrank.serving.app import create_app
from retrank.serving.service import Service
from retrank.serving.settings import Limits, Settings

__all__ = ["Limits", "Service", "Settings", "create_app", "stores"]
