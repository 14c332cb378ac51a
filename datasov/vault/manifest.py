"""manifest/N: what the vault consists of after its N-th commit, sealed, signed, and chained to the one before it."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasov.crypto import aead, kdf
from datasov.crypto.sign import SigningKey, verify
from datasov.errors import VerificationError
from datasov.vault import files
from datasov.vault import format as fmt
from datasov.vault.keys import Secrets
from datasov.wire import cbor

_HEAD = struct.Struct(">QI32s32sI")
_SIGNATURE = 64
_STEP = 256
_LIMIT = 1 << 28


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One sealed segment: rows of one table, put by the sequence numbers first to last.

    Attributes:
        device_id: the device that put the rows, whichever wrote the segment.
        codec: how the frame is written, see `codec`.
        payload: bytes of the frame as written, before padding and sealing.
        size: bytes of the file.
        digest: SHA-256 of the file's header and of the tags of its chunks.
    """

    id: bytes
    table: str
    domain_id: bytes
    epoch: int
    device_id: bytes
    first: int
    last: int
    rows: int
    codec: int
    payload: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log: how far it is known to reach. A closed one ends there; an open one may go on.

    Attributes:
        size: bytes up to the end of the last record known.
        records: number of records up to there.
        tag: the tag of the last of them, 16 bytes (zeros where there is none).
    """

    id: bytes
    size: int = 0
    records: int = 0
    tag: bytes = bytes(aead.TAG)
    closed: bool = False


@dataclass(frozen=True, slots=True)
class TableEntry:
    """The schema of a table, and those that it had before.

    Attributes:
        digest, document: of the schema, and its canonical text.
        earlier: (digest, canonical text) of those before, oldest first.
        filled: what rows put under those hold in the columns that were added since: codes by name, where not null.
    """

    digest: bytes
    document: bytes
    earlier: tuple[tuple[bytes, bytes], ...] = ()
    filled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state of the vault.

    Attributes:
        counter: the number in the file's name.
        digest: SHA-256 of the file; the next manifest names it.
        generation: the header's generation when this was written; an older header is stale.
        sequence: the next sequence number of a put, as far as this manifest knows.
        tables: name to the schema.
        state: small values kept for the resident.
        anchors: where the (counter, digest) of an earlier manifest was left outside the vault: [kind, bytes].
        doomed: logs that are folded into segments and may still be there.
    """

    counter: int
    digest: bytes = b""
    previous: bytes = bytes(32)
    device_id: bytes = bytes(16)
    generation: int = 1
    sequence: int = 0
    tables: Mapping[str, TableEntry] = field(default_factory=dict)
    segments: tuple[SegmentEntry, ...] = ()
    logs: tuple[LogEntry, ...] = ()
    state: Mapping[str, bytes] = field(default_factory=dict)
    anchors: tuple[tuple[str, bytes], ...] = ()
    doomed: frozenset[bytes] = frozenset()


def path(directory: Path, counter: int) -> Path:
    return directory / files.MANIFESTS / str(counter)


def commit(directory: Path, secrets: Secrets, new: Manifest) -> Manifest:
    """Write a manifest durably, then drop all but the one before it; the manifest as it now stands in the vault.

    The predecessor stays: a vault whose newest manifest lacks its predecessor has lost a newer one.

    Raises:
        OSError: nothing was committed, and the manifest before it is still the newest.
    """
    new = replace(new, device_id=secrets.device_id, generation=secrets.generation)
    data = _seal(secrets, new)
    files.create(path(directory, new.counter), data)
    with contextlib.suppress(OSError):
        os.unlink(path(directory, new.counter - 2))
    return replace(new, digest=kdf.sha256(data))


def drop_before(directory: Path, counter: int) -> None:
    """Unlink older manifests, which a crash or an error left."""
    for name in os.listdir(directory / files.MANIFESTS):
        if _named(name) and int(name) < counter:
            os.unlink(directory / files.MANIFESTS / name)
    files.sync_directory(directory / files.MANIFESTS)


def load(directory: Path, secrets: Secrets) -> Manifest:
    """The newest manifest, once it and the hash of its predecessor verify.

    The header names the manifest that was newest when it was written: none before that one, and no other in its place,
    is taken. Later ones are under the newest vault key, by a device that may sign.

    Raises:
        DecryptionError: it is damaged, foreign or stale, or there is none.
        OSError: the directory cannot be read.
    """
    for _ in range(1000):
        counter = _newest(directory)
        try:
            found = _open(files.read(path(directory, counter), _LIMIT), secrets, counter)
            if counter > 1:
                if kdf.sha256(files.read(path(directory, counter - 1), _LIMIT)) != found.previous:
                    raise fmt.damaged()
            elif found.previous != bytes(32):
                raise fmt.damaged()
        except FileNotFoundError:
            if _newest(directory) == counter:
                raise fmt.damaged() from None
            continue
        return found
    raise fmt.damaged()


def _newest(directory: Path) -> int:
    try:
        names = os.listdir(directory / files.MANIFESTS)
    except FileNotFoundError:
        raise fmt.damaged() from None
    counters = [int(name) for name in names if _named(name)]
    if not counters:
        raise fmt.damaged()
    return max(counters)


def _named(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= 19


def _info(secrets: Secrets, counter: int) -> bytes:
    return fmt.context(b"manifest", secrets.vault_id, struct.pack(">Q", counter))


def _to_be_signed(head: bytes, body: bytes) -> bytes:
    return fmt.context(b"manifest-signature", head, body)


def _seal(secrets: Secrets, new: Manifest) -> bytes:
    body = fmt.pad(cbor.encode(_document(new)), _STEP)
    salt = kdf.random(32)
    key, commitment = kdf.derive_committed(
        secrets.vault_key(secrets.epoch), salt=salt, info=_info(secrets, new.counter)
    )
    head = fmt.preamble(fmt.MAGIC_MANIFEST, secrets.vault_id)
    head += _HEAD.pack(new.counter, secrets.epoch, salt, commitment, _SIGNATURE + len(body) + aead.TAG)
    signature = SigningKey(secrets.device_seed).sign(_to_be_signed(head, body))
    return head + aead.encrypt(key, fmt.ZERO_NONCE, signature + body, head)


def _open(data: bytes, secrets: Secrets, counter: int) -> Manifest:
    fmt.check_preamble(data, fmt.MAGIC_MANIFEST, secrets.vault_id)
    start = fmt.PREAMBLE + _HEAD.size
    if len(data) < start:
        raise fmt.damaged()
    named, epoch, salt, commitment, size = _HEAD.unpack_from(data, fmt.PREAMBLE)
    if named != counter or len(data) != start + size:
        raise fmt.damaged()
    head, digest = data[:start], kdf.sha256(data)
    later = counter > secrets.floor[0]
    if (epoch != secrets.epoch) if later else ((counter, digest) != secrets.floor):
        raise fmt.damaged()
    key = fmt.committed_key(secrets.vault_key(epoch), salt, commitment, _info(secrets, counter))
    try:
        plain = aead.decrypt(key, fmt.ZERO_NONCE, data[start:], head)
        signature, body = plain[:_SIGNATURE], plain[_SIGNATURE:]
        doc = cbor.decode(fmt.unpad(body))
        if later:
            verify(secrets.devices[doc[2]], _to_be_signed(head, body), signature)
        found = _manifest(counter, digest, doc)
    except (VerificationError, KeyError, TypeError, ValueError):
        raise fmt.damaged() from None
    if found.generation > secrets.generation:
        raise fmt.damaged()
    return found


def _document(m: Manifest) -> dict[int, Any]:
    return {
        1: m.previous,
        2: m.device_id,
        3: m.generation,
        4: m.sequence,
        5: [_table(name, entry) for name, entry in sorted(m.tables.items())],
        6: [
            [s.id, s.table, s.domain_id, s.epoch, s.device_id, s.first, s.last, s.rows, s.codec, s.payload, s.size,
             s.digest]
            for s in m.segments
        ],
        7: [[log.id, log.size, log.records, log.tag, log.closed] for log in m.logs],
        8: dict(m.state),
        9: [list(anchor) for anchor in m.anchors],
        10: sorted(m.doomed),
    }  # fmt: skip


def _table(name: str, entry: TableEntry) -> list[Any]:
    changed = [[list(schema) for schema in entry.earlier], dict(entry.filled)] if entry.earlier else []
    return [name, entry.digest, entry.document, *changed]


def _table_entry(digest: bytes, document: bytes, *changed: Any) -> TableEntry:
    if not changed:
        return TableEntry(digest, document)
    earlier, filled = changed
    return TableEntry(digest, document, tuple((d, text) for d, text in earlier), filled)


def _manifest(counter: int, digest: bytes, doc: dict[int, Any]) -> Manifest:
    logs = tuple(LogEntry(*entry[:5]) for entry in doc[7])
    if any(not log.closed for log in logs[:-1]):
        raise fmt.damaged()
    return Manifest(
        counter, digest, doc[1], doc[2], doc[3], doc[4],
        {entry[0]: _table_entry(*entry[1:5]) for entry in doc[5]},
        tuple(SegmentEntry(*entry[:12]) for entry in doc[6]),
        logs, doc[8], tuple((kind, value) for kind, value in doc[9]), frozenset(doc[10]),
    )  # fmt: skip
