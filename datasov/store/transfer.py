"""The rows of a store, from PostgreSQL into an SQLite file and back, inside a transaction of the caller's."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from datasov.errors import StoreError
from datasov.store import chain
from datasov.store.sqlite import SQLiteStore

Put = Callable[[Path], None]
"""Lets the store in an SQLite file take the place of another one."""
Statement = Callable[[LiteralString], sql.Composed]
"""A statement in which {at} stands for the schema."""
_PAGE = 256
_TABLES: tuple[tuple[LiteralString, LiteralString, LiteralString, tuple[str, ...]], ...] = (
    ("entries", "stream, seq, body", "stream, seq, body", ("bytea", "int8", "bytea")),
    ("blobs", "name, body", "name, body", ("bytea", "bytea")),
    ("heads", "position, hash, appended", "position, hash, appended, writer", ("int8", "bytea", "bytea", "bytea")),
)


def to_sqlite(db: psycopg.Connection[tuple[Any, ...]], at: Statement, path: Path) -> None:
    """Write a new SQLite file with what the transaction sees; one that is there is replaced.

    Raises:
        StoreError: the disk refuses, or a name is no text.
    """
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    SQLiteStore(path, create=True).close()
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            for table, columns, _, _ in _TABLES:
                with db.cursor("copied", binary=True) as cursor:
                    cursor.itersize = _PAGE
                    cursor.execute(at("SELECT " + columns + " FROM {at}." + table))  # noqa: S608
                    marks = ", ".join("?" for _ in columns.split(","))
                    file.executemany(f"INSERT INTO {table} VALUES ({marks})", _texts(table, cursor))  # noqa: S608
            file.execute("COMMIT")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as fault:
        raise StoreError("the copy of the database cannot be written: check the disk and its free space") from fault
    except UnicodeDecodeError:
        raise chain.changed() from None


def from_sqlite(db: psycopg.Connection[tuple[Any, ...]], at: Statement, path: Path) -> None:
    """Let what an SQLite file holds be all that the schema's tables hold."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file, db.cursor() as cursor:
            db.execute(at("LOCK TABLE {at}.entries, {at}.blobs, {at}.heads IN ACCESS EXCLUSIVE MODE"))
            for table, columns, all_, types in _TABLES:
                db.execute(at("TRUNCATE {at}." + table))
                with cursor.copy(at("COPY {at}." + table + " (" + all_ + ") FROM STDIN (FORMAT BINARY)")) as copy:
                    copy.set_types(types)
                    for row in file.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608
                        copy.write_row(_bytes(table, row))
    except sqlite3.Error as fault:
        raise StoreError("the database cannot be read: check the disk") from fault


def _texts(table: str, rows: Any) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        yield (*row[:2], row[2].decode()) if table == "heads" else (row[0].decode(), *row[1:])


def _bytes(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:2], row[2].encode(), b"") if table == "heads" else (row[0].encode(), *row[1:])
