"""What a store in PostgreSQL is made of: tables, and functions that write in one round trip."""

from typing import Final

__all__ = ["CHANGES", "IS_THERE", "POSITION", "SCHEMA", "SESSION", "VERSION"]

VERSION: Final = 1

# Keys are JSON, so that 7, "7" and true stay apart. What must be unique is so by its digest, for an index has no room
# for long text. Whoever writes holds the row of its position until it has committed: so positions become visible in
# their order, which those of a sequence would not.
SCHEMA: Final = """
create schema if not exists retrank;
create function retrank.digest(value text) returns bytea
    language sql immutable strict parallel safe
    as $$ select sha256(convert_to(value, 'UTF8')) $$;

create table retrank.store (identity text not null, version integer not null);
create table retrank.positions (name text primary key, position bigint not null) with (fillfactor = 50);
insert into retrank.positions values ('changes', 0), ('impressions', 0);

create table retrank.events (
    position bigint primary key, id text not null, query text not null, candidate text not null, type text not null,
    time bigint not null, value double precision, list_id text
);
create unique index events_id on retrank.events (retrank.digest(id));
create table retrank.documents (
    position bigint primary key, kind text not null, key text not null, content bytea
);
create unique index documents_key on retrank.documents (kind, retrank.digest(key));
create table retrank.impressions (
    position bigint primary key, list_id text not null, query text, time bigint not null, keys text not null,
    scores bytea not null, probabilities bytea not null, bundle text not null
);

-- A store in the place of the one that was opened, e.g. an older one after a restore, is not written to.
create function retrank.recognise(expected text) returns void language plpgsql as $$
begin
    if not exists (select from retrank.store s where s.identity = expected) then
        raise exception 'another store than %', expected;
    end if;
end $$;

create function retrank.append_events(
    expected text,
    ids text[], queries text[], candidates text[], types text[], times bigint[], numbers double precision[],
    list_ids text[]
) returns setof bigint language plpgsql as $$
declare last bigint;
begin
    perform retrank.recognise(expected);
    select p.position into strict last from retrank.positions p where p.name = 'changes' for update;
    return query insert into retrank.events as e
        select last + t.n, t.a, t.b, t.c, t.d, t.e, t.f, t.g
        from unnest(ids, queries, candidates, types, times, numbers, list_ids) with ordinality
            as t(a, b, c, d, e, f, g, n)
        order by t.n
        on conflict (retrank.digest(id)) do nothing
        returning e.position - last;
    if found then
        update retrank.positions p set position = (select max(e.position) from retrank.events e)
            where p.name = 'changes';
    end if;
end $$;

create function retrank.put(expected text, kinds text[], keys text[], contents bytea[])
returns void language plpgsql as $$
declare last bigint; n integer;
begin
    perform retrank.recognise(expected);
    select p.position into strict last from retrank.positions p where p.name = 'changes' for update;
    for n in 1 .. cardinality(kinds) loop
        insert into retrank.documents as d values (last + n, kinds[n], keys[n], contents[n])
        on conflict (kind, retrank.digest(key)) do update set position = excluded.position, content = excluded.content;
    end loop;
    update retrank.positions p set position = last + cardinality(kinds) where p.name = 'changes';
end $$;

create function retrank.log_impressions(
    expected text,
    list_ids text[], queries text[], times bigint[], keys text[], scores bytea[], probabilities bytea[], bundles text[]
) returns void language plpgsql as $$
declare last bigint;
begin
    perform retrank.recognise(expected);
    perform set_config('synchronous_commit', 'off', true);  -- of this transaction
    update retrank.positions p set position = p.position + cardinality(list_ids) where p.name = 'impressions'
        returning p.position - cardinality(list_ids) into strict last;
    insert into retrank.impressions
        select last + t.n, t.a, t.b, t.c, t.d, t.e, t.f, t.g
        from unnest(list_ids, queries, times, keys, scores, probabilities, bundles) with ordinality
            as t(a, b, c, d, e, f, g, n);
end $$;
"""

# Read from the catalogue: to_regclass may answer from a cache that is older than the lock under which it is asked.
IS_THERE: Final = "select exists (select from pg_tables where schemaname = 'retrank' and tablename = 'store')"

SESSION: Final = """
select set_config('statement_timeout', %(milliseconds)s, false),
    set_config('idle_in_transaction_session_timeout', %(milliseconds)s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on'
        else current_setting('synchronous_commit') end, false),
    current_setting('server_encoding')
"""

POSITION: Final = """
select p.position, s.identity from retrank.positions p cross join retrank.store s where p.name = 'changes'
"""

CHANGES: Final = """
(select position, id, query, candidate, type, time, value, list_id, null::bytea from retrank.events
    where position > %(after)s order by position limit %(limit)s)
union all
(select position, null, kind, key, null, null, null, null, content from retrank.documents
    where position > %(after)s order by position limit %(limit)s)
order by position limit %(limit)s
"""
