"""Events, documents and impressions to write."""

from retrank.serving.stores import Event, Impression

KEYS = [
    7,
    "7",
    True,
    1,
    "1",
    "True",
    False,
    0,
    "",
    " ",
    "ü",
    "日本\n😀",
    'a"\\b',
    "nul\0nul",
    "x" * 10_000,
    -(2**63),
    2**63 - 1,
]


def event(name, query=7, candidate="a", **others):
    return Event(str(name), query, candidate, **{"type": "click", "time": 0} | others)


def impression(name, query=7, keys=("a", 7, True), **others):
    scores, probabilities = tuple(len(keys) - n + 0.1 for n in range(len(keys))), (1.0,) * len(keys)
    return Impression(str(name), query, others.get("time", 0), tuple(keys), scores, probabilities, "v1")


def typed(value):
    """Tell 1 from True, which are equal in Python."""
    return type(value), value


def items(store, after=0):
    return [change.item for change in store.changes(after)]
