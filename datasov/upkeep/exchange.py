"""Another database in the place of a city's: the old one or the new one, with its key and its anchor, never half.

What is prepared beside the old files: the new database (`city.db.new`), the new key (`PATH.key.new`, where the key lies
in a file) and the new anchor (`PATH.anchor.new`). One rename of the database decides; on a server, one transaction, and
what is worked on is a copy (`city.db.held`). :func:`settle` takes the rest in its place, or away, when the city is
opened the next time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasov.crypto.sign import SigningKey
from datasov.errors import StoreError
from datasov.model.consent import CityId
from datasov.pool import files
from datasov.pool.sealed import pool_key
from datasov.store import anchor, durable, place
from datasov.store.sqlite import SQLiteStore, ahead
from datasov.store.stores import Store


def new_key(path: Path) -> Path:
    """Where the key that is to come lies until it is the city's."""
    return path.with_name(path.name + ".key.new")


def new_anchor(path: Path) -> Path:
    """Where the anchor that is to come lies."""
    return path.with_name(path.name + ".anchor.new")


def _new_database(path: Path) -> Path:
    return path / "city.db.new"


def _held(path: Path) -> Path:
    return path / "city.db.held"


def check_anchor(store: Store, path: Path, public: bytes) -> None:
    """Raise StoreError unless the store contains the position that the anchor beside this path names."""
    position, head = anchor.read(place.anchor_path(path), public)
    if not contains(store, position, head):
        raise StoreError("this copy of the city is not the one that its anchor names: bring back the newest")


def contains(store: Store, position: int, head: bytes) -> bool:
    """Whether the store's chain has this hash at this position."""
    if position > store.head()[0]:
        raise StoreError("the store lies behind its anchor: bring back the newest copy")
    return store.head(position)[1] == head


@contextmanager
def exchanged(
    path: Path, operator: bytes, renewed: bytes, *, key_file: bool, at: str | None = None
) -> Iterator[tuple[SQLiteStore, Path]]:
    """The city's database, verified and held alone, and the path at which to make the one that takes its place.

    Args:
        renewed: the operator's key of the new one. key_file: it is to be written into the city's key file.
        at: the URL of a store on a server, where its password or address is not known otherwise.

    Raises:
        StoreError: somebody else has the city open, it lies behind its anchor, or the disk refuses.
    """
    try:
        with _alone(path, operator, at) as (store, put):
            store.verify()
            check_anchor(store, path, place.keys(operator)[0].public)
            new = _new_database(path)
            _remove(new)
            yield store, new
            target = SQLiteStore(new, key=place.chain_key(renewed))
            try:
                target.verify()
                anchor.write(new_anchor(path), target.head, place.keys(renewed)[0])
            finally:
                target.close()
            if key_file:
                _write_key(new_key(path), renewed)
            with _disk():
                put(new)
        _settle(path, None if key_file else renewed, at)
    except BaseException:
        with contextlib.suppress(StoreError):
            settle(path, None if key_file else operator, at)
        raise


@contextmanager
def _alone(path: Path, operator: bytes, at: str | None) -> Iterator[tuple[SQLiteStore, Callable[[Path], None]]]:
    """The city's database, or a copy of it, while nobody else writes to it; and what puts another one in its place."""
    if (path / "city.db").is_file():
        store = SQLiteStore.alone(path / "city.db", place.chain_key(operator))
        try:
            yield store, lambda new: _rename(new, path / "city.db")
        finally:
            store.close()
        return
    server = place.attach(path, operator, at)
    assert not isinstance(server, SQLiteStore)
    try:
        with server.exchange(_held(path)) as put:
            store = SQLiteStore(_held(path), key=place.chain_key(operator))
            try:
                yield store, put
            finally:
                store.close()
    finally:
        server.close()
        _remove(_held(path))


def _rename(new: Path, database: Path) -> None:
    durable.sync_folder(new)
    os.replace(new, database)
    durable.sync_folder(database.parent)


def settle(path: Path, given: bytes | None, at: str | None = None) -> None:
    """Finish, or take back, an exchange that was cut off. Nothing is done where none was, or with another's key.

    Args:
        given: the operator's key, where it does not lie in the key file.
        at: the URL of a store on a server, where its password or address is not known otherwise.
    """
    prepared = (_new_database(path), _held(path), new_key(path), *path.parent.glob(new_anchor(path).name + "*"))
    if path.is_dir() and any(p.exists() for p in prepared):
        _settle(path, given, at)


def _settle(path: Path, given: bytes | None, at: str | None) -> None:
    with _disk(), _reading(path, at) as (name, identity):
        if given is None and new_key(path).exists():
            if _is(new_key(path).read_bytes(), name, identity):
                os.replace(new_key(path), place.key_path(path))
            else:
                new_key(path).unlink()
            durable.sync_folder(path.parent)
        operator = place.operator_key(path, given, create=False)
        if not _is(operator, name, identity):
            return
        store = place.attach(path, operator, at)
        try:
            _settle_anchor(path, store, place.keys(operator)[0])
            _remove(_new_database(path))
            _remove(_held(path))
            files.sweep(path / "pool", pool_key(operator))
        finally:
            store.close()


def _settle_anchor(path: Path, store: Store, key: SigningKey) -> None:
    coming = new_anchor(path)
    coming.with_name(coming.name + ".part").unlink(missing_ok=True)
    with durable.locked(
        path.parent
    ) as folder:  # whoever has the city open under the earlier key anchors before, or not
        if not coming.exists():
            return
        if _anchors(store, coming, key) and not _anchors(store, place.anchor_path(path), key):
            os.replace(coming, place.anchor_path(path))
        else:
            coming.unlink()
        os.fsync(folder)


def _anchors(store: Store, file: Path, key: SigningKey) -> bool:
    try:
        return contains(store, *anchor.read(file, key.public))
    except StoreError:
        return False


@contextmanager
def _reading(path: Path, at: str | None) -> Iterator[tuple[str, str]]:
    """Name and id of the city that lies at the path now; while this lasts, no other database takes its place."""
    if not (path / "city.db").is_file():
        server = place.attach(path, b"", at)
        assert not isinstance(server, SQLiteStore)
        try:
            with server.unchanged():
                found = json.loads(server.read("city", 0, 1)[0])
                yield str(found["name"]), str(found["id"])
        finally:
            server.close()
        return
    file = path / "city.db"
    while True:
        before = file.stat().st_ino
        with contextlib.closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as db:
            ahead(db)
            db.execute("BEGIN")
            row = db.execute("SELECT body FROM entries WHERE stream = 'city' AND seq = 0").fetchone()
            # A connection that waited for an exchange to end reads the database that is not there any more.
            if file.stat().st_ino != before:
                continue
            found = json.loads(row[0])
            yield str(found["name"]), str(found["id"])
            return


def _is(operator: bytes, name: str, identity: str) -> bool:
    if len(operator) != place.KEY:
        return False
    signing, opening = place.keys(operator)
    return str(CityId(name, signing.public, opening.public)) == identity


def _write_key(file: Path, key: bytes) -> None:
    with _disk():
        file.unlink(missing_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, key)
            os.fsync(handle)
        finally:
            os.close(handle)
        durable.sync_folder(file.parent)


def _remove(database: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + end).unlink(missing_ok=True)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as fault:
        raise StoreError("the city's files cannot be written: check the disk and its free space") from fault
