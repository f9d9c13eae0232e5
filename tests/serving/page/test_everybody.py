"""The page by keyboard alone, on screens of every width, and in light and dark."""

import re

import pytest
from tests.serving.page.watched import names, press_until

pytestmark = pytest.mark.slow


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
