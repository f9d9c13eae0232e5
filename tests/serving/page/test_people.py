"""What a person sees and does in the view of people: lists, histories, likes, hides, sessions, filters and keys."""

import re

import pytest
from tests.recommender.song_world import serve
from tests.serving.film_world import FILMS, recommender
from tests.serving.page.watched import Watched, ask, names
from tests.serving.running import service

import retrank as rr
from retrank.core.errors import StoreUnavailableError
from retrank.serving.keys import digest_of
from retrank.serving.live import Live
from retrank.serving.service import Serving
from retrank.serving.settings import EVENT_TYPES

pytestmark = pytest.mark.slow
TITLES = {film: f"Film {number}" for number, film in enumerate(FILMS[:20])}


def test_what_is_hidden_is_gone_also_after_a_restart(browser, tmp_path):
    recommender().save(tmp_path / "bundle")
    hidden = None
    for _ in range(2):
        with service(tmp_path / "bundle", "--store", tmp_path / "events.db") as served:
            context = browser.new_context()
            watched = Watched(context, served.url.rstrip("/"))
            page = watched.page
            page.goto(served.url)
            ask(page, "ann")
            if hidden is None:
                hidden = names(page)[0]
                page.get_by_role("button", name=f"Hide: {hidden}").click()
                page.wait_for_selector("#hidden-list .item")
            assert names(page)
            assert hidden not in names(page)
            assert names(page, "#hidden-list") == [hidden]
            context.close()
            assert watched.wrong == []


def test_a_list_is_shown_beside_the_history(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    assert names(page, "#past") == [TITLES[film] for film in reversed(FILMS[6:12])]
    assert not set(names(page)) & set(names(page, "#past"))
    assert re.search(r"\d ms with reasons, [\d.]+ ms of them in the service", page.inner_text("#latency"))
    assert page.inner_text("#past-facts") == "6 events, the newest first"
    assert page.title() == "Films · retrank"


def test_a_like_counts_at_once(visit):
    page = visit("/#user=ann").page
    page.wait_for_selector("#list .item")
    liked = names(page)[0]
    page.get_by_role("button", name=f"Like: {liked}", exact=True).click()
    page.wait_for_function("title => document.querySelector('#past .name')?.textContent === title", arg=liked)
    assert liked not in names(page)


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
    assert page.is_hidden("#links")  # a link sends no key
    page.reload()
    page.wait_for_selector("#list .item")


def test_a_session_is_built_by_clicks_and_by_names(visit):
    page = visit().page
    page.get_by_role("radio", name="Anonymous session").check()
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


def test_what_is_said_of_the_unknown_counts(visit):
    page = visit(served=serve("reranker")).page
    ask(page, "stranger")
    assert "the popular candidates" in page.inner_text("#list-facts")
    assert page.get_attribute("#visitor input", "placeholder") == "e.g. 26"
    page.fill("#visitor input", "44")
    page.press("#visitor input", "Enter")
    page.wait_for_function("() => document.querySelector('#list-facts').textContent.includes('Reranker')")
    page.get_by_role("radio", name="Anonymous session").check()
    page.wait_for_function("() => document.querySelector('#past-title').textContent === 'Session'")
    assert page.input_value("#visitor input") == ""
    page.get_by_role("radio", name="Known user").check()
    ask(page, "u1")
    page.wait_for_selector("#features dd")
    assert page.is_hidden("#visitor")


def test_another_bundle_is_noticed(visit):
    watched = visit("/#user=ann")
    page = watched.page
    page.wait_for_selector("#list .item")
    other = recommender().with_card(rr.recommender.Card("Other films"))
    watched.service.serving = Serving(Live(other, version="1" * 12, event_types=EVENT_TYPES), remembers=False)
    ask(page, "bob")
    page.wait_for_function("() => document.title === 'Other films · retrank'")
    assert page.inner_text("#subtitle").endswith("bundle 111111111111")


def test_reasons_are_named_and_open_to_scores(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .why")
    assert "ItemKNN" in page.inner_text("#list-facts")
    past = set(names(page, "#past"))
    for row in page.locator("#list .item").all():
        if row.locator(".why strong").count():
            assert set(row.locator(".why strong").all_inner_texts()) <= past
    assert page.locator("#list .why strong").count()
    why = page.locator("#list .why").first
    why.focus()
    page.keyboard.press("Enter")
    assert why.get_attribute("aria-expanded") == "true"
    chips = page.locator("#list .item").first.locator(".chips div").all_inner_texts()
    assert page.locator("#list .item").first.locator(".number").inner_text().split()[-1] in " ".join(chips)
    assert "6 seen already" in page.inner_text("#left-out summary")
    page.click("#filters-toggle")
    page.uncheck("[name=reasons]")
    page.wait_for_function("() => !document.querySelector('#list .why')")
    assert page.is_hidden("#left-out")


def test_what_is_hidden_is_told_below_the_list(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    hidden = names(page)[0]
    page.get_by_role("button", name=f"Hide: {hidden}").click()
    page.wait_for_selector("#hidden-list .item")
    page.click("#left-out summary")
    assert re.search(r"6 seen already, 1 hidden", page.inner_text("#left-out summary"))
    assert hidden in page.inner_text("#left-out .removed")


def test_caps_and_diversity_are_obeyed(visit):
    page = visit("/#user=u1", served=serve("reranker")).page
    page.wait_for_selector("#list .item")
    plain = names(page)
    page.click("#filters-toggle")
    page.select_option("[name=capColumn]", "genres")
    page.wait_for_function("() => document.querySelector('#left-out').textContent.includes('by the cap')")
    facts = "".join(page.locator("#list .facts").all_inner_texts())
    assert facts.count("rock") == 2
    assert max(facts.count(genre) for genre in ("jazz", "folk", "pop")) <= 2
    page.fill("#diversity", "1")
    page.wait_for_function("() => document.querySelector('#filters-toggle').textContent === 'Filters · 2'")
    page.select_option("[name=capColumn]", "")
    page.fill("#k", "4")
    page.press("#k", "Enter")
    page.wait_for_function("() => document.querySelector('#left-out').textContent.includes('by diversity')")
    assert page.inner_text("#diversity-value") == "1.0"
    assert len(names(page)) == 4
    assert names(page) != plain[:4]


def test_baselines_offer_no_diversity(visit):
    page = visit("/#user=bob").page
    page.wait_for_selector("#list .item")
    page.click("#filters-toggle")
    assert page.is_hidden("#diversity")
    assert page.is_visible("[name=capColumn]")
