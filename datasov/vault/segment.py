"""seg/<id>: rows of one table, sealed once and never changed (STREAM over one Parquet or Arrow payload)."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datasov.crypto import aead, kdf
from datasov.model.schema import Schema
from datasov.vault import codec, files
from datasov.vault import format as fmt
from datasov.vault.keys import DomainKey, Secrets
from datasov.vault.manifest import SegmentEntry

MAX_CELLS, MIN_ROWS = 8_000_000, 65_536
_HEAD = struct.Struct(">16sQ32s32s")
_HEAD_SIZE = fmt.PREAMBLE + _HEAD.size
_IN_MEMORY = 64 << 20
_CONTEXT = fmt.context(b"segment")
_START = fmt.preamble(fmt.MAGIC_SEGMENT, b"")[: -fmt.ID]


def max_rows(schema: Schema) -> int:
    """Most rows of a segment: what bounds the memory that one takes."""
    return max(MIN_ROWS, MAX_CELLS // len(schema.stored))


def _info(vault_id: bytes, segment_id: bytes, domain: DomainKey) -> bytes:
    return _CONTEXT + vault_id + segment_id + domain.id + struct.pack(">I", domain.epoch)


def write(
    directory: Path, secrets: Secrets, table: str, domain: DomainKey, codes: pl.DataFrame, first: int, last: int,
    device: bytes,
) -> SegmentEntry:  # fmt: skip
    """A new segment, durable but not yet part of the vault; OSError where it cannot be written."""
    kind, payload = codec.write(codes)
    segment_id = kdf.random(fmt.ID)
    data = seal(secrets.vault_id, segment_id, domain, payload)
    files.create(directory / files.SEGMENTS / segment_id.hex(), data)
    return SegmentEntry(
        segment_id, table, domain.id, domain.epoch, device, first, last, codes.height, kind, len(payload),
        len(data), digest(data),
    )  # fmt: skip


def seal(vault_id: bytes, segment_id: bytes, domain: DomainKey, payload: bytes) -> bytearray:
    """The bytes of a segment's file."""
    salt = kdf.random(32)
    key, commitment = kdf.derive_committed(domain.key, salt=salt, info=_info(vault_id, segment_id, domain))
    head = fmt.preamble(fmt.MAGIC_SEGMENT, vault_id) + _HEAD.pack(segment_id, len(payload), salt, commitment)
    data = bytearray(head)
    data += aead.encrypt_stream(key, payload, head)
    return data


def unseal(vault_id: bytes, segment_id: bytes, domain: DomainKey, data: bytes) -> bytes | bytearray:
    """The plaintext of a segment's file held in memory; DecryptionError where it is not this segment of this vault."""
    return unseal_with(vault_id, segment_id, domain.id + struct.pack(">I", domain.epoch), domain.key, data)


def unseal_with(vault_id: bytes, segment_id: bytes, domain: bytes, key: bytes, data: bytes) -> bytes | bytearray:
    """As :func:`unseal`, for who opens very many: `domain` is the domain's id and epoch as a context holds them."""
    owner = vault_id + segment_id
    head = data[:_HEAD_SIZE]
    if len(head) < _HEAD_SIZE or head[: fmt.PREAMBLE + fmt.ID] != _START + owner:
        raise fmt.damaged()
    _, length, salt, commitment = _HEAD.unpack_from(head, fmt.PREAMBLE)
    info, sealed = _CONTEXT + owner + domain, memoryview(data)[_HEAD_SIZE:]
    if length <= aead.CHUNK and length + aead.TAG == len(sealed):
        return aead.open_short(key, salt, info, commitment, sealed, head, aead.ONE_CHUNK)
    if aead.sealed_length(length) != len(sealed):
        raise fmt.damaged()
    return aead.decrypt_stream(fmt.committed_key(key, salt, commitment, info), sealed, head)


def verified(directory: Path, secrets: Secrets, entry: SegmentEntry) -> bytes:
    """The bytes of a segment's file, to be copied as they are, once each of them is the one that was written."""
    data = files.read(directory / files.SEGMENTS / entry.id.hex(), entry.size)
    if len(data) != entry.size or digest(data) != entry.digest:
        raise fmt.damaged()
    unseal(secrets.vault_id, entry.id, secrets.domain_at(entry.domain_id, entry.epoch), data)
    return data


def salt_of(data: bytes) -> bytes:
    """The salt in a segment's header."""
    return data[fmt.PREAMBLE + fmt.ID + 8 : fmt.PREAMBLE + fmt.ID + 40]


def digest(data: bytes | bytearray) -> bytes:
    """SHA-256 of the header and of the tags of the chunks, by which a manifest names a segment."""
    ends = (_HEAD_SIZE + end for end in _chunk_ends(len(data) - _HEAD_SIZE))
    return _digest(bytes(data[:_HEAD_SIZE]), [bytes(data[end - aead.TAG : end]) for end in ends])


def _chunk_ends(sealed: int) -> list[int]:
    step = aead.CHUNK + aead.TAG
    return [*range(step, sealed, step), sealed]


def _digest(head: bytes, tags: Sequence[bytes]) -> bytes:
    return kdf.sha256(head, *tags)


class Scratch:
    """One plaintext buffer, kept from one read to the next: to allocate it anew costs more than to decrypt into it."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def sized(self, length: int) -> io.BytesIO:
        buffer = self._buffer
        if buffer.getbuffer().nbytes < length:
            buffer.seek(length - 1)
            buffer.write(b"\0")
        buffer.truncate(length)
        buffer.seek(0)
        return buffer

    def drop(self) -> None:
        """Forget a buffer too large to keep."""
        if self._buffer.getbuffer().nbytes > _IN_MEMORY:
            self._buffer = io.BytesIO()


def read(
    directory: Path, secrets: Secrets, entry: SegmentEntry, columns: Sequence[str] | None, scratch: Scratch
) -> pl.DataFrame:
    """The rows of a segment, or some of its columns.

    Raises:
        DecryptionError: the file is not the one that the manifest names, or a byte of it differs.
        FileNotFoundError: it is not there.
    """
    domain = secrets.domain_at(entry.domain_id, entry.epoch)
    fd = files.open_regular(directory / files.SEGMENTS / entry.id.hex())
    try:
        if os.fstat(fd).st_size != entry.size or entry.size < _HEAD_SIZE:
            raise fmt.damaged()
        head = bytearray(_HEAD_SIZE)
        files.fill(fd, memoryview(head), 0)
        tags = _Tags(entry.size - _HEAD_SIZE, fd)
        key, stream = _key(bytes(head), secrets, entry, domain)
        plain = scratch.sized(stream)
        with plain.getbuffer() as out:
            aead.decrypt_stream_from(key, tags.read, entry.size - _HEAD_SIZE, bytes(head), out)
        if _digest(bytes(head), tags.found) != entry.digest:
            raise fmt.damaged()
        plain.truncate(entry.payload)
        return codec.read(entry.codec, plain, columns)
    except EOFError:
        raise fmt.damaged() from None
    finally:
        os.close(fd)
        scratch.drop()


def _key(head: bytes, secrets: Secrets, entry: SegmentEntry, domain: DomainKey) -> tuple[bytes, int]:
    """The AEAD key and the length of the plaintext stream."""
    fmt.check_preamble(head, fmt.MAGIC_SEGMENT, secrets.vault_id)
    segment_id, stream, salt, commitment = _HEAD.unpack_from(head, fmt.PREAMBLE)
    if segment_id != entry.id or aead.sealed_length(stream) != entry.size - _HEAD_SIZE or stream < entry.payload:
        raise fmt.damaged()
    return fmt.committed_key(domain.key, salt, commitment, _info(secrets.vault_id, segment_id, domain)), stream


class _Tags:
    """Reads chunks of a stream and keeps their tags, in order."""

    __slots__ = ("_fd", "found")

    def __init__(self, sealed: int, fd: int) -> None:
        self._fd, self.found = fd, [b""] * len(_chunk_ends(sealed))

    def read(self, buffer: memoryview, offset: int) -> None:
        files.fill(self._fd, buffer, _HEAD_SIZE + offset)
        self.found[offset // (aead.CHUNK + aead.TAG)] = bytes(buffer[-aead.TAG :])
