"""A real browser on a real socket: fixtures' parts for the tests of the page."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import uvicorn

__all__ = ["LAUNCH", "Watched", "ask", "listening", "names", "press_until"]

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


def names(page, within="#list"):
    """Return the titles that are shown."""
    return page.locator(f"{within} .name").all_inner_texts()


def ask(page, user):
    """Type a user, and wait for the list."""
    page.fill("#who-text", user)
    page.press("#who-text", "Enter")
    page.wait_for_selector('#list[aria-busy="false"] .item')


def press_until(page, key, selector, most=60):
    """Move the focus to the first element that a selector means; it must be seen to be there."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"{selector} cannot be reached by {key}")
