"""Streams and blobs in one SQLite file.

A stream is a numbered list of byte strings. `append` adds to several streams in one durable transaction, and only if
each still has the length that the caller last saw. Every append extends a chain of HMAC-SHA-256 values under a key that
is not in the file: `verify` finds whatever somebody without the key changed, added or took away, and one
(position, hash) pair kept elsewhere tells of a copy that lies behind, or went another way.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from datasov.errors import ConflictError, StoreError
from datasov.store import chain
from datasov.store.chain import Batch, Blobs

_SCHEMA = """
CREATE TABLE entries (stream TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (stream, seq))
    WITHOUT ROWID;
CREATE TABLE blobs (name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE heads (position INTEGER NOT NULL PRIMARY KEY, hash BLOB NOT NULL, appended TEXT NOT NULL);
"""
_APPLICATION_ID = 0x64736F76  # "dsov"
_VERSION = 1


class SQLiteStore:
    """One SQLite file, used by any number of threads and processes.

    Args:
        key: of the chain; whoever opens the file again gives the same.

    Raises:
        StoreError: the file is missing, is not such a file, or the disk or a lock failed. Nothing is half-written.
    """

    def __init__(self, path: Path, *, create: bool = False, key: bytes = b"") -> None:
        self._lock, self._key = threading.RLock(), key
        if not create and not path.is_file():
            raise StoreError(f"{path.name} is missing: restore it from a backup")
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            if create:
                self._db.executescript(
                    f"PRAGMA journal_mode=WAL; PRAGMA application_id={_APPLICATION_ID};"
                    f"PRAGMA user_version={_VERSION}; BEGIN IMMEDIATE; {_SCHEMA} COMMIT;"
                )
            if self._db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise StoreError(f"{path.name} is not a datasov store: name another file")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise StoreError(f"{path.name} was written by another version of datasov: update datasov")
            ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")  # a blob that is deleted is overwritten
        except sqlite3.Error as fault:
            raise StoreError(f"{path.name} cannot be used as a datasov store: check the file and the disk") from fault

    @classmethod
    def alone(cls, path: Path, key: bytes) -> Self:
        """Open a store for this one connection: nobody else has it open, or can open it, until it is closed.

        The write-ahead log is folded into the file and gone, so that another file may take this one's place.

        Raises:
            StoreError: somebody else has it open.
        """
        store = cls(path, key=key)
        try:
            store._db.execute("PRAGMA busy_timeout=1000")
            store._db.execute("PRAGMA locking_mode=NORMAL")
            store._db.execute("PRAGMA journal_mode=DELETE")
            store._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            store._db.execute("BEGIN EXCLUSIVE")
            store._db.execute("COMMIT")
        except sqlite3.Error:
            store.close()
            raise StoreError("another process has the city open: close it everywhere, then try again") from None
        return store

    def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
        """The bodies of a stream from index `after` on, at most `limit` of them (all where negative)."""
        with self._lock, _store_errors():
            rows = self._db.execute(
                "SELECT body FROM entries WHERE stream = ? AND seq >= ? ORDER BY seq LIMIT ?", (stream, after, limit)
            )
            return [body for (body,) in rows]

    def append(self, batch: Batch, blobs: Blobs | None = None) -> None:
        """Append to several streams and write (or with None delete) blobs, all or nothing, durably.

        Raises:
            ConflictError: a stream has another length than expected: read again.
        """
        with self._lock, _store_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._append(batch, blobs or {})
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _append(self, batch: Batch, blobs: Blobs) -> None:
        position, last = self._head()
        appended, value = chain.extended(self._key, last, batch, blobs)
        for stream, (expected, bodies) in batch.items():
            if self._length(stream) != expected:
                raise ConflictError(f"stream {stream} moved on: read it again")
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)", [(stream, expected + i, b) for i, b in enumerate(bodies)]
            )
        for name, blob in blobs.items():
            self._db.execute("DELETE FROM blobs WHERE name = ?", (name,))
            if blob is not None:
                self._db.execute("INSERT INTO blobs VALUES (?, ?)", (name, blob))
        self._db.execute("INSERT INTO heads VALUES (?, ?, ?)", (position + 1, value, appended))

    def verify(self) -> None:
        """Read everything and follow the chain from its start.

        Raises:
            StoreError: an entry, a blob or the chain itself is not what was appended under this key.
        """
        with self._lock, _store_errors():
            self._db.execute("BEGIN")
            try:
                self._verify()
            except (ValueError, TypeError, LookupError):
                raise chain.changed() from None
            finally:
                self._db.execute("COMMIT")

    def _verify(self) -> None:
        heads = self._db.execute("SELECT position, hash, appended FROM heads ORDER BY position")
        streams, blobs = chain.follow(self._key, heads, self.read)
        held = set(self._db.execute("SELECT stream, count(*), max(seq) + 1 FROM entries GROUP BY stream"))
        stored = {name: hashlib.sha256(body).hexdigest() for name, body in self._db.execute("SELECT * FROM blobs")}
        if held != streams or stored != blobs:
            raise chain.changed()

    def blob(self, name: str) -> bytes:
        """A blob's bytes; StoreError where there is none."""
        with self._lock, _store_errors():
            row = self._db.execute("SELECT body FROM blobs WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise chain.no_blob()
        return bytes(row[0])

    def streams(self, prefix: str) -> list[str]:
        """The names of all streams that begin so, and hold anything."""
        with self._lock, _store_errors():
            found = self._db.execute(
                "SELECT DISTINCT stream FROM entries WHERE substr(stream, 1, ?) = ?", (len(prefix), prefix)
            )
            return sorted(name for (name,) in found)

    def blobs(self) -> list[str]:
        """The names of all blobs."""
        with self._lock, _store_errors():
            return [name for (name,) in self._db.execute("SELECT name FROM blobs ORDER BY name")]

    def appends(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """Position and record of every append since position `after`: what streams and blobs it named."""
        with _store_errors():
            yield from self._db.execute("SELECT position, appended FROM heads WHERE position > ? ORDER BY position",
                                        (after,))  # fmt: skip

    def length(self, stream: str) -> int:
        """How many bodies a stream holds."""
        with self._lock, _store_errors():
            return self._length(stream)

    def _length(self, stream: str) -> int:
        row = self._db.execute("SELECT max(seq) FROM entries WHERE stream = ?", (stream,)).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def wipe(self) -> None:
        """Leave nothing of deleted blobs in the write-ahead log: fold it into the file, and cut it to no length.

        In the file they are overwritten with zeros when they are deleted. Where another process reads just now, its
        part of the log stays until the next time.
        """
        with self._lock, _store_errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def head(self, position: int | None = None) -> tuple[int, bytes]:
        """The newest (position, hash) of the chain, or the one at `position`; StoreError where there is none."""
        with self._lock, _store_errors():
            return self._head(position)

    def _head(self, position: int | None = None) -> tuple[int, bytes]:
        if position is None:
            row = self._db.execute("SELECT position, hash FROM heads ORDER BY position DESC LIMIT 1").fetchone()
            return (0, bytes(32)) if row is None else (int(row[0]), bytes(row[1]))
        if position == 0:
            return 0, bytes(32)
        row = self._db.execute("SELECT position, hash FROM heads WHERE position = ?", (position,)).fetchone()
        if row is None:
            raise chain.behind()
        return int(row[0]), bytes(row[1])

    def copy(self, path: Path) -> None:
        """A copy of the file as it stands at one moment, while others go on writing (SQLite's online backup)."""
        with self._lock, _store_errors():
            target = sqlite3.connect(path, isolation_level=None)
            try:
                self._db.backup(target)
            finally:
                target.close()

    def close(self) -> None:
        """Close the file; using the store afterwards is a StoreError."""
        with self._lock:
            self._db.close()


def ahead(db: sqlite3.Connection) -> None:
    """Let a file write ahead again after :meth:`SQLiteStore.alone`, or as soon as nobody else is at it."""
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("PRAGMA busy_timeout=100")
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA busy_timeout=60000")


class _store_errors:  # noqa: N801
    """Turn SQLite's errors into StoreError."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(fault, sqlite3.Error):
            raise StoreError("the city's database failed: check the disk and its free space, then try again") from fault
