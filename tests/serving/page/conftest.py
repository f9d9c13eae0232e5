"""A browser, and pages of a served world in which nothing may go wrong."""

from pathlib import Path

import pytest
from tests.serving.film_world import film_service
from tests.serving.page.watched import LAUNCH, Watched, listening


@pytest.fixture(scope="module")  # a running Playwright is a running event loop, which others must not find
def browser():
    if not Path(LAUNCH["executable_path"]).exists():
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(**LAUNCH)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Serve the world of films and open its page; in the end, nothing may have gone wrong in it."""
    opened = []

    def open_page(path="/", *, served=None, settings=None, **options):
        service, app = film_service(tmp_path, served, logs_requests=False, **(settings or {}))
        server = listening(app)
        address = server.__enter__()
        context = browser.new_context(reduced_motion="reduce", **options)
        watched = Watched(context, address)
        opened.append((watched, context, server))
        watched.service = service
        watched.page.goto(address + path)
        return watched

    yield open_page
    for watched, context, server in opened:
        context.close()
        server.__exit__(None, None, None)
        assert watched.wrong == []
