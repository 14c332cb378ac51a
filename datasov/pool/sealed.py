"""Sealed bytes of the pool: one file a shard, one blob a contribution, one entry a charge, under the operator's keys.

A file is a header (magic, version, partition, shard, generation, salt, key commitment) and a stream of AES-256-GCM
chunks that bind the header, so that a file cannot stand in for another shard, generation or partition.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from datasov.crypto.aead import decrypt, decrypt_stream, encrypt, encrypt_stream
from datasov.crypto.kdf import derive_committed, hkdf, random, same, sha256
from datasov.errors import DecryptionError, StoreError
from datasov.store import durable

_MAGIC = b"DSPOOL\x00\x01"
_PREFIX = struct.Struct("<8s16sQQ32s")
HEADER = _PREFIX.size + 32
"""Bytes of a shard's file before its chunks."""
_BLOB_INFO = b"datasov pool blob v1 "
_LENGTH = struct.Struct("<Q")
_STEP = 4096


def pool_key(operator: bytes) -> bytes:
    """The key that shards and contributions are sealed under, from the operator's key."""
    return hkdf(operator, salt=b"", info=b"datasov pool key v1")


def accounts_key(operator: bytes) -> bytes:
    """The key that charges are sealed under, from the operator's key."""
    return hkdf(operator, salt=b"", info=b"datasov accounts key v1")


def issuing_key(operator: bytes) -> bytes:
    """The key that the secret of the city's issuer of tokens is sealed under, from the operator's key."""
    return hkdf(operator, salt=b"", info=b"datasov issuer sealing key v1")


def shard_file(partition: str, shard: int, generation: int, fingerprint: bytes) -> str:
    """A shard's file, below the pool's folder."""
    return f"{partition}/{shard}-{generation}-{fingerprint.hex()[:16]}.shard"


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
    header = data[:HEADER]
    prefix = _prefix(partition, shard, generation, header[_PREFIX.size - 32 : _PREFIX.size].ljust(32, b"\x00"))
    aead, commitment = derive_committed(key, salt=prefix[-32:], info=b"datasov pool shard v1" + prefix[:-32])
    if not same(header, prefix + commitment):
        raise DecryptionError("a shard of the pool cannot be opened: restore the city from a backup")
    return decrypt_stream(aead, memoryview(data)[HEADER:], header)


def sealed_under(key: bytes, header: bytes) -> bool:
    """Whether a shard's file with this header is sealed under this key."""
    prefix = header[: _PREFIX.size]
    if len(header) < HEADER:
        return False
    _, commitment = derive_committed(key, salt=prefix[-32:], info=b"datasov pool shard v1" + prefix[:-32])
    return same(header[_PREFIX.size : HEADER], commitment)


def reseal_shard(old: bytes, new: bytes, data: bytes) -> tuple[str, bytes, bytes]:
    """A shard's file under another key: its name below the pool's folder, its bytes, and its fingerprint before.

    Raises:
        DecryptionError: not a shard's file under the old key.
    """
    if len(data) < HEADER:
        raise DecryptionError("a shard of the pool cannot be opened: restore the city from a backup")
    _, partition, shard, generation, _ = _PREFIX.unpack_from(data)
    content = open_shard(old, partition.hex(), shard, generation, data)
    sealed = seal_shard(new, partition.hex(), shard, generation, bytes(content))
    return shard_file(partition.hex(), shard, generation, fingerprint(sealed)), sealed, fingerprint(data)


def fingerprint(sealed: bytes) -> bytes:
    """What tells a shard's file from every other, 32 bytes: the hash of its header.

    The salt there is drawn anew for each file, the commitment binds the key, and every chunk is authenticated under
    that key with the header as its associated data. So a file with this fingerprint opens to what was sealed, or not
    at all.
    """
    return sha256(sealed[:HEADER])


def sealed_blob(name: str) -> bool:
    """Whether the blob of this name is a sealed contribution; others are public, as status lists are."""
    return name.startswith("pool/")


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
        durable.replace(part, path, data)
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
        self._store, self._key = store, accounts_key(key)

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
