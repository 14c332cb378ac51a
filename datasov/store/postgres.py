"""Streams and blobs in a schema of a PostgreSQL database: what :mod:`datasov.store.sqlite` is, for many machines.

Appends are one after another: each holds the one row of the table `store` from its beginning to its commit, so that
what it compares is what it extends. A commit whose answer was lost is looked for, under the same lock, by a random
number that the append left beside its place in the chain: it is neither done twice, nor taken for lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

from datasov.errors import ConflictError, StoreError
from datasov.store import chain, making, tables, transfer
from datasov.store.chain import Batch, Blobs
from datasov.store.session import PATIENCE, Connection, Session
from datasov.store.where import Where

_IDLE = "20s"
"""For so long may an append stand still before the server ends it: one whose client is gone holds up nobody longer."""


class PostgresStore:
    """One schema, used by any number of threads, processes and machines.

    Args:
        create: make the tables. The schema may be there already; a store may not.
        key: of the chain; whoever opens the store again gives the same.
        identity: the store's 16 bytes, where they are known: another store is refused.
        patience: seconds for which a use waits for a server that went away.

    Raises:
        StoreError: no such store is there, the server does not answer, or it is set to lose what it confirms.
    """

    def __init__(
        self, where: Where, *, create: bool = False, key: bytes = b"", identity: bytes | None = None,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self.where, self._key, self._q, self._seen = where, key, tables.statements(where.schema), (0, bytes(32))
        self._known, self._generation = identity, 0
        if create:
            self._known = making.make(where, key)
        self._session = Session(where, "datasov", patience, self._check)

    def _check(self, db: Connection) -> None:
        """Raise StoreError unless a fresh connection leads to this store, with all that it ever confirmed."""
        row = db.execute(
            self._q("SELECT application, version, id, generation, pg_catalog.current_setting('fsync') FROM {at}.store")
        ).fetchone()
        if row is None or row[0] != tables.APPLICATION_ID:
            raise StoreError(f"no city's store is in {self.where}: name the right one, or restore it there")
        if row[1] != tables.VERSION:
            raise StoreError(f"the store in {self.where} was written by another version of datasov: update datasov")
        if row[4] != "on":
            raise StoreError("the PostgreSQL server runs with fsync=off, and would lose answers that left: set it on")
        if self._known not in (None, row[2]):
            raise StoreError(
                f"another city's store is in {self.where}: name the one that this city was founded or restored in"
            )
        if self._generation not in (0, row[3]):
            raise _exchanged()
        self._known, self._generation = row[2], row[3]
        if self._seen[0]:
            found = db.execute(self._q("SELECT hash FROM {at}.heads WHERE position = %s"), self._seen[:1]).fetchone()
            if found is None or found[0] != self._seen[1]:
                raise _forgot()

    @property
    def identity(self) -> bytes:
        """16 bytes that no other store has."""
        assert self._known is not None
        return self._known

    def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
        """The bodies of a stream from index `after` on, at most `limit` of them (all where negative)."""
        rows = self._rows(
            "SELECT body FROM {at}.entries WHERE stream = %s AND seq >= %s ORDER BY seq LIMIT %s",
            stream.encode(), after, None if limit < 0 else limit,
        )  # fmt: skip
        return [body for (body,) in rows]

    def append(self, batch: Batch, blobs: Blobs | None = None) -> None:
        """Append to several streams and write (or with None delete) blobs, all or nothing, durably.

        Raises:
            ConflictError: a stream has another length than expected: read again.
            StoreError: the server refuses, or did not come back in time to say whether it was done: what stands is
                found when it is read again.
        """
        writer, tried = os.urandom(16), set[int]()

        def work(db: Connection) -> None:
            position, last, lengths, landed = self._locked(db, batch, writer, tried)
            if landed is not None:
                db.execute("ROLLBACK")
                self._seen = landed
                return
            for stream, (expected, _) in batch.items():
                if lengths[stream] != expected:
                    raise ConflictError(f"stream {stream} moved on: read it again")
            appended, value = chain.extended(self._key, last, batch, blobs or {})
            tried.add(position + 1)
            self._write(db, batch, blobs or {}, (position + 1, value, appended.encode(), writer))
            self._seen = position + 1, value

        self._session.run(work)

    def _locked(
        self, db: Connection, batch: Batch, writer: bytes, tried: set[int]
    ) -> tuple[int, bytes, dict[str, int], tuple[int, bytes] | None]:
        """Begin an append: newest position and value of the chain, the streams' lengths, and where it stands already.

        One trip to the server. Each statement sees what was committed before it began, and the second one waits for
        every append before this one.
        """
        with db.pipeline():
            db.execute(tables.BEGIN)
            db.execute(tables.SETTINGS, (_IDLE,))
            store = db.execute(self._q("SELECT id, generation FROM {at}.store FOR UPDATE"), binary=True)
            heads = db.execute(
                self._q(
                    "SELECT position, hash, writer FROM {at}.heads "
                    "WHERE position = ANY(%s) OR position = (SELECT pg_catalog.max(position) FROM {at}.heads) "
                    "ORDER BY position"
                ),
                ([self._seen[0], *tried],), binary=True,
            )  # fmt: skip
            held = db.execute(
                self._q(
                    "SELECT r.stream, (SELECT pg_catalog.max(e.seq) FROM {at}.entries e WHERE e.stream = r.stream) "
                    "FROM pg_catalog.unnest(%s::bytea[]) AS r (stream)"
                ),
                ([stream.encode() for stream in batch],), binary=True,
            )  # fmt: skip
        self._same(store.fetchone())
        found = [(int(p), bytes(h), bytes(w)) for p, h, w in heads]
        position, last, _ = found[-1] if found else (0, bytes(32), b"")
        if self._seen[0] and self._seen not in [(p, h) for p, h, _ in found]:
            raise _forgot()
        landed = next(((p, h) for p, h, w in found if w == writer), None)
        return position, last, {s.decode(): 0 if n is None else n + 1 for s, n in held}, landed

    def _write(self, db: Connection, batch: Batch, blobs: Blobs, head: tuple[int, bytes, bytes, bytes]) -> None:
        """Write an append, and commit it. One trip to the server."""
        rows = [(s.encode(), at + i, body) for s, (at, bodies) in batch.items() for i, body in enumerate(bodies)]
        with db.pipeline(), db.cursor() as cursor:
            if rows:
                cursor.executemany(self._q("INSERT INTO {at}.entries VALUES (%s, %s, %b)"), rows)
            for name, blob in blobs.items():
                db.execute(self._q("DELETE FROM {at}.blobs WHERE name = %s"), (name.encode(),))
                if blob is not None:
                    db.execute(self._q("INSERT INTO {at}.blobs VALUES (%s, %b)"), (name.encode(), blob))
            db.execute(self._q("INSERT INTO {at}.heads VALUES (%s, %s, %s, %s)"), head)
            done = db.execute("COMMIT")
        if done.statusmessage != "COMMIT":
            raise StoreError("the PostgreSQL server did not commit: see its log, then try again")

    def _same(self, row: tuple[Any, ...] | None) -> None:
        if row is None or row[0] != self._known or row[1] != self._generation:
            raise _exchanged()

    def verify(self) -> None:
        """Read everything, as it stands at one moment, and follow the chain from its start.

        Raises:
            StoreError: an entry, a blob or the chain itself is not what was appended under this key.
        """
        self._session.run(lambda db: tables.verify(db, self._q, self._key))

    def blob(self, name: str) -> bytes:
        """A blob's bytes; StoreError where there is none."""
        for (body,) in self._rows("SELECT body FROM {at}.blobs WHERE name = %s", name.encode()):
            return bytes(body)
        raise chain.no_blob()

    def streams(self, prefix: str) -> list[str]:
        """The names of all streams that begin so, and hold anything."""
        start = prefix.encode()
        rows = self._rows(
            "SELECT DISTINCT stream FROM {at}.entries WHERE substring(stream FROM 1 FOR %s) = %s", len(start), start
        )
        return sorted(name.decode() for (name,) in rows)

    def blobs(self) -> list[str]:
        """The names of all blobs."""
        return [name.decode() for (name,) in self._rows("SELECT name FROM {at}.blobs ORDER BY name")]

    def appends(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """Position and record of every append since position `after`: what streams and blobs it named."""
        query = "SELECT position, appended FROM {at}.heads WHERE position > %s ORDER BY position LIMIT 1000"
        while page := self._rows(query, after):
            yield from ((position, appended.decode()) for position, appended in page)
            after = page[-1][0]

    def length(self, stream: str) -> int:
        """How many bodies a stream holds."""
        ((last,),) = self._rows("SELECT pg_catalog.max(seq) FROM {at}.entries WHERE stream = %s", stream.encode())
        return 0 if last is None else int(last) + 1

    def head(self, position: int | None = None) -> tuple[int, bytes]:
        """The newest (position, hash) of the chain, or the one at `position`; StoreError where there is none."""
        if position == 0:
            return 0, bytes(32)
        if position is not None:
            for (value,) in self._rows("SELECT hash FROM {at}.heads WHERE position = %s", position):
                return position, bytes(value)
            raise chain.behind()
        return self._session.run(self._newest)

    def _newest(self, db: Connection) -> tuple[int, bytes]:
        query = self._q(
            "SELECT s.id, s.generation, h.position, h.hash FROM {at}.store s LEFT JOIN LATERAL "
            "(SELECT position, hash FROM {at}.heads ORDER BY position DESC LIMIT 1) h ON true"
        )
        ((*store, position, value),) = db.execute(query, binary=True).fetchall() or [(None, None, None, None)]
        self._same(tuple(store))
        found = (0, bytes(32)) if position is None else (int(position), bytes(value))
        if found[0] < self._seen[0] or (found[0] == self._seen[0] and found != self._seen):
            raise _forgot()
        self._seen = found
        return found

    def _rows(self, text: LiteralString, *given: Any) -> list[tuple[Any, ...]]:
        return self._session.run(lambda db: db.execute(self._q(text), given, binary=True).fetchall())

    def wipe(self) -> None:
        """Take deleted blobs out of the table's file, which is written anew (VACUUM FULL); the old one is removed.

        Its bytes stay on the medium until they are overwritten, and in the write-ahead log, its archive and backups of
        the server. Where another process reads just now, nothing is done until the next time.
        """
        self._session.run(lambda db: db.execute(self._q("VACUUM (FULL, SKIP_LOCKED) {at}.blobs")))

    def copy(self, path: Path) -> None:
        """A copy in a new SQLite file, as it stands at one moment, while others go on writing."""

        def work(db: Connection) -> None:
            tables.still(db, self._q)
            transfer.to_sqlite(db, self._q, path)
            db.execute("COMMIT")

        self._session.run(work)

    def load(self, path: Path) -> None:
        """Fill a new store with what an SQLite file holds."""
        with self._session.held() as db:
            db.execute(tables.BEGIN)
            db.execute(tables.SETTINGS, ("0",))
            transfer.from_sqlite(db, self._q, path)
            db.execute("COMMIT")

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """No other store takes this one's place while this lasts."""
        with self._session.held() as db:
            db.execute(tables.BEGIN)
            db.execute(tables.SETTINGS, ("0",))
            db.execute(self._q("SELECT id FROM {at}.store FOR SHARE"))
            yield

    @contextmanager
    def exchange(self, path: Path) -> Iterator[transfer.Put]:
        """Hold the store alone, copied to a new SQLite file, until a file is put in its place, or nothing is.

        Who else has the store open waits, and is told to open it again once something was put there.
        """
        with self._session.held() as db:
            db.execute(tables.BEGIN)
            db.execute(tables.SETTINGS, ("0",))
            self._same(db.execute(self._q("SELECT id, generation FROM {at}.store FOR UPDATE")).fetchone())
            transfer.to_sqlite(db, self._q, path)

            def put(new: Path) -> None:
                transfer.from_sqlite(db, self._q, new)
                db.execute(self._q("UPDATE {at}.store SET generation = generation + 1"))
                db.execute("COMMIT")

            yield put

    def close(self) -> None:
        """Close the connection; using the store afterwards is a StoreError."""
        self._session.close()


def _exchanged() -> StoreError:
    return StoreError("the city was given another key or version meanwhile: open it again")


def _forgot() -> StoreError:
    return StoreError(
        "the PostgreSQL server lost what it had confirmed: an older copy was brought back, or a standby that lagged "
        "took over; bring back the newest, then open the city again"
    )
