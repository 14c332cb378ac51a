"""log/<id>: acknowledged puts, one record each, every record chained to the one before it by its tag.

One record holds the rows of all tables of one put, so that a put over several domains is one write and one flush. The
record is sealed under the vault's key, and each table's part of it once more under its domain's key, so that erasing a
domain's key erases its rows here too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from datasov.crypto import aead, kdf
from datasov.errors import DecryptionError
from datasov.vault import codec, files
from datasov.vault import format as fmt
from datasov.vault.keys import DomainKey, Secrets
from datasov.vault.manifest import LogEntry

_HEAD = struct.Struct(">16sI32s32s")
_HEAD_SIZE = fmt.PREAMBLE + _HEAD.size
START = _HEAD_SIZE + aead.TAG
"""Bytes before the first record: the header and its tag."""
_HEADER_NONCE = b"\xff" * 12
_LENGTH = struct.Struct(">I")
_BOX = _LENGTH.size + aead.TAG
_NONCE = struct.Struct(">4xQ")
_PART_NONCE = struct.Struct(">QI")
_RECORD = struct.Struct(">QH")
_PART = struct.Struct(">HIII32s")
_LIMIT = 1 << 31
_ROOM, _MAX_ROOM = 1 << 16, 1 << 20
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Part:
    """One table's rows in one record, still sealed under its domain's key."""

    sequence: int
    table: str
    epoch: int
    rows: int
    commitment: bytes
    sealed: bytes
    nonce: bytes
    aad: bytes


class _Keys:
    """The keys of one log: its own, and those of the domains that have parts in it."""

    __slots__ = ("_domains", "_log_id", "_salt", "_vault_id", "key")

    def __init__(self, vault_id: bytes, log_id: bytes, salt: bytes, key: bytes) -> None:
        self._vault_id, self._log_id, self._salt, self.key = vault_id, log_id, salt, key
        self._domains: dict[tuple[bytes, int], tuple[bytes, bytes]] = {}

    def domain(self, domain: DomainKey) -> tuple[bytes, bytes]:
        """(key, commitment) of a domain in this log."""
        where = (domain.id, domain.epoch)
        if where not in self._domains:
            info = fmt.context(b"log-part", self._vault_id, self._log_id, domain.id, struct.pack(">I", domain.epoch))
            self._domains[where] = kdf.derive_committed(domain.key, salt=self._salt, info=info)
        return self._domains[where]


def _info(secrets: Secrets, log_id: bytes) -> bytes:
    return fmt.context(b"log", secrets.vault_id, log_id)


class Writer:
    """The one live log of a writer. After any OSError from `append` the log takes no more records."""

    __slots__ = ("_directory", "_encrypt", "_fd", "_keys", "_parts", "_pid", "_room", "_start", "entry")

    def __init__(self, directory: Path, secrets: Secrets, log_id: bytes) -> None:
        salt, epoch = kdf.random(32), secrets.epoch
        key, commitment = kdf.derive_committed(secrets.vault_key(epoch), salt=salt, info=_info(secrets, log_id))
        head = fmt.preamble(fmt.MAGIC_LOG, secrets.vault_id) + _HEAD.pack(log_id, epoch, salt, commitment)
        self._encrypt = aead.encryptor(key)
        self._parts: dict[tuple[bytes, int], tuple[Callable[[bytes, bytes, bytes], bytes], bytes]] = {}
        self._start = head + self._encrypt(_HEADER_NONCE, b"", head)
        self._keys = _Keys(secrets.vault_id, log_id, salt, key)
        self._directory, self._fd, self._room, self._pid = directory, -1, 0, os.getpid()
        self.entry = LogEntry(log_id, 0, 0, self._start[-aead.TAG :])

    def append(self, sequence: int, parts: Sequence[tuple[str, DomainKey, pl.DataFrame]]) -> None:
        """Seal and write one record; it is durable on return. OSError: it is not part of the log."""
        entry = self.entry
        body = bytearray(_RECORD.pack(sequence, len(parts)))
        for index, (table, domain, codes) in enumerate(parts):
            name = table.encode()
            encrypt, commitment = self._part(domain)
            sealed = encrypt(_PART_NONCE.pack(entry.records, index), codec.to_ipc(codes), entry.tag + name)
            body += _PART.pack(len(name), domain.epoch, codes.height, len(sealed), commitment) + name
            body += sealed
        box = self._encrypt(_NONCE.pack(2 * entry.records), _LENGTH.pack(len(body)), entry.tag)
        sealed = self._encrypt(_NONCE.pack(2 * entry.records + 1), bytes(body), box[-aead.TAG :])
        first = self._fd < 0
        self._write(self._start + box + sealed if first else box + sealed, first)
        size = (START if first else entry.size) + len(box) + len(sealed)
        self.entry = LogEntry(entry.id, size, entry.records + 1, sealed[-aead.TAG :])

    def _part(self, domain: DomainKey) -> tuple[Callable[[bytes, bytes, bytes], bytes], bytes]:
        """What seals a domain's parts in this log, and the commitment to its key."""
        where = (domain.id, domain.epoch)
        if where not in self._parts:
            key, commitment = self._keys.domain(domain)
            self._parts[where] = aead.encryptor(key), commitment
        return self._parts[where]

    def _write(self, data: bytes, first: bool) -> None:
        try:
            if first:
                name = self._directory / files.LOGS / self.entry.id.hex()
                self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            end = self.entry.size + len(data)
            if end > self._room:
                room = end + min(max(end, _ROOM), _MAX_ROOM)
                files.allocate(self._fd, self._room, room - self._room)
                self._room = room
            files.write_all(self._fd, data)
            files.flush(self._fd)
            if first:
                files.sync_directory(self._directory / files.LOGS)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.entry.size)
            raise

    def end(self) -> LogEntry:
        """Close the file, cut where the log ends; the entry of the log as it ends.

        A fork's child cuts nothing: where the log ends is for its parent to know.
        """
        if self._fd >= 0:
            if self._pid == os.getpid():
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.entry.size)
            os.close(self._fd)
            self._fd = -1
        return replace(self.entry, closed=True)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.end()


class Reader:
    """The records of one log. `end` is known once `parts` is exhausted."""

    __slots__ = ("_data", "_entry", "_keys", "_secrets", "end")

    def __init__(self, directory: Path, secrets: Secrets, entry: LogEntry, *, missing_ok: bool) -> None:
        """Read and check the header.

        Args:
            missing_ok: a log of which no record is known may not be there yet.

        Raises:
            DecryptionError: the file is not this log.
            FileNotFoundError: it is not there.
        """
        self._secrets, self._entry, self.end = secrets, entry, entry
        self._data, self._keys = b"", None
        if entry.closed and not entry.records:
            return
        try:
            known = entry.size if entry.closed else None
            self._data = data = files.read(directory / files.LOGS / entry.id.hex(), _LIMIT, known)
        except FileNotFoundError:
            if entry.records or not missing_ok:
                raise
            return
        if _torn(data, 0, START) and (not entry.records or len(data) < START):
            if entry.records:
                raise fmt.damaged()
            return
        head = data[:_HEAD_SIZE]
        fmt.check_preamble(head, fmt.MAGIC_LOG, secrets.vault_id)
        log_id, epoch, salt, commitment = _HEAD.unpack_from(head, fmt.PREAMBLE)
        if log_id != entry.id:
            raise fmt.damaged()
        key = fmt.committed_key(secrets.vault_key(epoch), salt, commitment, _info(secrets, log_id))
        aead.decrypt(key, _HEADER_NONCE, data[_HEAD_SIZE:START], head)
        self._keys = _Keys(secrets.vault_id, log_id, salt, key)

    def parts(self) -> Iterator[Part]:
        """Every part of every record, in order.

        Raises:
            DecryptionError: damage, except that an open log may end in a torn record after what is known of it.
        """
        if self._keys is None:
            self.end = replace(self._entry, closed=True)
            return
        data, key, entry = self._data, self._keys.key, self._entry
        at, number, tag = START, 0, data[_HEAD_SIZE:START]
        known = entry.records == 0
        while at < len(data):
            body, after = self._record(key, at, number, tag)
            if body is None:
                break
            yield from _parts(body, number, tag)
            at, number, tag = after, number + 1, data[after - aead.TAG : after]
            if number == entry.records:
                if at != entry.size or tag != entry.tag:
                    raise fmt.damaged()
                known = True
        if not known:
            raise fmt.damaged()
        self.end = LogEntry(entry.id, at if number else 0, number, tag, closed=True)

    def _record(self, key: bytes, at: int, number: int, tag: bytes) -> tuple[bytes | None, int]:
        """(body, where the next record starts), or (None, at) where the records end at `at`.

        Past what is known of an open log the last record may be torn, with nothing after it. Anything else that does
        not verify is damage.
        """
        data, last = self._data, not self._entry.closed and number >= self._entry.records
        box = data[at : at + _BOX]
        if last and not box.strip(b"\0") and not data[at:].strip(b"\0"):
            return None, at
        try:
            (length,) = _LENGTH.unpack(aead.decrypt(key, _NONCE.pack(2 * number), box, tag))
        except DecryptionError:
            if last and _torn(data, at, at + _BOX):
                return None, at
            raise
        after = at + _BOX + length + aead.TAG
        try:
            return aead.decrypt(key, _NONCE.pack(2 * number + 1), data[at + _BOX : after], box[-aead.TAG :]), after
        except DecryptionError:
            if last and _torn(data, at, after) and not data[after:].strip(b"\0"):
                return None, at
            raise

    def payload(self, part: Part, domain_id: bytes) -> bytes:
        """The rows of a part, as an Arrow IPC stream."""
        if self._keys is None:
            raise fmt.damaged()
        key, commitment = self._keys.domain(self._secrets.domain_at(domain_id, part.epoch))
        if not kdf.same(commitment, part.commitment):
            raise fmt.damaged()
        return aead.decrypt(key, part.nonce, part.sealed, part.aad)


def _torn(data: bytes, start: int, end: int) -> bool:
    """Whether a write from start to end did not reach the medium whole.

    It was cut short, by the end of the file or by zeros up to it (room is set aside as zeros); or a sector, as far as
    it lies within, is all zeros.
    """
    if len(data) < end or not data[end - 1 :].strip(b"\0"):
        return True
    edges = [start, *range(start - start % _SECTOR + _SECTOR, end, _SECTOR), end]
    return any(not data[a:b].strip(b"\0") for a, b in itertools.pairwise(edges))


def _parts(body: bytes, number: int, tag: bytes) -> Iterator[Part]:
    try:
        sequence, count = _RECORD.unpack_from(body)
        at = _RECORD.size
        for index in range(count):
            name_size, epoch, rows, size, commitment = _PART.unpack_from(body, at)
            at += _PART.size
            name, sealed = body[at : at + name_size], body[at + name_size : at + name_size + size]
            at += name_size + size
            yield Part(
                sequence, name.decode(), epoch, rows, commitment, sealed, _PART_NONCE.pack(number, index), tag + name
            )
    except (struct.error, UnicodeDecodeError):
        raise DecryptionError(str(fmt.damaged())) from None
