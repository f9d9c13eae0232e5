"""The view of operations, and the modules that its numbers go through."""

import pytest

pytestmark = pytest.mark.slow


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
