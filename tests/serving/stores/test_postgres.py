"""What only a store in PostgreSQL does."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from tests.serving.stores.values import event, impression, items

from retrank.core.errors import ConfigError, StorageError, StoreUnavailableError
from retrank.serving.stores import Document, open_store
from retrank.serving.stores.postgres import PostgresStore


def with_options(url, *settings):
    return url + "&options=" + quote(" ".join(f"-c {setting}" for setting in settings))


def test_events_wait_for_the_disk_and_impressions_do_not(postgres):
    postgres.ask("create schema retrank")
    postgres.ask("create table public.seen (what text, synchronous text)")
    try:
        with open_store(with_options(postgres.url, "synchronous_commit=off")) as store:
            postgres.ask(
                "create function public.note() returns trigger language plpgsql as $$ begin "
                "insert into public.seen values (tg_table_name, current_setting('synchronous_commit')); "
                "return null; end $$"
            )
            for table in ("events", "documents", "impressions"):
                postgres.ask(
                    f"create trigger note after insert on retrank.{table} "
                    "for each statement execute function public.note()"
                )
            store.append_events([event(1)])
            store.log_impressions([impression(1)])
            store.put([Document("query", 1, b"")])
        assert postgres.ask("select * from public.seen") == [
            ("events", "on"),
            ("impressions", "off"),
            ("documents", "on"),
        ]
    finally:
        postgres.clear()
        postgres.ask("drop table public.seen; drop function public.note")


def test_the_isolation_that_a_database_is_set_to_does_not_matter(postgres):
    url = with_options(postgres.url, "default_transaction_isolation=serializable")
    with open_store(url) as one, open_store(url) as other:
        for n in range(20):
            assert one.append_events([event(n)]) == [True]
            assert other.append_events([event(n), event(-n - 1)]) == [False, True]


def test_a_server_to_read_from_is_not_written_to(postgres):
    open_store(postgres.url).close()
    with open_store(with_options(postgres.url, "default_transaction_read_only=on")) as store:
        assert store.position() == 0
        with pytest.raises(StoreUnavailableError, match="read-only"):
            store.append_events([event(1)])
        with pytest.raises(StoreUnavailableError, match="one to read from"):
            store.check()


def test_a_writer_that_never_ends_is_waited_for_no_longer_than_allowed(postgres):
    psycopg = pytest.importorskip("psycopg")
    with PostgresStore(postgres.url, timeout=0.3) as store, psycopg.connect(postgres.url) as other:
        other.execute("select * from retrank.positions for update")
        with pytest.raises(StoreUnavailableError, match="timeout"):
            store.append_events([event(1)])
        assert store.position() == 0, "readers do not wait"
        other.rollback()
        assert store.append_events([event(1)]) == [True]


@pytest.mark.parametrize("what", ["events", "documents", "impressions"])
def test_nothing_overtakes_what_is_not_committed_yet(postgres, what):
    psycopg = pytest.importorskip("psycopg")
    function, values, write, read = {
        "events": (
            "append_events(%s, array['1'], array['7'], array['\"a\"'], array['click'], array[0]::bigint[],"
            "array[null]::float8[], array[null]::text[])",
            [event(1), event(2)],
            lambda store, value: store.append_events([value]),
            lambda store: items(store),
        ),
        "documents": (
            "put(%s, array['query'], array['1'], array['x']::bytea[])",
            [Document("query", 1, b"x"), Document("query", 2, b"y")],
            lambda store, value: store.put([value]),
            lambda store: items(store),
        ),
        "impressions": (
            "log_impressions(%s, array['1'], array['7'], array[0]::bigint[], array['[]'], array['']::bytea[],"
            "array['']::bytea[], array['v1'])",
            [impression(1, keys=()), impression(2)],
            lambda store, value: store.log_impressions([value]),
            lambda store: [value for _, value in store.impressions()],
        ),
    }[what]
    with (
        PostgresStore(postgres.url, timeout=30) as store,
        psycopg.connect(postgres.url) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute(f"select retrank.{function}", (store.identity(),))
        second = pool.submit(write, store, values[1])
        while not postgres.ask("select 1 from pg_stat_activity where wait_event_type = 'Lock'"):
            assert not second.done(), "it has a later position, and is visible before the earlier one"
        assert read(store) == []
        other.commit()
        second.result()
        assert read(store) == values


def test_a_database_in_another_encoding_is_refused(postgres):
    postgres.ask("create database latin encoding 'LATIN1' template template0")
    try:
        with pytest.raises(ConfigError, match="UTF8"):
            open_store(postgres.url.replace("/postgres?", "/latin?"))
    finally:
        postgres.ask("drop database latin")


def test_another_version_or_another_schema_is_refused(postgres):
    open_store(postgres.url).close()
    postgres.ask("update retrank.store set version = 999")
    with pytest.raises(StorageError, match="version 999"):
        open_store(postgres.url)
    postgres.ask("drop table retrank.events; update retrank.store set version = 1")
    with open_store(postgres.url) as store:
        with pytest.raises(StorageError, match="retrank.events") as caught:
            store.append_events([event(1)])
        assert "select" not in str(caught.value), "no statements in messages"
        with pytest.raises(StorageError, match="retrank.events"):
            store.changes(0)


def test_who_may_not_make_a_schema_may_use_one_that_is_there(postgres):
    postgres.ask("create role guest login")
    url = postgres.url.replace("postgres@", "guest@")
    try:
        with pytest.raises(StorageError, match="permission denied"):
            open_store(url)
        with open_store(postgres.url) as store:
            store.append_events([event(1)])
        postgres.ask(
            "grant usage on schema retrank to guest;"
            "grant select, insert, update, delete on all tables in schema retrank to guest"
        )
        with open_store(url) as store:
            assert store.append_events([event(1), event(2)]) == [False, True]
            assert items(store) == [event(1), event(2)]
    finally:
        postgres.clear()
        postgres.ask("drop role guest")


def test_the_tables_can_be_read_with_sql(postgres):
    with open_store(postgres.url) as store:
        store.append_events([event(1, query="ü", candidate=True), event(2, query=7)])
    assert postgres.ask("select id, query, candidate from retrank.events order by position") == [
        ("1", '"ü"', "true"),
        ("2", "7", '"a"'),
    ]


def test_a_url_that_is_none_is_refused():
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="URL"):
        open_store("postgresql://host/database?colour=blue")
