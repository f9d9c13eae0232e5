"""Keys, titles and cards that would be markup if anything read them as such."""

import random

import pytest
from tests.serving.film_world import FILMS, HOSTILE
from tests.serving.page.watched import ask, names

pytestmark = pytest.mark.slow


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


def test_cards_become_no_markup_but_what_a_card_may_have(visit):
    page = visit().page
    page.wait_for_selector("#list-empty button")
    parts = [
        "# ",
        "|",
        "|---|---|",
        "- ",
        "**",
        "`",
        "a",
        "0.5 (0.4-0.6)",
        "<b>",
        "<img src=x onerror=alert(1)>",
        "\n",
        "\n",
        " ",
    ]
    chance = random.Random(0)
    cards = ["".join(chance.choices(parts, k=chance.randint(1, 30))) for _ in range(500)]
    cards.append("|<b>|m|\n|---|---|\n|<img src=x onerror=alert(1)>|0.5|")
    script = """texts => Promise.all([import('/page/markdown.js'), import('/page/plot.js')]).then(([one, other]) => {
      const tags = new Set();
      for (const text of texts) {
        const box = document.createElement('div');
        box.append(...one.rendered(text, other.evaluationTable));
        for (const element of box.querySelectorAll('*')) tags.add(element.tagName.toLowerCase());
      }
      return [...tags];
    })"""
    tags = set(page.evaluate(script, cards))
    assert {"p", "table", "li", "h4", "strong", "code", "figure"} <= tags
    assert not tags & {"img", "b", "script", "a", "iframe", "style", "form"}
