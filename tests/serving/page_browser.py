"""A real browser on a real socket: fixtures' parts for the tests of the page."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import uvicorn

__all__ = ["LAUNCH", "Watched", "listening"]

LAUNCH = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", "--disable-dev-shm-usage"]}


@contextmanager
def listening(app):
    """Serve an application from a thread; yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Watched:
    """A page, and what must not happen in it.

    Args:
        context: of the browser.
        address: that it may talk to.
    """

    def __init__(self, context, address):
        self.page, self.address, self.wrong, self.expected = context.new_page(), address, [], []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._request)

    def _console(self, message):
        if message.type in ("error", "warning") and not any(text in message.text for text in self.expected):
            self.wrong.append(message.text)

    def _request(self, request):
        if not request.url.startswith(f"{self.address}/"):
            self.wrong.append(f"asked elsewhere: {request.url}")
