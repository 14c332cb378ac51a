"""A city's place on disk: a folder with the database and the pool, and beside it the operator's key and the anchor.

Where the database is on a PostgreSQL server, `store.json` in the folder says where, without a password.

The key and the anchor lie outside of the folder, so that a copy of the folder opens nothing, and bringing an old copy
back is noticed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from datasov.crypto.kdf import hkdf, random
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import StoreError
from datasov.store import durable, where
from datasov.store.sqlite import SQLiteStore
from datasov.store.stores import Store

if TYPE_CHECKING:
    from datasov.store.postgres import PostgresStore

KEY = 32


def key_path(path: Path) -> Path:
    """Where the operator's key is, unless one is handed in."""
    return path.with_name(path.name + ".key")


def anchor_path(path: Path) -> Path:
    """Where the anchor is."""
    return path.with_name(path.name + ".anchor")


def operator_key(path: Path, given: bytes | None, *, create: bool) -> bytes:
    """The 32-byte key: the given one, or that of the key file, made anew (readable by its owner alone) on `create`.

    Raises:
        StoreError: missing, unreadable, or not 32 bytes.
    """
    if given is not None:
        if not isinstance(given, bytes) or len(given) != KEY:
            raise StoreError("an operator's key is 32 bytes")
        return given
    file = key_path(path)
    try:
        if create and not file.exists():
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(handle, random(KEY))
                os.fsync(handle)
            finally:
                os.close(handle)
        key = file.read_bytes()
    except OSError as fault:
        raise StoreError(
            f"{file.name} cannot be read: bring it back, or hand the key in (operator_key=, --operator-key-file)"
        ) from fault
    if len(key) != KEY:
        raise StoreError(f"{file.name} is not an operator's key of 32 bytes: bring the right one back")
    return key


def keys(operator: bytes) -> tuple[SigningKey, OpeningKey]:
    """The keys that sign the log's checkpoints and that open contributions, from the operator's key."""
    return (
        SigningKey(hkdf(operator, salt=b"", info=b"datasov city signing key v1")),
        OpeningKey(opening_seed(operator)),
    )


def opening_seed(operator: bytes) -> bytes:
    """The seed of the key that opens contributions, 32 bytes, from the operator's key."""
    return hkdf(operator, salt=b"", info=b"datasov city opening key v1")


def chain_key(operator: bytes) -> bytes:
    """The key of the database's chain, from the operator's key."""
    return hkdf(operator, salt=b"", info=b"datasov store chain key v1")


def is_city(path: Path) -> bool:
    """Whether a city's folder is at the path."""
    return (path / "city.db").is_file() or (path / "store.json").is_file()


def found(path: Path, operator: bytes, fill: Callable[[Store], None], at: str | None = None) -> None:
    """Make the folder of a new city: whole, or not at all.

    Args:
        at: the URL of its store, where that is not a file in the folder.
    """
    part = path.with_name(f".{path.name}.{random(4).hex()}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
        (part / "pool").mkdir()
        with durable.locked(path.parent):
            if at is not None and path.exists():
                raise FileExistsError
            store: Store = (
                SQLiteStore(part / "city.db", create=True, key=chain_key(operator))
                if at is None
                else _on_server(part, where.parse(at, where.called_after(path)), operator)
            )
            try:
                fill(store)
            finally:
                store.close()
            os.rename(part, path)
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be made: check the folder and its free space") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)


def move(folder: Path, path: Path, operator: bytes, at: str) -> None:
    """Take the database out of a folder that is to become the city's at `path`, into a new store on a server."""
    store = _on_server(folder, where.parse(at, where.called_after(path)), operator)
    try:
        store.load(folder / "city.db")
    finally:
        store.close()
    for end in ("", "-wal", "-shm"):
        (folder / f"city.db{end}").unlink(missing_ok=True)


def remember(path: Path, store: Store) -> None:
    """Let the folder name the place where the store was opened, where that is another than it named."""
    if isinstance(store, SQLiteStore):
        return
    said = where.write(store.where, store.identity)
    if (path / "store.json").read_bytes() != said:
        durable.replace(path / "store.json.part", path / "store.json", said, 0o600)


def attach(path: Path, operator: bytes, at: str | None = None) -> Store:
    """The database of a city's folder, not verified yet.

    Args:
        at: the URL of its store, for a password, or for a server that has another address than the folder names.

    Raises:
        StoreError: the path holds no city, or its store is not there.
    """
    if not is_city(path):
        raise StoreError(f"{path.name} is no city: name the folder that City.open made")
    if not (path / "store.json").is_file():
        if at is not None:
            raise StoreError(
                f"{path.name} keeps its database in its folder: open it without naming a store; to move it to a "
                "server, make a backup, and restore that with store="
            )
        return SQLiteStore(path / "city.db", key=chain_key(operator))
    server = _server()
    found, identity = where.read(path / "store.json")
    if at is not None:
        found = where.parse(at, found.schema)
    store: PostgresStore = server.PostgresStore(found, key=chain_key(operator), identity=identity)
    return store


def open_store(path: Path, given: bytes | None, at: str | None = None) -> tuple[Store, bytes]:
    """The database of a city's folder, not verified yet, and the operator's key.

    Raises:
        StoreError: the path holds no city, the key is missing, or the store is not there.
    """
    if not is_city(path):
        raise StoreError(f"{path.name} is no city: name the folder that City.open made")
    operator = operator_key(path, given, create=False)
    return attach(path, operator, at), operator


def _server() -> ModuleType:
    try:
        from datasov.store import postgres
    except ImportError:
        raise where.missing() from None
    return postgres


def _on_server(folder: Path, place: where.Where, operator: bytes) -> PostgresStore:
    store: PostgresStore = _server().PostgresStore(place, create=True, key=chain_key(operator))
    durable.replace(folder / "store.json.part", folder / "store.json", where.write(place, store.identity), 0o600)
    return store
