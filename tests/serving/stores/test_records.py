import numpy as np
import pytest

from retrank.core.errors import DataError
from retrank.serving.stores import Document, Event, Impression

EVENT = {"id": "e", "query": 1, "candidate": "a", "type": "view", "time": 0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", 7),
        ("id", "a\0"),
        ("id", "\ud800"),
        ("query", None),
        ("query", 1.0),
        ("query", np.int64(1)),
        ("query", np.str_("a")),
        ("candidate", "\udfff"),
        ("candidate", 2**63),
        ("candidate", b"a"),
        ("type", ""),
        ("time", 1.5),
        ("time", True),
        ("time", -(2**63) - 1),
        ("value", float("nan")),
        ("value", float("inf")),
        ("value", 10**400),
        ("value", True),
        ("value", "1"),
        ("list_id", ""),
        ("list_id", 7),
    ],
)
def test_an_event_with_a_bad_field_is_refused_by_name(field, value):
    with pytest.raises(DataError, match=f"event '{field}'"):
        Event(**EVENT | {field: value})


def test_the_value_of_an_event_is_a_float():
    assert type(Event(**EVENT, value=3).value) is float


@pytest.mark.parametrize("fields", [("item", 1, b""), ("query", 1.5, b""), ("query", 1, "{}"), ([], 1, b"")])
def test_a_document_with_a_bad_field_is_refused(fields):
    with pytest.raises(DataError, match="document"):
        Document(*fields)


@pytest.mark.parametrize(
    "change",
    [
        {"list_id": ""},
        {"query": 1.5},
        {"time": None},
        {"keys": (None,)},
        {"keys": ()},
        {"scores": (1.0, 2.0)},
        {"scores": (1,)},
        {"probabilities": ("1",)},
        {"bundle": ""},
    ],
)
def test_an_impression_with_a_bad_field_is_refused(change):
    good = {"list_id": "l", "query": None, "time": 0, "keys": ("a",), "scores": (1.0,), "probabilities": (1.0,)}
    Impression(**good, bundle="v")
    with pytest.raises(DataError, match="impression"):
        Impression(**{**good, "bundle": "v"} | change)


def test_messages_stay_short():
    with pytest.raises(DataError) as caught:
        Event(**EVENT | {"query": b"x" * 100_000})
    assert len(str(caught.value)) < 200
