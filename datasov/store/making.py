"""A new store on PostgreSQL, in a schema where none is."""

from __future__ import annotations

import os
from contextlib import closing, suppress

from datasov.errors import StoreError
from datasov.store import tables
from datasov.store.session import Connection, Session
from datasov.store.transfer import Statement
from datasov.store.where import Where

_FOUNDING = 2
"""Appends of a founding: a schema that holds no more, under the same key, was left by one that was cut off."""


def make(where: Where, key: bytes) -> bytes:
    """Make a store's tables, and its schema where that is missing; the store's identity, 16 bytes.

    Raises:
        StoreError: the schema holds a store already, that somebody may need; the role may not; no server answers.
    """
    at, identity = tables.statements(where.schema), os.urandom(16)
    with closing(Session(where, "datasov", 0, lambda _: None)) as session:
        with session.held() as db:
            left = _holds(db, where)
        if left and not _left(session, at, key):
            raise StoreError(
                f"{where} holds a city already, or other tables: name another schema (?schema=NAME); or drop that "
                "one, if you know that nobody needs what it holds"
            )
        with session.held() as db:
            db.execute(tables.BEGIN)
            db.execute(tables.SETTINGS, ("60s",))
            if left:
                db.execute(at("DROP TABLE {at}.store, {at}.entries, {at}.blobs, {at}.heads"))
            elif not db.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (where.schema,)).fetchone():
                db.execute(at("CREATE SCHEMA {at}"))
            db.execute(at(tables.TABLES))
            row = (tables.APPLICATION_ID, tables.VERSION, identity)
            db.execute(at("INSERT INTO {at}.store VALUES (%s, %s, %s, 1)"), row)
            db.execute("COMMIT")
    return identity


def _holds(db: Connection, where: Where) -> bool:
    return bool(
        db.execute(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname IN ('store', 'entries', 'blobs', 'heads')", (where.schema,),
        ).fetchone()
    )  # fmt: skip


def _left(session: Session, at: Statement, key: bytes) -> bool:
    """Whether what is there is a founding under this key with which nothing was done."""
    with suppress(StoreError), session.held() as db:
        query = at("SELECT application, version, (SELECT pg_catalog.max(position) FROM {at}.heads) FROM {at}.store")
        row = db.execute(query)
        application, version, newest = row.fetchone() or (None, None, None)
        if (application, version) == (tables.APPLICATION_ID, tables.VERSION) and (newest or 0) <= _FOUNDING:
            tables.verify(db, at, key)
            return True
    return False
