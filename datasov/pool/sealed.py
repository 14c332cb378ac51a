"""Sealed bytes of the pool: one file a shard, one blob a contribution, one entry a charge, under the operator's keys.

A file is a header (magic, version, partition, shard, generation, salt, key commitment) and a stream of AES-256-GCM
chunks that bind the header, so that a file cannot stand in for another shard, generation or partition.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from datasov.crypto.aead import decrypt, decrypt_stream, encrypt, encrypt_stream
from datasov.crypto.kdf import derive_committed, hkdf, random, same, sha256
from datasov.errors import DecryptionError, StoreError

_MAGIC = b"DSPOOL\x00\x01"
_PREFIX = struct.Struct("<8s16sQQ32s")
_HEADER = _PREFIX.size + 32
_BLOB_INFO = b"datasov pool blob v1 "
_LENGTH = struct.Struct("<Q")
_STEP = 4096


def _prefix(partition: str, shard: int, generation: int, salt: bytes) -> bytes:
    return _PREFIX.pack(_MAGIC, bytes.fromhex(partition), shard, generation, salt)


def seal_shard(key: bytes, partition: str, shard: int, generation: int, content: bytes) -> bytes:
    """The bytes of a shard's file."""
    prefix = _prefix(partition, shard, generation, random(32))
    aead, commitment = derive_committed(key, salt=prefix[-32:], info=b"datasov pool shard v1" + prefix[:-32])
    header = prefix + commitment
    return header + bytes(encrypt_stream(aead, content, header))


def open_shard(key: bytes, partition: str, shard: int, generation: int, data: bytes) -> bytearray:
    """The content of a shard's file; DecryptionError where it is not that shard's in that generation."""
    header = data[:_HEADER]
    prefix = _prefix(partition, shard, generation, header[_PREFIX.size - 32 : _PREFIX.size].ljust(32, b"\x00"))
    aead, commitment = derive_committed(key, salt=prefix[-32:], info=b"datasov pool shard v1" + prefix[:-32])
    if not same(header, prefix + commitment):
        raise DecryptionError("a shard of the pool cannot be opened: restore the city from a backup")
    return decrypt_stream(aead, memoryview(data)[_HEADER:], header)


def fingerprint(sealed: bytes) -> bytes:
    """What tells a shard's file from every other, 32 bytes: the hash of its header.

    The salt there is drawn anew for each file, the commitment binds the key, and every chunk is authenticated under
    that key with the header as its associated data. So a file with this fingerprint opens to what was sealed, or not
    at all.
    """
    return sha256(sealed[:_HEADER])


def seal_blob(key: bytes, name: str, content: bytes) -> bytes:
    """salt || commitment || ciphertext and tag, under a key of this blob alone."""
    salt = random(32)
    aead, commitment = derive_committed(key, salt=salt, info=_BLOB_INFO + name.encode())
    return salt + commitment + encrypt(aead, bytes(12), content, name.encode())


def open_blob(key: bytes, name: str, data: bytes) -> bytes:
    """What was sealed under this name; DecryptionError otherwise."""
    aead, commitment = derive_committed(key, salt=data[:32].ljust(32, b"\x00"), info=_BLOB_INFO + name.encode())
    if not same(data[32:64], commitment):
        raise DecryptionError("a contribution in the pool cannot be opened: restore the city from a backup")
    return decrypt(aead, bytes(12), data[64:], name.encode())


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file, and flush it and its folder. StoreError where the disk refuses; no half file is left."""
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as fault:
        raise StoreError("the pool cannot be written: check the disk and its free space") from fault


class Streams(Protocol):
    """Streams with compare-and-append."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


class SealedAccounts:
    """A store for the ledger whose streams `accounts/...` are sealed: what a question cost somebody tells their rows.

    Each entry is bound to its stream and place, and padded to a multiple of 4 KiB.

    Args:
        key: the operator's key, 32 bytes.
    """

    def __init__(self, store: Streams, key: bytes) -> None:
        self._store, self._key = store, hkdf(key, salt=b"", info=b"datasov accounts key v1")

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]:
        bodies = self._store.read(stream, after, limit)
        if not stream.startswith("accounts/"):
            return bodies
        opened = [open_blob(self._key, f"{stream}/{after + i}", body) for i, body in enumerate(bodies)]
        return [body[_LENGTH.size :][: _LENGTH.unpack_from(body)[0]] for body in opened]

    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None:
        self._store.append({stream: (at, self._sealed(stream, at, bodies)) for stream, (at, bodies) in batch.items()})

    def length(self, stream: str) -> int:
        return self._store.length(stream)

    def _sealed(self, stream: str, at: int, bodies: Sequence[bytes]) -> Sequence[bytes]:
        if not stream.startswith("accounts/"):
            return bodies
        framed = [_LENGTH.pack(len(body)) + body for body in bodies]
        padded = [body + bytes(-len(body) % _STEP) for body in framed]
        return [seal_blob(self._key, f"{stream}/{at + i}", body) for i, body in enumerate(padded)]
