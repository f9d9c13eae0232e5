"""Conditions in SQL: they mean what SQL means, judged by SQLite, and whatever else comes from strangers is refused."""

import sqlite3
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import retrank as rr
from retrank.core.errors import ConfigError, DataError, RetrankError
from retrank.recommender.condition_parser import ALLOWED
from retrank.recommender.condition_tokens import tokens_of
from retrank.recommender.conditions import condition
from retrank.recommender.rules import _TEXTS, Conditions, condition_text

NUMBERS = [None, -3, 0, 1, 2, 7, 1990, 2000]
PLAIN = pl.DataFrame(
    {
        "a": NUMBERS,
        "b": [2, None, 0, 5, -1, 7, 3, 2000],
        "x": [0.5, -0.25, None, 1e6, 0.0, 7.0, 3.5, None],
        "t": ["abc", None, "", "a_c", "A%c", "abcabc", "xbx", "ab\nc"],
        "u": ["abc", "b", "%", "", None, "ab", "bc", "_"],
    }
)
RICH = pl.DataFrame(
    {
        "day": [date(2020, 1, 1), date(2024, 2, 29), None],
        "at": [datetime(2020, 1, 1, 10), None, datetime(2024, 5, 5)],
        "zoned": [datetime(2020, 1, 1, 10, tzinfo=UTC), None, datetime(2024, 5, 5, tzinfo=UTC)],
        "tags": [["rock", "pop"], None, []],
        "counts": [[1, 2], [3], None],
        "flag": [True, None, False],
        "small": pl.Series([200, 3, None], dtype=pl.UInt8),
        "nan": [float("nan"), 1.0, float("inf")],
        "kind": pl.Series(["x", None, "y"], dtype=pl.Enum(["x", "y"])),
        "category": pl.Series(["x", "y", None], dtype=pl.Categorical),
        "price": pl.Series(["1.50", "2.00", None]).str.to_decimal(scale=2),
        "clock": [time(10), None, time(11)],
        "length": [timedelta(days=1), None, timedelta(0)],
        "pair": pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int64, 2)),
        "record": [{"a": 1}, {"a": 2}, None],
        "bytes": [b"a", b"", None],
        "nothing": [None, None, None],
        "two words": ["x", 'q"q', "It's"],
    }
)
plain, rich = Conditions(PLAIN), Conditions(RICH)


def rows(conditions, text):
    return conditions.mask(condition(text, "where")).nonzero()[:, 0].tolist()


def by_sqlite(text):
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA case_sensitive_like = ON")
    database.execute("CREATE TABLE songs (place INTEGER, a INTEGER, b INTEGER, x REAL, t TEXT, u TEXT)")
    database.executemany(
        "INSERT INTO songs VALUES (?, ?, ?, ?, ?, ?)", [(n, *row) for n, row in enumerate(PLAIN.rows())]
    )
    return [place for (place,) in database.execute(f"SELECT place FROM songs WHERE {text} ORDER BY place")]


def numbers(depth):
    leaf = st.sampled_from(["a", "b", "x", "-3", "0", "1", "2.5", "7", "1990", "1e3", "- a"])
    if not depth:
        return leaf
    inner = numbers(depth - 1)
    return leaf | st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner)


texts = st.sampled_from(["t", "u", "'abc'", "''", "'a'"])
patterns = st.text(alphabet="abc%_A\n", max_size=5).filter(lambda text: text.count("%") + text.count("_") <= 8)
comparisons = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
negations = st.sampled_from(["", "NOT "])


def truths(depth):
    leaf = (
        st.builds("{} {} {}".format, numbers(1), comparisons, numbers(2))
        | st.builds("{} {} {}".format, texts, comparisons, texts)
        | st.builds("{} {}BETWEEN {} AND {}".format, numbers(0), negations, numbers(1), numbers(0))
        | st.builds("{} IS {}NULL".format, st.sampled_from(["a", "b", "x", "t", "u"]), negations)
        | st.builds(
            "{} {}IN ({})".format,
            st.sampled_from(["a", "b", "x"]),
            negations,
            st.lists(st.sampled_from(["0", "1", "-3", "7.0", "2000", "0.5"]), min_size=1, max_size=4).map(", ".join),
        )
        | st.builds("{} {}IN ('abc', 'b', '%')".format, st.sampled_from(["t", "u"]), negations)
        | st.builds("{} {}LIKE '{}'".format, st.sampled_from(["t", "u"]), negations, patterns)
    )
    if not depth:
        return leaf
    inner = truths(depth - 1)
    return (
        leaf
        | st.builds("{} {} {}".format, inner, st.sampled_from(["AND", "OR"]), inner)
        | st.builds("NOT {}".format, inner)
        | st.builds("({})".format, inner)
    )


@settings(max_examples=400)
@given(text=truths(3).filter(lambda text: any(name in text for name in "abxtu")))
@example(text="NOT NOT a IS NULL OR b > 0 AND x < 1")
@example(text="t LIKE 'a%c' AND u LIKE '%' OR t LIKE '_b_'")
def test_conditions_mean_what_sql_means(text):
    try:
        found = rows(plain, text)
    except DataError as refused:
        error = str(refused)
    else:
        assert found == by_sqlite(text)
        return
    assert "rows of" in error  # no column is named in it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("day >= DATE '2020-01-02'", [1]),
        ("day IN (DATE '2020-01-01', DATE '2024-02-29')", [0, 1]),
        ("at < TIMESTAMP '2020-01-01 10:00:01'", [0]),
        ("zoned = TIMESTAMP '2020-01-01T12:00:00+02:00'", [0]),
        ("array_contains(tags, 'pop')", [0]),
        ("NOT ARRAY_CONTAINS(tags, 'pop')", [2]),
        ("array_contains(counts, 3) OR array_length(tags) = 0", [1, 2]),
        ("flag", [0]),
        ("NOT flag", [2]),
        ("flag = TRUE OR flag = FALSE", [0, 2]),
        ("small - 250 < 0", [0, 1]),  # no integer wraps around
        ("small * 200 = 40000", [0]),
        ("small > -1 AND small < 70000", [0, 1]),
        ("nan > 0", [1, 2]),  # NaN is unknown
        ("NOT nan > 0", []),
        ("nan IS NULL", [0]),
        ("nan - nan >= 0", [1]),  # and what is computed and has no value, too
        ("1 / (small - 3) > 0", [0]),
        ("small % 0 = 0 OR small / 0 > 0", []),
        ("kind = 'x' OR category = 'y'", [0, 1]),
        ("kind IN ('x', 'z')", [0]),
        ("price = 1.5 OR price IN (2)", [0, 1]),
        ("price > 1.75", [1]),
        ("\"two words\" = 'It''s'", [2]),
        ('"two words" LIKE \'%"%\'', [1]),
        ('LENGTH("two words") = 1 AND upper("two words") = \'X\'', [0]),
        ("lower(\"two words\") ilike 'IT_S'", [2]),
        ("starts_with(\"two words\", 'It') OR ends_with(\"two words\", 'x')", [0, 2]),
        ("abs(-small) = 3 and round(nan) = 1 and floor(nan) = ceil(nan)", [1]),
        ("nothing IS NULL", [0, 1, 2]),
        ("nothing > 1 OR nothing IN (1)", []),
        ("+ - - small = 3", [1]),
        ("small = 9223372036854775807", []),
    ],
)
def test_what_tables_hold_beside_numbers_and_text(text, expected):
    assert rows(rich, text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("year >", "at character 7: the end, where a column or a value is expected"),
        ("", "at character 1: the end"),
        ("a b", "'b' is not expected here"),
        ("a = 1; DROP TABLE songs", "unexpected ';'"),
        ("SELECT 1", "'1' is not expected"),
        ("a IN (SELECT b FROM songs)", "IN takes a list of values"),
        ("songs.a = 1", "unexpected '.'"),
        ("* = 1", "'*', where a column"),
        ('"*" = 1', "no name of a column"),
        ('"^a.*$" = 1', "no name of a column"),
        ('"" = 1', "no name of a column"),
        ("a ~ 'x'", "unexpected '~'"),
        ("REGEXP_LIKE(t, '(a+)+$')", "no function 'REGEXP_LIKE'"),
        ("CAST(a AS TEXT) = '1'", "no function 'CAST'"),
        ("REPEAT(t, 1000000000) = 'a'", "no function 'REPEAT'"),
        ("t || t = 'a'", "unexpected '|'"),
        ("t LIKE u", "'pattern' in quotes"),
        ("t LIKE '%_%_%_%_%'", "more than 8 of % and _"),
        ("STARTS_WITH(t, u)", "takes a text as it is written"),
        ("ARRAY_CONTAINS(tags, kind)", "takes a constant as it is written"),
        ("ABS(a, b) = 1", "ABS takes 1 arguments, not 2"),
        ("ABS() = 1", "')', where a column"),
        ("a IN ()", "')', where a column"),
        ("a IN (1, 'x')", "several kinds"),
        ("a IN (1, NULL)", "say IS NULL"),
        ("a BETWEEN 1", "where AND is expected"),
        ("1 < a < 3", "'<' is not expected"),
        ("(a > 1) + 1 = 2", "no value to compute with"),
        ("3 AND a = 1", "compare it with something"),
        ("'abc'", "compare it with something"),
        ("a = 1 AND 'x'", "compare it with something"),
        ("t = 'abc", "quotes that do not end"),
        ("a = 99999999999999999999", "more than 64 bits"),
        ("a = 1e999", "too large"),
        ("a > DATE '2020-13-01'", "no DATE in ISO 8601"),
        ("a > TIMESTAMP 'now'", "no TIMESTAMP in ISO 8601"),
        ("t = '\ud800'", "half of a character"),
        ("a = 1\x00", "unexpected '\\x00'"),
        ("(" * 31 + "a = 1" + ")" * 31, "more than 30 parentheses"),
        ("ABS(" * 31 + "a" + ")" * 31 + " = 1", "more than 30 parentheses"),
        ("a = 1" + " OR a = 1" * 60, "more than 100 comparisons"),
        ("NOT " * 400 + "a = 1", "more than 100 comparisons"),
        ("a" + " + a" * 200 + " = 1", "more than 100 comparisons"),
        ("a IN (" + "1," * 600 + "1)", "at most 500 values"),
        ("(" * 10_000 + "a = 1" + ")" * 10_000, "at most 2,000 characters, got 20,005"),
        ("NOT " * 10_000 + "a = 1", "at most 2,000 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_place_and_what_is_allowed(text, says):
    with pytest.raises(ConfigError) as refused:
        condition(text, "where")
    assert says in str(refused.value)
    assert len(str(refused.value)) < 1000
    if len(text) <= 2_000:
        assert ALLOWED in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["yeer = 1", "a = 'x'", "t > 1", "t", "a", "NOT a", "(NOT a) = 1", "NOT t", "a AND b = 1", "(a OR b) = 1",
     "t + 1 = 2", "LOWER(a) = 'x'", "LENGTH(a) = 1", "ABS(t) = 1", "ARRAY_CONTAINS(t, 'x')", "a LIKE '1%'",
     "a IN ('x')", "t IN (1)", "TRUE", "1 = 1", "NULL", "t > DATE '2020-01-01'"],
)  # fmt: skip
def test_values_of_another_type_are_refused_by_the_table(text):
    with pytest.raises(DataError, match="where: expected"):
        rows(plain, text)


@pytest.mark.parametrize(
    "text", ["day + 1 > 0", "day > 'x'", "tags = 1", "record > record", "bytes > 1", "length + 1 > 0",
             "pair = 1", "array_contains(counts, 1.5)", "array_contains(pair, 1)", "day = TRUE AND tags = 'x'"]
)  # fmt: skip
def test_values_of_rich_types_are_refused_by_the_table(text):
    with pytest.raises(DataError, match="where: expected"):
        rows(rich, text)


WORDS = st.sampled_from(
    ["a", "b", "x", "t", "u", "yeer", "1", "0", "2.5", "-", "+", "*", "/", "%", "(", ")", "(", ")", ",", "=", "<>", "<",
     ">=", "AND", "OR", "NOT", "NOT", "IN", "BETWEEN", "IS", "NULL", "LIKE", "ILIKE", "TRUE", "FALSE", "DATE",
     "TIMESTAMP", "'abc'", "'%a_'", "'2020-01-01'", '"a"', '"^a$"', "ABS", "LOWER", "LENGTH", "ARRAY_CONTAINS",
     "ROUND", "SELECT", "''",
     "day", "at", "tags", "counts", "flag", "small", "nan", "kind", "category", "price", "clock", "length", "pair",
     "record", "bytes", "nothing", "1e308", "9223372036854775807", ";", "--", "\\", "é", "名", "\x00", "'"]
)  # fmt: skip
EVERYTHING = Conditions(pl.concat([PLAIN.head(3), RICH], how="horizontal"))


def ours_or_a_mask(text):
    try:
        mask = EVERYTHING.mask(condition(text, "where"))
    except (ConfigError, DataError):
        return
    assert mask.shape == (3,)


@settings(max_examples=1500)
@given(words=st.lists(WORDS, max_size=25))
def test_any_soup_of_words_is_refused_or_a_condition(words):
    ours_or_a_mask(" ".join(words))


@settings(max_examples=300)
@given(text=st.text(max_size=200))
def test_any_text_is_refused_or_a_condition(text):
    ours_or_a_mask(text)


values = st.sampled_from(
    ["a", "x", "t", *RICH.columns[:-1], "1", "2.5", "'x'", "TRUE", "NULL", "DATE '2020-01-01'",
     "TIMESTAMP '2020-01-01 10:00:00'", "TIMESTAMP '2020-01-01T10:00:00Z'", "-9223372036854775807"]
)  # fmt: skip
functions = st.sampled_from(
    ["ABS({})", "LOWER({})", "LENGTH({})", "ROUND({})", "ARRAY_LENGTH({})", "- {}", "({} + 1)", "{}"]
)


@settings(max_examples=1500)
@given(
    left=st.builds(lambda form, value: form.format(value), functions, values),
    right=st.builds(lambda form, value: form.format(value), functions, values),
    form=st.sampled_from(
        ["{} = {}", "{} < {}", "{} IN ({})", "{} BETWEEN {} AND {}", "{} + {} > 1", "{} % {} > 1", "{} AND {}",
         "ARRAY_CONTAINS({}, {})", "{} IS NULL", "NOT {}", "{} LIKE 'a%'", "{} / {} = 1", "STARTS_WITH({}, 'x')"]
    ),
)  # fmt: skip
def test_any_types_meet_in_a_refusal_or_a_condition(left, right, form):
    ours_or_a_mask(form.format(left, right, right))


def test_a_million_conditions_take_bounded_memory():
    table = Conditions(pl.DataFrame({"year": list(range(1000))}))
    for number in range(2_000):  # texts are kept as digests, whatever their length
        table.mask(condition(f"year IN ({', '.join(map(str, range(number, number + 100)))})", "where"))
    assert all(len(key) == 32 for key in table._all_masks._masks)
    assert len(_TEXTS) <= 1024
    for number in range(40_000):
        table._all_masks.keep(str(number).encode(), pl.Series([True]).to_numpy())
    kept = len(table._all_masks)
    assert kept * 1025 <= 2**26


def test_conditions_are_told_apart_whatever_object_they_are():
    texts = {}
    for number in range(3_000):  # more than are remembered, and objects whose memory is used again
        texts[condition_text(pl.col("year") > number)] = number
        assert condition_text(pl.col("year") > number % 7) == condition_text(pl.col("year") > number % 7)
    assert len(texts) == 3_000
    text = "year > 5"
    assert condition(text, "where") is condition(text, "here")
    assert condition_text(condition(text, "where")) == condition_text(pl.col("year") > 5)


def test_a_request_keeps_the_condition_that_it_was_given():
    text = rr.recommender.Request({"user": 1}, where="year >= 1990")
    assert text.where.meta.eq(pl.col("year") >= 1990)
    assert isinstance(rr.recommender.Request({"user": 1}, where=pl.col("year").log() > 1).where, pl.Expr)
    with pytest.raises(RetrankError, match=r"where: .*no function 'LOG'"):
        rr.recommender.Request({"user": 1}, where="LOG(year) > 1")


def test_words_are_cut_in_one_pass():
    assert [token.text for token in tokens_of("a<=.5AND'x'''")] == ["a", "<=", ".5", "AND", "x'", ""]
    for text in ("1" * 2000, "a" * 2000, " " * 2000, "'" * 2000):
        assert len(tokens_of(text)) <= 2
    for text in ("'" + "a" * 1999, '"' * 1999):
        with pytest.raises(ValueError, match="do not end"):
            tokens_of(text)
