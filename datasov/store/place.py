"""A city's place on disk: a folder with the database and the pool, and beside it the operator's key and the anchor.

The key and the anchor lie outside of the folder, so that a copy of the folder opens nothing, and bringing an old copy
back is noticed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from datasov.crypto.kdf import hkdf, random
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import StoreError
from datasov.store.sqlite import SQLiteStore

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


def found(path: Path, operator: bytes, fill: Callable[[SQLiteStore], None]) -> None:
    """Make the folder of a new city: whole, or not at all."""
    part = path.with_name(f".{path.name}.{random(4).hex()}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
        (part / "pool").mkdir()
        store = SQLiteStore(part / "city.db", create=True, key=chain_key(operator))
        try:
            fill(store)
        finally:
            store.close()
        os.rename(part, path)
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be made: check the folder and its free space") from fault
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_store(path: Path, given: bytes | None) -> tuple[SQLiteStore, bytes]:
    """The database of a city's folder, not verified yet, and the operator's key.

    Raises:
        StoreError: the path holds no city, or the key is missing.
    """
    if not path.is_dir() or not (path / "city.db").is_file():
        raise StoreError(f"{path.name} is no city: name the folder that City.open made")
    operator = operator_key(path, given, create=False)
    return SQLiteStore(path / "city.db", key=chain_key(operator)), operator
