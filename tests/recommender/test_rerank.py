"""Business rules: against a slow oracle, alone and among others, and what must hold whatever was asked for."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.recommender.song_world import KINDS, KNOWN, RETRIEVED, SONGS, requests, serve

from retrank.core.errors import ConfigError, DataError, RetrankError
from retrank.recommender import Boost, Exploration, Request, Rerank

CONDITIONS = ["year < 1975", "year >= 2000", "artist = 'a1'", "genres IS NULL"]
COLUMNS = ["genres", "artist", "year"]
in_all_kinds = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=KINDS)
def recommender(request):
    return serve(request.param)


@st.composite
def reranks(draw, diverse=True, exploring=False):
    exploration = None
    if exploring and draw(st.booleans()):
        probability = draw(st.sampled_from([0, 0.3, 1]))
        exploration = Exploration(1, probability, draw(st.integers(0, 5)))
    return Rerank(
        caps=draw(st.dictionaries(st.sampled_from(COLUMNS), st.integers(1, 3), max_size=2)),
        diversity=draw(st.sampled_from([0, 0.2, 0.7, 1])) if diverse else 0.0,
        boosts=draw(
            st.lists(st.builds(Boost, st.sampled_from(CONDITIONS), st.sampled_from([-2, 0, 0.5, 9])), max_size=2)
        ),
        exploration=exploration,
    )


def with_rerank(request, rerank, **others):
    names = ("query", "k", "exclude_seen", "where", "allow", "deny")
    return Request(**{**{name: getattr(request, name) for name in names}, "rerank": rerank, **others})


def one(recommender, request):
    found = recommender.answer([request])[0]
    assert not isinstance(found, RetrankError), found
    return found


def draw_fine(data, recommender):
    """Draw a request that is not refused."""
    request = data.draw(requests(brings_features=recommender.baseline is None))
    assume(not isinstance(recommender.answer([request])[0], RetrankError))
    return request


def values_of(recommender, column):
    """Return what each key counts under."""
    table = recommender.candidates
    values = [value if isinstance(value, list) else [value] for value in table[column].to_list()]
    return dict(
        zip(table["song"], ({one for one in members if one is not None} for members in map(_flat, values)), strict=True)
    )


def _flat(values):
    return [value for value in values if not isinstance(value, list)]


def keys_where(recommender, condition):
    return set(recommender.candidates.filter(pl.sql_expr(condition))["song"])


def oracle(recommender, request, found):
    """Make the list step by step, in plain Python; of what is equally good but for rounding, take what was found."""
    rerank, all_keys = request.rerank, set(recommender.candidates["song"])
    standard = 100 if recommender.baseline is not None else RETRIEVED
    depth, columns = min(max(request.k, standard), SONGS), {name: values_of(recommender, name) for name in rerank.caps}
    where = all_keys if request.where is None else set(recommender.candidates.filter(request.where)["song"])
    allowed = where & (all_keys if request.allow is None else set(request.allow))
    while True:
        base = one(recommender, with_rerank(request, None, k=depth))
        pool = dict(zip(base.keys, base.scores, strict=True))
        for boost in rerank.boosts:
            matching = set(recommender.candidates.filter(boost.where)["song"])
            favored = allowed & (matching if boost.by > 0 else all_keys - matching)
            if boost.by and favored:
                more = one(recommender, with_rerank(request, None, k=depth, where=None, allow=sorted(favored)))
                pool |= {key: score for key, score in zip(more.keys, more.scores, strict=True) if key not in pool}
        if rerank.boosts and base.scores:
            deviation = np.std(np.array(base.scores))
            for boost in rerank.boosts:
                for key in set(recommender.candidates.filter(boost.where)["song"]) & pool.keys():
                    pool[key] += boost.by * deviation
        order = sorted(pool, key=lambda key: -np.float32(pool[key]))
        chosen = greedy(recommender, order, pool, request.k, rerank, columns, found)
        if len(chosen) == request.k or len(base.keys) < depth or depth == SONGS:
            return chosen, [pool[key] for key in chosen]
        depth = min(2 * depth, SONGS)


def greedy(recommender, order, pool, k, rerank, columns, found):
    low, high = (min(pool.values()), max(pool.values())) if pool else (0, 0)
    relevance = {key: 1.0 if low == high else (pool[key] - low) / (high - low) for key in order}
    vectors = {}
    if rerank.diversity:
        catalogue = recommender.catalogue
        embeddings = recommender.retrieval.embed_candidates(catalogue.batch).double().numpy()
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        vectors = dict(zip(catalogue.keys.tolist(), unit, strict=True))
    chosen, taken = [], {name: {} for name in columns}
    while len(chosen) < k:
        best, best_value = None, -np.inf
        hoped = found[len(chosen)] if rerank.diversity and len(chosen) < len(found) else None
        for key in sorted(order, key=lambda key: key != hoped):
            if key in chosen or any(
                taken[name].get(value, 0) >= most for name, most in rerank.caps.items() for value in columns[name][key]
            ):
                continue
            value = (1 - rerank.diversity) * relevance[key]
            if chosen and rerank.diversity:
                value -= rerank.diversity * max(float(vectors[key] @ vectors[other]) for other in chosen)
            if value > best_value + 1e-6:
                best, best_value = key, value
        if best is None:
            break
        chosen.append(best)
        for name in columns:
            for value in columns[name][best]:
                taken[name][value] = taken[name].get(value, 0) + 1
    return chosen


@in_all_kinds
@given(data=st.data())
def test_lists_are_those_of_a_slow_oracle(recommender, data):
    is_baseline = recommender.baseline is not None
    plain = draw_fine(data, recommender)
    request = with_rerank(plain, data.draw(reranks(diverse=not is_baseline)))
    found = one(recommender, request)
    keys, scores = oracle(recommender, request, found.keys)
    assert found.scores == pytest.approx(scores, rel=1e-5, abs=1e-5)
    assert found.keys == keys
    assert found.rows == recommender.catalogue.rows(keys).tolist()
    assert found.probabilities == [1.0] * len(keys)


@in_all_kinds
@given(data=st.data())
def test_alone_and_among_others_to_the_bit(recommender, data):
    is_baseline = recommender.baseline is not None
    plain = data.draw(st.lists(requests(brings_features=not is_baseline), min_size=1, max_size=8))
    rules = st.none() | reranks(diverse=not is_baseline, exploring=True)
    asked = [with_rerank(request, data.draw(rules)) for request in plain]
    together = recommender.answer(asked)
    fine = [n for n, found in enumerate(together) if not isinstance(found, RetrankError)]
    for request, found in zip(asked, together, strict=True):
        alone = recommender.answer([request])[0]
        assert str(found) == str(alone)
        if not isinstance(found, RetrankError):
            table = recommender.recommend(
                request.query, request.k, exclude_seen=request.exclude_seen, where=request.where, allow=request.allow,
                deny=request.deny, rerank=request.rerank,
            )  # fmt: skip
            assert (table["song"].to_list(), table["score"].to_list()) == (found.keys, found.scores)
    many = recommender.recommend_many([asked[n] for n in fine])
    assert many["song"].to_list() == [key for n in fine for key in together[n].keys]
    assert many["score"].to_list() == [score for n in fine for score in together[n].scores]


@in_all_kinds
@given(data=st.data())
def test_tables_of_queries_follow_rules_too(recommender, data):
    rerank = data.draw(reranks(diverse=recommender.baseline is None, exploring=True))
    users = pl.DataFrame({"user": [*KNOWN, "stranger"]})
    table = recommender.recommend_many(users, k=5, where="year > 1965", rerank=rerank)
    lists = [recommender.recommend(user, 5, where="year > 1965", rerank=rerank) for user in users["user"]]
    assert table.drop("user").equals(pl.concat(lists).select("song", "rank", "score", "stage"))


@in_all_kinds
@given(data=st.data())
def test_caps_hold_and_no_list_is_short_while_there_are_candidates(recommender, data):
    is_baseline = recommender.baseline is not None
    plain = draw_fine(data, recommender)
    request = with_rerank(plain, data.draw(reranks(diverse=not is_baseline, exploring=True)))
    found = one(recommender, request)
    counts = {name: {} for name in request.rerank.caps}
    columns = {name: values_of(recommender, name) for name in counts}
    for name, count in counts.items():
        for key in found.keys:
            for value in columns[name][key]:
                count[value] = count.get(value, 0) + 1
        assert max(count.values(), default=0) <= request.rerank.caps[name]
    assert len(set(found.keys)) == len(found.keys)
    everything = one(recommender, with_rerank(request, None, k=SONGS))
    assert set(found.keys) <= set(everything.keys)
    if len(found.keys) < min(request.k, SONGS):
        for key in set(everything.keys) - set(found.keys):
            fits = all(counts[n].get(v, 0) < request.rerank.caps[n] for n in counts for v in columns[n][key])
            assert not fits


@in_all_kinds
@given(data=st.data())
def test_rules_that_ask_for_nothing_change_nothing(recommender, data):
    plain = draw_fine(data, recommender)
    found = one(recommender, plain)
    for nothing in (Rerank(), Rerank(caps={"artist": 1000}), Rerank(boosts=[Boost("year > 0", 0)])):
        assert one(recommender, with_rerank(plain, nothing)) == found


def test_boosts_reach_beyond_what_is_retrieved(recommender):
    request = Request({"user": "u1"}, k=RETRIEVED, exclude_seen=False)
    usual = one(recommender, request).keys
    old = keys_where(recommender, "year < 1975")
    lifted = one(recommender, with_rerank(request, Rerank(boosts=[Boost("year < 1975", 1000)])))
    assert set(lifted.keys) <= old
    assert lifted.keys == one(recommender, with_rerank(request, None, where=pl.col("year") < 1975)).keys
    names = ", ".join(f"'{key}'" for key in usual)
    buried = one(recommender, with_rerank(request, Rerank(boosts=[Boost(f"song IN ({names})", -1000)])))
    assert not set(buried.keys) & set(usual)
    assert buried.keys == one(recommender, with_rerank(request, None, deny=usual)).keys[: len(buried.keys)]


def test_boosts_are_in_standard_deviations(recommender):
    request = Request({"user": "u2"}, k=SONGS, exclude_seen=False)
    usual = one(recommender, request)
    boosted = one(
        recommender, with_rerank(request, Rerank(boosts=[Boost("year >= 2000", 0.5), Boost("year > 2010", 1)]))
    )
    years, before = (
        dict(recommender.candidates.select("song", "year").rows()),
        dict(zip(usual.keys, usual.scores, strict=True)),
    )
    deviation = np.std(usual.scores)
    for key, score in zip(boosted.keys, boosted.scores, strict=True):
        added = 0.5 * (years[key] >= 2000) + (years[key] > 2010)
        assert score == pytest.approx(before[key] + added * deviation, rel=1e-5, abs=1e-5)
    assert boosted.scores == sorted(boosted.scores, reverse=True)


def test_diversity_makes_lists_less_alike():
    recommender = serve("two towers")
    request = Request({"user": "u3"}, k=6)
    embeddings = recommender.retrieval.embed_candidates(recommender.catalogue.batch).numpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def likeness(diversity):
        rows = one(recommender, with_rerank(request, Rerank(diversity=diversity))).rows
        return np.triu(unit[rows] @ unit[rows].T, 1).sum()

    assert likeness(1.0) < likeness(0.0)


def test_chance_draws_with_the_probability_that_it_tells(recommender):
    k, position, probability, caps = 4, 2, 0.3, {"artist": 1}
    request = Request({"user": "u5"}, k=k)
    usual = one(recommender, with_rerank(request, Rerank(caps=caps)))
    artists = {key: next(iter(values)) for key, values in values_of(recommender, "artist").items()}
    depth = 100 if recommender.baseline is not None else RETRIEVED
    pool = one(recommender, with_rerank(request, None, k=depth))
    others = [key for n, key in enumerate(usual.keys) if n != position - 1]
    taken = {artists[key] for key in others}
    eligible = {key for key in pool.keys if key not in usual.keys and artists[key] not in taken}
    seen, rounds = {}, 3000
    for seed in range(rounds):
        exploration = Exploration(position, probability, seed)
        found = one(recommender, with_rerank(request, Rerank(caps=caps, exploration=exploration)))
        drawn, told = found.keys[position - 1], found.probabilities[position - 1]
        assert [key for n, key in enumerate(found.keys) if n != position - 1] == others
        assert [p for n, p in enumerate(found.probabilities) if n != position - 1] == [1.0] * (k - 1)
        seen.setdefault(drawn, []).append(told)
        if seed > 300 and recommender.baseline is None:
            break  # the law of large numbers is tested once
    assert set(seen) <= eligible | {usual.keys[position - 1]}
    assert {p for key in seen if key in eligible for p in seen[key]} == {probability / len(eligible)}
    assert set(seen[usual.keys[position - 1]]) == {1 - probability}
    if recommender.baseline is not None:
        assert set(seen) == eligible | {usual.keys[position - 1]}
        for told in seen.values():
            spread = np.sqrt(told[0] * (1 - told[0]) / rounds)
            assert len(told) / rounds == pytest.approx(told[0], abs=5 * spread)


def test_a_seed_draws_for_each_query_on_its_own():
    recommender = serve("two towers")
    rerank = Rerank(exploration=Exploration(1, 0.5, seed=3))
    asked = [Request({"user": user}, k=5, rerank=rerank) for user in KNOWN]
    asked += [Request({}, k=5, history=[key], rerank=rerank) for key in recommender.candidates["song"].head(12)]
    found = recommender.answer(asked)
    assert [one.keys for one in found] == [one.keys for one in recommender.answer(asked)]
    for some in (found[: len(KNOWN)], found[len(KNOWN) :]):
        assert len({one.probabilities[0] for one in some}) == 2
    draws = {
        recommender.recommend("u1", 5, rerank=Rerank(exploration=Exploration(1, 0.5)))["song"][0] for _ in range(60)
    }
    assert len(draws) > 2


def test_chance_leaves_lists_alone_that_are_too_short_or_all_there_is(recommender):
    request = Request({"user": "u1"}, k=3, allow=["s1", "s2", "s3"], exclude_seen=False)
    for position in (1, 3):
        found = one(recommender, with_rerank(request, Rerank(exploration=Exploration(position, 1.0))))
        assert (found.keys, found.probabilities) == (one(recommender, request).keys, [1.0] * 3)
    short = with_rerank(request, Rerank(exploration=Exploration(3, 1.0)), allow=["s1"])
    assert one(recommender, short).probabilities == [1.0]


def test_wrong_rules_are_refused():
    for caps in ({"genres": 0}, {"genres": 1.5}, {"genres": True}, ["genres"], {1: 2}):
        with pytest.raises(ConfigError, match="caps"):
            Rerank(caps=caps)
    for diversity in (-0.1, 1.1, float("nan"), "0.3", None, True):
        with pytest.raises(ConfigError, match="diversity"):
            Rerank(diversity=diversity)
    for boosts in (Boost("year > 3", 1), ["year > 3"], 3, None):
        with pytest.raises(ConfigError, match="boosts"):
            Rerank(boosts=boosts)
    for by in (float("inf"), float("nan"), "1", None, True):
        with pytest.raises(ConfigError, match="by of Boost"):
            Boost("year > 3", by)
    with pytest.raises(ConfigError, match="where of Boost"):
        Boost(3, 1)
    for position in (0, -1, 1.0, True, "1"):
        with pytest.raises(ConfigError, match="position"):
            Exploration(position, 0.5)
    for probability in (-0.1, 1.1, float("nan"), "0.3", None):
        with pytest.raises(ConfigError, match="probability"):
            Exploration(1, probability)
    for seed in (-1, 0.5, "a", True):
        with pytest.raises(ConfigError, match="seed"):
            Exploration(1, 0.5, seed)
    with pytest.raises(ConfigError, match="Exploration"):
        Rerank(exploration=0.3)
    with pytest.raises(ConfigError, match="Rerank"):
        Request({"user": "u1"}, rerank={"diversity": 0.3})
    with pytest.raises(ConfigError, match="position in a list of 3"):
        Request({"user": "u1"}, k=3, rerank=Rerank(exploration=Exploration(4, 0.5)))


def test_rules_that_do_not_fit_the_recommender_are_refused_in_their_place(recommender):
    wrong = [
        (Rerank(caps={"gender": 1}), "gender"),
        (Rerank(boosts=[Boost("year > 3", 1), Boost("yeer > 3", 1)]), "boost 1"),
    ]
    if recommender.baseline is not None:
        wrong.append((Rerank(diversity=0.1), "diversity: expected a recommender of models.*ItemKNN"))
    asked = [Request({"user": "u1"}), *(Request({"user": "u1"}, rerank=rerank) for rerank, _ in wrong)]
    found = recommender.answer(asked)
    assert not isinstance(found[0], RetrankError)
    for request, error, (rerank, said) in zip(asked[1:], found[1:], wrong, strict=True):
        assert isinstance(error, ConfigError | DataError)
        for ask in (
            lambda rerank=rerank: recommender.recommend("u1", rerank=rerank),
            lambda rerank=rerank: recommender.recommend_many(["u1"], rerank=rerank),
        ):
            with pytest.raises(type(error), match=said):
                ask()
        with pytest.raises(type(error), match=f"request 0: .*{said}"):
            recommender.recommend_many([request])


def test_what_is_unavailable_stays_away():
    recommender = serve("two towers")
    gone = recommender.candidates.filter(pl.col("year") >= 2000)["song"].to_list()
    served = recommender.with_unavailable(gone)
    for by in (50, -50):
        rerank = Rerank(boosts=[Boost("year >= 2000", by)], caps={"artist": 1}, exploration=Exploration(1, 1.0))
        found = served.answer([Request({"user": user}, k=20, rerank=rerank) for user in KNOWN])
        assert not {key for one_list in found for key in one_list.keys} & set(gone)
