"""packs/<id> of a tenant host: many vaults' headers and segments in one file, behind one sealed index."""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.crypto import aead, kdf
from datasov.errors import VerificationError
from datasov.vault import codec, files, segment
from datasov.vault import format as fmt
from datasov.vault.keys import DomainKey
from datasov.wire import cbor

_HEAD = struct.Struct(">16sQ32s32s")
_HEAD_SIZE = fmt.PREAMBLE + _HEAD.size
_TENANT = struct.Struct(">I16s32sII")
_SEGMENT = struct.Struct(">IBIIIII16s16s")
SLIP = 32 + 32 + aead.TAG
TENANT_FIELDS = [("number", ">u4"), ("id", "V16"), ("key", "V32"), ("at", ">u4"), ("size", ">u4")]
TENANTS = np.dtype(TENANT_FIELDS)
"""A tenant in an index: number, vault id, device key, and where among the headers its own lies."""
_NUMBERS = np.dtype({"names": ["number"], "formats": [">u4"], "offsets": [0], "itemsize": _SEGMENT.size})
FULL = 32 << 20
"""A pack is closed once it holds as many bytes of blobs: what bounds the memory that one takes."""


class Segment(NamedTuple):
    """One segment in an index: of which tenant, of what, and where among the blobs its slip and bytes lie.

    A tuple, for a million of them are made at each collecting.
    """

    number: int
    codec: int
    epoch: int
    rows: int
    payload: int
    at: int
    size: int
    id: bytes
    domain_id: bytes


@dataclass(frozen=True, slots=True)
class Pack:
    """One pack with its index open.

    Attributes:
        headers, blobs: where the headers, and the slips and segments, begin in the file.
        tenants: entries of TENANTS.
        segments: table to entries, packed.
    """

    path: Path
    id: bytes
    size: int
    headers: int
    blobs: int
    tenants: npt.NDArray[np.void]
    segments: Mapping[str, bytes]

    def numbers(self, table: str) -> npt.NDArray[np.uint32]:
        """The tenant's number of each segment of a table."""
        return np.frombuffer(self.segments.get(table, b""), dtype=_NUMBERS)["number"].astype(np.uint32)

    def entries(self, table: str, first: int = 0, last: int | None = None) -> Iterator[Segment]:
        """The segments of a table from the first-th to before the last-th."""
        raw = self.segments.get(table, b"")
        end = len(raw) if last is None else last * _SEGMENT.size
        return map(Segment._make, _SEGMENT.iter_unpack(raw[first * _SEGMENT.size : end]))

    def header(self, at: int, size: int) -> bytes:
        """A tenant's header; DecryptionError where it is not there."""
        return self._read(self.headers + at, size)

    def blob(self, at: int, size: int) -> bytes:
        """Slips and segments; DecryptionError where they are not there."""
        return self._read(self.blobs + at, size)

    def _read(self, at: int, size: int) -> bytes:
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise fmt.damaged() from None
        try:
            data = os.pread(fd, size, at)
            if len(data) == size:
                return data
            out = bytearray(size)
            files.fill(fd, memoryview(out), at)
        except EOFError:
            raise fmt.damaged() from None
        finally:
            os.close(fd)
        return bytes(out)


class Builder:
    """A pack that is being filled."""

    __slots__ = ("_blobs", "_headers", "_host_id", "_segments", "_tenants")

    def __init__(self, host_id: bytes) -> None:
        self._host_id, self._tenants, self._headers, self._blobs = host_id, bytearray(), bytearray(), bytearray()
        self._segments: dict[str, bytearray] = {}

    @property
    def size(self) -> int:
        """Bytes so far. At FULL it is time to write it: places are u32."""
        return len(self._headers) + len(self._blobs)

    def tenant(self, number: int, vault_id: bytes, device_key: bytes, header: bytes) -> None:
        """Add a tenant with its header."""
        self._tenants += _TENANT.pack(number, vault_id, device_key, len(self._headers), len(header))
        self._headers += header

    def put(
        self, number: int, vault_id: bytes, device_key: bytes, table: str, domain: DomainKey, codes: pl.DataFrame
    ) -> None:
        """Seal rows as a segment of the tenant's vault, and its domain key under its device key beside it."""
        kind, payload = codec.write(codes.rechunk())
        segment_id = kdf.random(fmt.ID)
        sealed = bytes(segment.seal(vault_id, segment_id, domain, payload))
        info = _slip_info(self._host_id, vault_id, segment_id, domain.id, domain.epoch)
        key, commitment = kdf.derive_committed(device_key, salt=segment.salt_of(sealed), info=info)
        slip = commitment + aead.encrypt(key, fmt.ZERO_NONCE, domain.key, info)
        entry = Segment(number, kind, domain.epoch, codes.height, len(payload), 0, len(sealed), segment_id, domain.id)
        self.moved(table, entry, slip + sealed)

    def moved(self, table: str, entry: Segment, blob: bytes) -> None:
        """Add a segment as it is: the same slip and the same sealed bytes."""
        placed = entry._replace(at=len(self._blobs))
        self._segments.setdefault(table, bytearray()).extend(_SEGMENT.pack(*placed))
        self._blobs += blob

    def write(self, directory: Path, key: bytes) -> Pack:
        """The pack, durable; OSError where it cannot be written."""
        pack_id, salt = kdf.random(fmt.ID), kdf.random(32)
        tables = {name: bytes(raw) for name, raw in sorted(self._segments.items())}
        index = cbor.encode([bytes(self._tenants), tables, len(self._headers), len(self._blobs)])
        index_key, commitment = kdf.derive_committed(key, salt=salt, info=_info(self._host_id, pack_id))
        head = fmt.preamble(fmt.MAGIC_PACK, self._host_id) + _HEAD.pack(pack_id, len(index), salt, commitment)
        data = bytearray(head)
        data += aead.encrypt_stream(index_key, index, head)
        start = len(data)
        data += self._headers
        data += self._blobs
        path = directory / pack_id.hex()
        files.create(path, data)
        tenants = np.frombuffer(bytes(self._tenants), dtype=TENANTS)
        return Pack(path, pack_id, len(data), start, start + len(self._headers), tenants, tables)


def load(directory: Path, host_id: bytes, key: bytes, pack_id: bytes, size: int) -> Pack:
    """A pack that the host's state names; DecryptionError where it is not that one, whole."""
    path = directory / pack_id.hex()
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise fmt.damaged()
            head = file.read(_HEAD_SIZE)
            fmt.check_preamble(head, fmt.MAGIC_PACK, host_id)
            found, length, salt, commitment = _HEAD.unpack_from(head, fmt.PREAMBLE)
            sealed = aead.sealed_length(length)
            if found != pack_id or _HEAD_SIZE + sealed > size:
                raise fmt.damaged()
            index_key = fmt.committed_key(key, salt, commitment, _info(host_id, pack_id))
            tenants, tables, headers, blobs = cbor.decode(
                bytes(aead.decrypt_stream(index_key, file.read(sealed), head))
            )
        start = _HEAD_SIZE + sealed
        if start + headers + blobs != size or any(len(raw) % _SEGMENT.size for raw in tables.values()):
            raise fmt.damaged()
        return Pack(path, pack_id, size, start, start + headers, np.frombuffer(tenants, dtype=TENANTS), tables)
    except (VerificationError, struct.error, TypeError, ValueError, FileNotFoundError):
        raise fmt.damaged() from None


def _info(host_id: bytes, pack_id: bytes) -> bytes:
    return fmt.context(b"pack", host_id, pack_id)


def _slip_info(host_id: bytes, vault_id: bytes, segment_id: bytes, domain_id: bytes, epoch: int) -> bytes:
    return fmt.context(b"host-slip", host_id, vault_id, segment_id, domain_id, struct.pack(">I", epoch))


def collect(
    pack: Pack, host_id: bytes, entries: Sequence[Segment], ids: bytes, keys: bytes, columns: Sequence[str] | None
) -> pl.DataFrame:
    """The rows of segments of one table, in their order, each opened with its tenant's device key.

    Args:
        entries: at least one. ids, keys: the vault id and the device key of the tenant of each, one after the other.

    Raises:
        DecryptionError: a slip or a segment is damaged, or another tenant's.
    """
    base = min(entry.at for entry in entries)
    blobs = pack.blob(base, max(entry.at + SLIP + entry.size for entry in entries) - base)
    payloads: list[bytes | bytearray] = []
    slip_context, unseal, open_short = fmt.context(b"host-slip", host_id), segment.unseal_with, aead.open_short
    for i, (_, _, epoch, _, payload, place, size, segment_id, domain_id) in enumerate(entries):
        at, vault_id = place - base, ids[16 * i : 16 * i + 16]
        middle, end = at + SLIP, at + SLIP + size
        sealed, key, domain = blobs[middle:end], keys[32 * i : 32 * i + 32], domain_id + epoch.to_bytes(4, "big")
        info = slip_context + vault_id + segment_id + domain
        domain_key = open_short(
            key, segment.salt_of(sealed), info, blobs[at : at + 32], blobs[at + 32 : middle], info, fmt.ZERO_NONCE
        )
        payloads.append(unseal(vault_id, segment_id, domain, domain_key, sealed)[:payload])
    frames: list[pl.DataFrame] = []
    for kind, run in itertools.groupby(zip(entries, payloads, strict=True), key=lambda item: item[0].codec):
        found = [data for _, data in run]
        if kind == codec.IPC:
            frames += [frame for _, frame in codec.read_streams(found, columns)]
        else:
            frames += [codec.read(kind, io.BytesIO(data), columns).rechunk() for data in found]
    together = pl.concat(frames)
    if together.to_series().chunk_lengths() != [entry.rows for entry in entries]:
        raise fmt.damaged()
    return together.rechunk()
