"""The tables of a store on PostgreSQL, and the reading of all of them. docs/spec/postgres.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import LiteralString

import psycopg
from psycopg import sql

from datasov.store import chain
from datasov.store.session import Connection
from datasov.store.transfer import Statement

TABLES = """
CREATE TABLE {at}.store (application bigint NOT NULL, version bigint NOT NULL, id bytea NOT NULL,
    generation bigint NOT NULL, one boolean PRIMARY KEY DEFAULT true CHECK (one));
CREATE TABLE {at}.entries (stream bytea NOT NULL, seq bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (stream, seq));
CREATE TABLE {at}.blobs (name bytea NOT NULL PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE {at}.heads (position bigint NOT NULL PRIMARY KEY, hash bytea NOT NULL, appended bytea NOT NULL,
    writer bytea NOT NULL);
ALTER TABLE {at}.entries ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE {at}.blobs ALTER COLUMN body SET STORAGE EXTERNAL;
"""
APPLICATION_ID = 0x64736F76  # "dsov"
VERSION = 1
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
SETTINGS = """
SELECT pg_catalog.set_config('synchronous_commit',
        CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'remote_apply'
            THEN 'remote_apply' ELSE 'on' END, true),
    pg_catalog.set_config('lock_timeout', '60s', true), pg_catalog.set_config('statement_timeout', '0', true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', %s, true)
"""
"""For one transaction, whatever the server's defaults are; the last is how long it may stand still."""
_PAGE = 64


def statements(schema: str) -> Statement:
    """What makes a statement of a text in which {at} stands for the schema."""

    def statement(text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(at=sql.Identifier(schema))

    return statement


def still(db: Connection, at: Statement) -> None:
    """Begin to read what stands at one moment: before another store took this one's place, or after it."""
    db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    db.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    db.execute("SET LOCAL lock_timeout = '60s'")
    db.execute(at("LOCK TABLE {at}.entries, {at}.blobs, {at}.heads IN ACCESS SHARE MODE"))


def verify(db: Connection, at: Statement, key: bytes) -> None:
    """Follow the chain over all that is there; StoreError where something is not what was appended under this key."""
    still(db, at)
    try:
        streams, blobs = _followed(db, at, key)
        query = at("SELECT stream, pg_catalog.count(*), pg_catalog.max(seq) + 1 FROM {at}.entries GROUP BY stream")
        held = {(s.decode(), many, last) for s, many, last in db.execute(query, binary=True)}
        stored = dict[str, str]()
        with db.cursor("blobs", binary=True) as cursor:
            cursor.itersize = _PAGE
            for name, body in cursor.execute(at("SELECT name, body FROM {at}.blobs")):
                stored[name.decode()] = hashlib.sha256(body).hexdigest()
    except (ValueError, TypeError, LookupError, psycopg.DataError):
        raise chain.changed() from None
    if held != streams or stored != blobs:
        raise chain.changed()
    db.execute("COMMIT")


def _followed(db: Connection, at: Statement, key: bytes) -> tuple[set[tuple[str, int, int]], dict[str, str]]:
    found: dict[tuple[str, int, int], list[bytes]] = {}

    def heads() -> Iterator[tuple[int, bytes, str]]:
        with db.cursor("heads", binary=True) as cursor:
            cursor.execute(at("SELECT position, hash, appended FROM {at}.heads ORDER BY position"))
            while page := [(p, h, a.decode()) for p, h, a in cursor.fetchmany(_PAGE)]:
                found.clear()
                found.update(
                    _ranges(db, at, [(s, first, many) for _, _, a in page for s, first, many in json.loads(a)[0]])
                )
                yield from page

    return chain.follow(key, heads(), lambda stream, first, many: found[stream, first, many])


def _ranges(
    db: Connection, at: Statement, named: list[tuple[str, int, int]]
) -> Mapping[tuple[str, int, int], list[bytes]]:
    """The bodies of ranges of streams, in one trip. The parser knows `unnest` of several arrays itself."""
    found: dict[tuple[str, int, int], list[bytes]] = {key: [] for key in named}
    asked = [key for key in found if key[2]]
    rows = db.execute(
        at(
            "SELECT r.n, e.body FROM unnest(%s::bytea[], %s::bigint[], %s::bigint[]) WITH ORDINALITY "
            "AS r (stream, first, many, n) JOIN {at}.entries e ON e.stream = r.stream AND e.seq >= r.first "
            "AND e.seq < r.first + r.many ORDER BY r.n, e.seq"
        ),
        ([s.encode() for s, _, _ in asked], [first for _, first, _ in asked], [many for _, _, many in asked]),
        binary=True,
    )  # fmt: skip
    for number, body in rows:
        found[asked[number - 1]].append(body)
    return found
