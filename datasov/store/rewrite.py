"""A store written anew: every entry through a function, every link of the chain under another key."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from datasov.errors import StoreError
from datasov.store.chain import link
from datasov.store.sqlite import SQLiteStore

Change = Callable[[str, int, bytes], bytes]
"""Stream, index and body of an entry to the body that it gets."""
ChangeBlob = Callable[[str, bytes], bytes]
"""Name and bytes of a blob to the bytes that it gets."""


def rewrite(source: SQLiteStore, target: Path, key: bytes, change: Change, change_blob: ChangeBlob) -> None:
    """Make a new file with every append of `source`, which :meth:`SQLiteStore.verify` has passed, in their order.

    Positions, streams and lengths stay. One append is held in memory at a time.

    Args:
        key: of the new chain.

    Raises:
        StoreError: the disk refuses, or the target exists.
    """
    if target.exists():
        raise StoreError(f"{target.name} exists already: move it away")
    SQLiteStore(target, create=True, key=key).close()
    try:
        db = sqlite3.connect(target, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            renamed = dict(_blobs(source, db, change_blob))
            chain = bytes(32)
            for position, appended in source.appends():
                streams, named = json.loads(appended)
                bodies = [
                    change(stream, at + i, body)
                    for stream, at, many in streams
                    for i, body in enumerate(source.read(stream, at, many) if many else ())
                ]
                named = [[name, renamed.get((name, print_), print_)] for name, print_ in named]
                appended = json.dumps([streams, named])
                chain = link(key, chain, appended, bodies)
                places = ((stream, at + i) for stream, at, many in streams for i in range(many))
                db.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?)",
                    ((stream, at, body) for (stream, at), body in zip(places, bodies, strict=True)),
                )
                db.execute("INSERT INTO heads VALUES (?, ?, ?)", (position, chain, appended))
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
    except sqlite3.Error as fault:
        raise StoreError("the new database cannot be written: check the disk and its free space") from fault


def _blobs(source: SQLiteStore, db: sqlite3.Connection, change: ChangeBlob) -> Iterator[tuple[tuple[str, str], str]]:
    """Write the changed blobs; (name, hash of the old bytes) and hash of the new ones."""
    for name in source.blobs():
        old = source.blob(name)
        new = change(name, old)
        db.execute("INSERT INTO blobs VALUES (?, ?)", (name, new))
        yield (name, hashlib.sha256(old).hexdigest()), hashlib.sha256(new).hexdigest()
