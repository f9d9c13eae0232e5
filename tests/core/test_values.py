import json

import pytest
from typing_extensions import TypedDict

from retrank.core.errors import ConfigError, MissingExtraError, StorageError
from retrank.core.values import built_from, checked, format_json, parse_json


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nan", "NaN", "[Infinity]", "1e999", "[-1e999]", "1" * 30, "9" * 5000, "[" * 100_000, "{" * 100_000,
        "[" * 101 + "]" * 101, '{"a":' * 200 + "1" + "}" * 200, b"\xff\xfe".decode("latin-1"),
    ],
)  # fmt: skip
def test_other_json_is_refused_by_the_name_of_its_file(text):
    with pytest.raises(StorageError, match=r"^x\.json: "):
        parse_json(text.encode("latin-1"), "x.json")


@pytest.mark.parametrize("value", [None, 0, -(2**63), 2**64, 1e308, "é\n", [], {}, {"a": [1, 2.5, {"b": None}]}])
def test_what_is_written_is_read_back(value):
    text = format_json(value, "x.json")
    assert parse_json(text.encode(), "x.json") == value
    assert json.loads(text) == value


def nested(levels):
    return [nested(levels - 1)] if levels else []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, {1, 2}, object(), b"x", "\ud800", nested(200)])
def test_what_could_not_be_read_back_is_not_written(value):
    with pytest.raises(ConfigError, match="JSON"):
        format_json(value, "x.json")


class Entry(TypedDict):
    size: int
    rate: float
    names: list[str]


GOOD = {"size": 3, "rate": 1, "names": ["a"]}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"size": "3"}, "size"), ({"size": True}, "size"), ({"size": 3.0}, "size"), ({"size": None}, "size"),
        ({"rate": "1"}, "rate"), ({"names": "a"}, "names"), ({"names": [1]}, r"names\.0"), ({"names": {}}, "names"),
    ],
)  # fmt: skip
def test_nothing_is_converted(change, place):
    assert checked(GOOD, Entry, "x.json") == GOOD
    with pytest.raises(StorageError, match=rf"^x\.json, {place}: expected .*, got "):
        checked({**GOOD, **change}, Entry, "x.json")
    with pytest.raises(StorageError, match=r"^x\.json, size: .*got nothing"):
        checked({"rate": 1.0, "names": []}, Entry, "x.json")
    with pytest.raises(StorageError, match=r"^x\.json: "):
        checked([], Entry, "x.json")


class PanicException(BaseException):
    """What Rust libraries raise."""


@pytest.mark.parametrize(
    "error", [KeyError("a"), RecursionError(), MemoryError(), PanicException("oh"), StorageError("a", "b", "c", "d")]
)
def test_whatever_fails_is_a_fault_of_the_file(error):
    with pytest.raises(StorageError, match=r"^x\.json: "), built_from("x.json"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), MissingExtraError("a", "b", "c", "d")])
def test_what_is_no_fault_of_the_file_passes(error):
    with pytest.raises(type(error)), built_from("x.json"):
        raise error


def test_an_error_that_names_the_file_stays_as_it_is():
    error = StorageError("a", "b", "x.json, place", "d")
    with pytest.raises(StorageError) as caught, built_from("x.json"):
        raise error
    assert caught.value is error
