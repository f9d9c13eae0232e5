"""The page in a real browser: what a person sees and does, by mouse, by keyboard, on a phone, and under attack."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.serving.film_world import FILMS, HOSTILE, film_service, recommender
from tests.serving.page_browser import LAUNCH, Watched, listening

from retrank.core.errors import StoreUnavailableError
from retrank.serving.keys import digest_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(LAUNCH["executable_path"]).exists(), reason="there is no Chromium here"),
]
TITLES = {film: f"Film {number}" for number, film in enumerate(FILMS[:20])}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(**LAUNCH)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Serve the world of films and open its page; in the end, nothing may have gone wrong in it."""
    opened = []

    def open_page(path="/", *, settings=None, **options):
        service, app = film_service(tmp_path, logs_requests=False, **(settings or {}))
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


def names(page, within="#list"):
    return page.locator(f"{within} .name").all_inner_texts()


def ask(page, user):
    page.fill("#who-text", user)
    page.press("#who-text", "Enter")
    page.wait_for_selector('#list[aria-busy="false"] .item')


def test_what_is_hidden_is_gone_also_after_a_restart(browser, tmp_path):
    recommender().save(tmp_path / "bundle")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "retrank", "serve", str(tmp_path / "bundle"), "--port", str(port),
        "--store", str(tmp_path / "events.db"),
    ]  # fmt: skip
    context = browser.new_context()
    watched = Watched(context, address)
    page = watched.page
    for turn in range(2):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            try:
                wait_until_it_answers(address, server)
                page.goto(address)
                ask(page, "ann")
                shown = names(page)
                if turn == 0:
                    hidden = shown[0]
                    page.get_by_role("button", name=f"Hide: {hidden}").click()
                    page.get_by_text(f"Hidden: {hidden}").first.wait_for()
                    page.wait_for_function(
                        "title => ![...document.querySelectorAll('#list .name')].some(one => one.textContent === title)",
                        arg=hidden,
                    )
                    shown = names(page)
                assert hidden not in shown
                assert names(page, "#hidden-list") == [hidden]
                assert shown
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(20)
    context.close()
    assert watched.wrong == []


def wait_until_it_answers(address, server, seconds=60):
    for _ in range(seconds * 10):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/healthz"):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not start")


def test_a_list_is_shown_beside_the_history(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    assert names(page, "#past") == [TITLES[film] for film in reversed(FILMS[6:12])]
    assert not set(names(page)) & set(names(page, "#past"))
    assert re.search(r"\d ms, [\d.]+ ms of them in the service", page.inner_text("#latency"))
    assert page.inner_text("#past-facts") == "6 events, the newest first"
    assert page.title() == "Films · retrank"


def test_a_like_counts_at_once(visit):
    page = visit("/#user=ann").page
    page.wait_for_selector("#list .item")
    liked = names(page)[0]
    page.get_by_role("button", name=f"Like: {liked}", exact=True).click()
    page.wait_for_function("title => document.querySelector('#past .name')?.textContent === title", arg=liked)
    assert liked not in names(page)


def test_hiding_can_be_undone_by_the_keyboard_alone(visit):
    page = visit().page
    page.wait_for_selector("#list-empty button")
    press_until(page, "Tab", "#who-text")
    page.keyboard.type("bo")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#who-text", "aria-activedescendant") == "who-options-0"
    page.keyboard.press("Enter")
    page.wait_for_selector("#list .item")
    assert page.input_value("#who-text") == "bob"
    first, second = names(page)[:2]
    press_until(page, "Tab", "#list [data-action=hide]")
    page.keyboard.press("Enter")
    page.wait_for_function("title => document.querySelector('#list .name').textContent === title", arg=second)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Hide: {second}"
    page.wait_for_function("() => document.querySelector('#announcer').textContent")
    told = page.text_content("#announcer")
    assert f"Hidden: {first}." in told
    assert f"recommendations for bob. First: {second}." in told
    press_until(page, "Tab", "#undo")
    page.keyboard.press("Enter")
    page.wait_for_function("title => document.querySelector('#list .name').textContent === title", arg=first)


def test_the_tabs_are_moved_between_by_arrows(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    press_until(page, "Tab", "#tab-people")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".tile")
    assert page.evaluate("document.activeElement.id") == "tab-operations"
    assert page.is_hidden("#people")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#list .item")
    assert page.is_hidden("#operations")


def press_until(page, key, selector, most=60):
    """Move the focus to the first element that a selector means; it must be seen to be there."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"{selector} cannot be reached by {key}")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(visit, width):
    page = visit("/#user=bob", viewport={"width": width, "height": 800}).page
    page.wait_for_selector("#list .item")
    page.click("#filters-toggle")
    too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(too_wide)
    page.click("#tab-operations")
    page.wait_for_selector(".bars")
    assert not page.evaluate(too_wide)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, scheme):
    page = visit("/#user=bob", color_scheme=scheme).page
    page.wait_for_selector("#list .item")
    grounds = {
        "body": "body", "h1": "body", "#subtitle": "body", "#list .name": ".panel", "#list .facts": ".panel",
        "#list .number": ".panel", "#who-submit": "#who-submit", "#past-facts": ".panel",
    }  # fmt: skip
    script = "selector => getComputedStyle(document.querySelector(selector))"
    for text, ground in grounds.items():
        one, other = (
            luminance(page.evaluate(f"({script})({selector!r}).{name}"))
            for selector, name in ((text, "color"), (ground, "backgroundColor"))
        )
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5, text
    assert (luminance(page.evaluate(f"({script})('body').backgroundColor")) < 0.1) == (scheme == "dark")


def luminance(color):
    """The relative luminance of a colour, as WCAG 2 has it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("user", HOSTILE)
def test_keys_and_titles_stay_text(visit, user):
    watched = visit()
    page = watched.page
    ask(page, user)
    page.fill("#who-text", user[:4])
    page.wait_for_selector("[role=option]")
    assert user in page.locator("[role=option] span").all_inner_texts()
    page.press("#who-text", "Escape")
    page.click("#filters-toggle")
    page.fill("#k", "100")
    page.check("[name=seen]")
    page.wait_for_function(f"() => document.querySelectorAll('#list .item').length === {len(FILMS)}")
    assert set(HOSTILE) <= set(names(page))
    assert HOSTILE[1] in "".join(page.locator("#list .facts").all_inner_texts())
    page.get_by_role("button", name=f"Similar: {HOSTILE[0]}", exact=True).first.click()
    page.wait_for_selector("#similar .item, #similar [role=status]")
    assert HOSTILE[0] in page.inner_text("#similar-title")
    page.keyboard.press("Escape")
    page.click("#tab-operations")
    page.wait_for_selector(".bars")
    assert HOSTILE[0] in page.inner_text(".bars")
    assert HOSTILE[1] in page.inner_text(".bullets")
    assert page.locator("main img, main script, [onerror], [onclick]").count() == 0
    page.goto(f"{watched.address}/#{'user=' + HOSTILE[1]}")
    page.reload()
    page.wait_for_selector("#list .item")
    assert page.locator("main script").count() == 0


def test_the_unknown_get_what_is_popular_and_are_told(visit):
    page = visit().page
    ask(page, "nobody at all")
    assert page.inner_text("#list-note") == "“nobody at all” is new here, so this is what is popular."
    assert "No events yet" in page.inner_text("#past-empty")


def test_a_condition_that_cannot_be_read_is_shown_at_its_field(visit):
    watched = visit("/#user=bob")
    watched.expected.append("422")
    page = watched.page
    page.wait_for_selector("#list .item")
    page.click("#filters-toggle")
    page.fill("#where", "yeer > 3")
    page.press("#where", "Enter")
    page.wait_for_selector('#where[aria-invalid="true"]')
    assert "yeer" in page.inner_text("#where-error")
    page.locator(".examples button", has_text="year >= 1981").click()
    page.wait_for_selector('#where[aria-invalid="false"]')
    page.wait_for_selector('#list[aria-busy="false"] .item')
    years = [int(text[:4]) for text in page.locator("#list .facts").all_inner_texts()]
    assert years
    assert min(years) >= 1981


def test_lists_go_on_without_the_store_and_say_so(visit, monkeypatch):
    watched = visit("/#user=bob")
    watched.expected.append("503")
    page = watched.page
    page.wait_for_selector("#list .item")

    def down(*_):
        raise StoreUnavailableError("a store", "none", "here")

    for name in ("position", "append_events"):
        monkeypatch.setattr(type(watched.service.store), name, down)
    ask(page, "ann")
    page.wait_for_selector("#list-note.warn")
    assert "does not answer" in page.inner_text("#list-note")
    page.locator("#list [data-action=hide]").first.click()
    page.wait_for_selector("#notices .bad")
    assert "Try again" in page.inner_text("#notices")


def test_a_key_is_asked_for_kept_in_the_tab_and_sent(visit):
    watched = visit(settings={"key_hashes": frozenset({digest_of("right")})})
    watched.expected.append("401")
    page = watched.page
    page.fill("#key", "wrong")
    page.press("#key", "Enter")
    page.get_by_text("does not know this key").wait_for()
    page.fill("#key", "right")
    page.press("#key", "Enter")
    ask(page, "bob")
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    page.reload()
    page.wait_for_selector("#list .item")


def test_a_session_is_built_by_clicks_and_by_names(visit):
    page = visit().page
    page.get_by_text("Anonymous session").click()
    page.wait_for_selector("#list .item")
    assert "Nothing is in the session yet" in page.inner_text("#list-note")
    first = names(page)[0]
    page.get_by_role("button", name=f"Add to the session: {first}", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('#past .item').length === 1")
    page.fill("#who-text", "film 13")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#past .item').length === 2")
    assert names(page, "#past") == ["Film 13", first]
    page.wait_for_selector('#list[aria-busy="false"]')
    assert not {"Film 13", first} & set(names(page))
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('#past .item').length === 2")
    assert names(page, "#past") == ["Film 13", first]
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("() => document.querySelectorAll('#past .item').length === 0")


def test_operations_show_load_state_and_the_card(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    page.click("#tab-operations")
    page.wait_for_function(
        "() => document.querySelectorAll('.sparkline .line, .sparkline .dot').length > 5", timeout=15_000
    )
    assert "/recommend" in page.inner_text("#operations table")
    state = page.inner_text("#operations .facts-list >> nth=0")
    assert "SQLite, answers" in state
    assert "ItemKNN" in state
    assert page.locator(".bars .value").count() == 2
    assert page.locator(".bars .interval").count() == 2
    page.get_by_role("button", name="recall@10").click()
    assert page.locator(".bars .interval").count() == 0
    assert page.locator(".bars .best .number").inner_text() == "0.75"


def test_quantiles_are_those_of_prometheus(visit):
    page = visit().page
    page.wait_for_selector("#list-empty button")
    ask_for = "([histogram, share]) => import('/page/histograms.js').then(({ quantile }) => quantile(histogram, share))"
    histogram = {"bounds": [1, 2, 4], "counts": [2, 6, 8, 9], "sum": 1}
    right = {0: 0, 1 / 9: 0.5, 2 / 9: 1, 4 / 9: 1.5, 6 / 9: 2, 7 / 9: 3, 8 / 9: 4}
    for share, value in right.items():
        assert page.evaluate(ask_for, [histogram, share]) == pytest.approx(value)
    assert page.evaluate(ask_for, [histogram, 0.99]) == float("inf")
    assert page.evaluate(ask_for, [{"bounds": [1], "counts": [0, 0], "sum": 0}, 0.5]) is None


def test_integers_of_64_bits_survive(visit):
    page = visit().page
    page.wait_for_selector("#list-empty button")
    back = "text => import('/page/json.js').then(({ parse, stringify }) => stringify(parse(text)))"
    text = '{"key":9007199254740993,"other":-9223372036854775808,"score":1.5,"text":"9007199254740993","small":7}'
    assert page.evaluate(back, text) == text
    key = "([text, type]) => import('/page/json.js').then(({ asKey, stringify }) => stringify(asKey(text, type)))"
    assert page.evaluate(key, ["9007199254740993", "integer"]) == "9007199254740993"
    assert page.evaluate(key, ["12x", "integer"]) == '"12x"'
    assert page.evaluate(key, ["12", "string"]) == '"12"'
    assert page.evaluate(key, ["true", "boolean"]) == "true"
