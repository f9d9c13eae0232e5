"""Any sequence of calls leaves a store as it leaves plain lists and dicts."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.serving.stores.values import typed

from retrank.serving.stores import Document, Event, Impression, open_store

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
KEYS = st.sampled_from([0, 1, "0", "1", "", True, False]) | TEXT | INTEGERS
KINDS = st.sampled_from(["candidate", "query"])
FLOATS = st.floats(allow_nan=False)
EVENTS = st.builds(
    Event,
    id=st.sampled_from("abcdef") | NAMES,
    query=KEYS,
    candidate=KEYS,
    type=NAMES,
    time=INTEGERS,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    list_id=st.none() | NAMES,
)
DOCUMENTS = st.builds(Document, kind=KINDS, key=KEYS, content=st.none() | st.binary(max_size=20))


@st.composite
def impressions(draw):
    shown = draw(st.lists(st.tuples(KEYS, FLOATS, FLOATS), max_size=4))
    keys, scores, probabilities = zip(*shown, strict=True) if shown else ((), (), ())
    query = draw(st.none() | KEYS)
    return Impression(draw(NAMES), query, draw(st.integers(0, 9)), keys, scores, probabilities, draw(NAMES))


def exactly(change):
    """Tell apart what Python holds for equal: 1, 1.0 and True."""
    if isinstance(change, Document):
        return change.kind, typed(change.key), change.content
    if isinstance(change, Event):
        return change, typed(change.query), typed(change.candidate), typed(change.value)
    return change, typed(change.query), [typed(key) for key in change.keys]


class Calls(RuleBasedStateMachine):
    fresh_url = None  # a function, set by the test

    def __init__(self):
        super().__init__()
        self.url = self.fresh_url()
        self.store = open_store(self.url)
        self.history = []  # everything in order: events once, documents in every version
        self.ids = set()
        self.shown = []
        self.positions = {}

    def teardown(self):
        self.store.close()

    @rule(events=st.lists(EVENTS, max_size=5))
    def append(self, events):
        expected = []
        for e in events:
            expected.append(e.id not in self.ids)
            if e.id not in self.ids:
                self.ids.add(e.id)
                self.history.append(e)
        assert self.store.append_events(events) == expected

    @rule(documents=st.lists(DOCUMENTS, max_size=5))
    def put(self, documents):
        for document in documents:
            name = (document.kind, *typed(document.key))
            self.history = [
                old for old in self.history if isinstance(old, Event) or (old.kind, *typed(old.key)) != name
            ]
            self.history.append(document)
        self.store.put(documents)

    @rule(kind=KINDS, key=KEYS)
    def get(self, kind, key):
        found = self.store.get(kind, key)
        wanted = [d for d in self.history if isinstance(d, Document) and (d.kind, typed(d.key)) == (kind, typed(key))]
        assert [found] == (wanted or [None])

    @rule(shown=st.lists(impressions(), max_size=5))
    def log(self, shown):
        self.store.log_impressions(shown)
        self.shown += shown

    @rule(before=st.integers(-1, 10))
    def forget(self, before):
        kept = [i for i in self.shown if i.time >= before]
        assert self.store.forget_impressions(before) == len(self.shown) - len(kept)
        self.shown = kept

    @rule()
    def reopen(self):
        identity = self.store.identity()
        self.store.close()
        self.store = open_store(self.url)
        assert self.store.identity() == identity

    @rule(place=st.integers(0, 30), limit=st.integers(1, 5))
    def page(self, place, limit):
        whole = self.store.changes(0)
        after = whole[min(place, len(whole) - 1)].position if whole else place
        assert self.store.changes(after, limit) == [c for c in whole if c.position > after][:limit]

    @invariant()
    def holds_the_same(self):
        changes = self.store.changes(0)
        assert [exactly(change.item) for change in changes] == [exactly(item) for item in self.history]
        positions = [change.position for change in changes]
        assert positions == sorted(set(positions))
        assert self.store.position() == (positions[-1] if positions else 0)
        for change in changes:  # what was written keeps its position
            assert self.positions.setdefault(change.position, exactly(change.item)) == exactly(change.item)
        assert [exactly(value) for _, value in self.store.impressions()] == [exactly(value) for value in self.shown]


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_a_store_is_what_plain_lists_are(kind, request, tmp_path_factory):
    if kind == "sqlite":

        def fresh():
            return str(tmp_path_factory.mktemp("store") / "events.db")

    else:
        server = request.getfixturevalue(kind)

        def fresh():
            server.clear()
            return server.url

    class CallsOfKind(Calls):
        fresh_url = staticmethod(fresh)

    run_state_machine_as_test(
        CallsOfKind,
        settings=settings(
            max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
