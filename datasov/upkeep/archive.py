"""A backup's file: pieces sealed under a key derived from the operator's, a manifest of hashes, and a hash of it all.

docs/spec/backup.md. Nothing here holds a key: who has the file alone sees the city's id, a checkpoint and sizes.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datasov.crypto.aead import decrypt_stream, encrypt_stream
from datasov.crypto.kdf import derive_committed, hkdf, random, same, sha256
from datasov.errors import DecryptionError, StoreError, VerificationError
from datasov.store import durable
from datasov.wire import cbor, fields

MAGIC = b"DSBACK\x00\x01"
PIECE = 16 * 1024 * 1024
"""Plaintext bytes in a piece, at most."""
_LENGTH, _FOOTER = struct.Struct(">I"), struct.Struct(">QQ")
_DIGEST = 32
_INFO = b"datasov backup v1"
_MAX_HEADER, _MAX_ID, _MAX_NOTE = 512 * 1024, 256, 256 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says in the clear.

    Attributes:
        city: the text of the city's id.
        time: Unix seconds.
        note: the signed checkpoint of the log as the backup holds it.
    """

    city: str
    time: int
    note: bytes


@contextmanager
def writing(path: Path, operator: bytes, header: Header) -> Iterator[Callable[[str, Path], None]]:
    """Make a new file: `add(name, source)` for each member. It is there once this ends, or not at all.

    Raises:
        StoreError: the path exists, or the disk refuses.
    """
    if path.exists():
        raise StoreError(f"{path.name} exists already: choose another path")
    part = path.with_name(f".{path.name}.{random(4).hex()}.part")
    try:
        with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            salt = random(32)
            key, commitment = derive_committed(_sealing(operator), salt=salt, info=_INFO)
            head = cbor.encode({1: header.city, 2: header.time, 3: header.note, 4: salt, 5: commitment})
            file.write(MAGIC + _LENGTH.pack(len(head)) + head)
            members: list[list[object]] = []
            pieces = 0

            def piece(content: bytes) -> None:
                nonlocal pieces
                sealed = encrypt_stream(_piece_key(key, pieces), content, sha256(head))
                file.write(_LENGTH.pack(len(sealed)) + sealed)
                pieces += 1

            def add(name: str, source: Path) -> None:
                first, whole, size = pieces, hashlib.sha256(), 0
                with source.open("rb") as content:
                    while data := content.read(PIECE):
                        whole.update(data)
                        size += len(data)
                        piece(data)
                members.append([name, size, whole.digest(), first])

            yield add
            manifest = file.tell()
            piece(cbor.encode(members))
            file.write(_FOOTER.pack(manifest, pieces - 1))
            file.write(_digest(file, file.tell()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        durable.sync_folder(path.parent)
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be written: {fault.strerror or fault}") from fault
    finally:
        part.unlink(missing_ok=True)


def check(path: Path) -> Header:
    """What a backup says in the clear, once every byte of the file is as it was written. No key is needed.

    Raises:
        StoreError: no backup, cut short or damaged, or it cannot be read.
    """
    with _open(path) as file:
        return _header(_checked(path, file))[0]


def extract(path: Path, operator: bytes, folder: Path) -> Header:
    """Write every member of a backup below a folder, durably, once the file is whole.

    Raises:
        StoreError: no backup, cut short, damaged, or sealed under another operator's key; or the disk refuses.
    """
    with _open(path) as file:
        head = _checked(path, file)
        header, salt, commitment = _header(head)
        key, expected = derive_committed(_sealing(operator), salt=salt, info=_INFO)
        if not same(commitment, expected):
            raise StoreError(f"{path.name} was made under another operator's key: bring the key that the city had then")
        try:
            file.seek(-_FOOTER.size - _DIGEST, os.SEEK_END)
            manifest, number = _FOOTER.unpack(file.read(_FOOTER.size))
            file.seek(manifest)
            members = fields.items(cbor.decode(_piece(file, key, number, head)), 0, 10**7)
            file.seek(len(MAGIC) + _LENGTH.size + len(head))
            at = 0
            for member in members:
                name, size, digest, first = fields.items(member, 4, 4)
                if first != at:
                    raise VerificationError("out of order")
                at += _member(file, key, head, at, folder, name, size, digest)
        except (VerificationError, struct.error, ValueError):
            raise _damaged(path) from None
    return header


def _member(
    file: BinaryIO, key: bytes, head: bytes, first: int, folder: Path, name: object, size: object, digest: object
) -> int:
    """Write one member; how many pieces it took."""
    relative = Path(fields.text(name, 1024))
    if relative.is_absolute() or ".." in relative.parts:
        raise VerificationError("a path that leads elsewhere")
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    left, whole, pieces = fields.integer(size, 0, 2**62), hashlib.sha256(), 0
    with target.open("xb") as out:
        while left > 0:
            data = _piece(file, key, first + pieces, head)
            if not 0 < len(data) <= left:
                raise VerificationError("a piece of another length")
            whole.update(data)
            out.write(data)
            left, pieces = left - len(data), pieces + 1
        out.flush()
        os.fsync(out.fileno())
    if whole.digest() != digest:
        raise VerificationError("another content")
    return pieces


def _piece(file: BinaryIO, key: bytes, number: int, head: bytes) -> bytes:
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > 2 * PIECE:
        raise DecryptionError("a piece that is too long")
    return bytes(decrypt_stream(_piece_key(key, number), file.read(length), sha256(head)))


def _sealing(operator: bytes) -> bytes:
    return hkdf(operator, salt=b"", info=b"datasov backup key v1")


def _piece_key(key: bytes, number: int) -> bytes:
    return hkdf(key, salt=b"", info=b"datasov backup piece v1" + number.to_bytes(8, "big"))


def _header(head: bytes) -> tuple[Header, bytes, bytes]:
    try:
        found = fields.labelled(cbor.decode(head), range(1, 6))
        header = Header(
            fields.text(found[1], _MAX_ID), fields.integer(found[2], 0, fields.MAX_TIME),
            fields.blob(found[3], _MAX_NOTE),
        )  # fmt: skip
        return header, fields.octets(found[4], 32), fields.octets(found[5], 32)
    except VerificationError:
        raise StoreError("this is no backup of a city that this version reads: update datasov") from None


def _checked(path: Path, file: BinaryIO) -> bytes:
    """The bytes of the header, once the hash at the end is that of all before it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise StoreError(f"{path.name} is no backup of a city: name a file that `datasov city backup` made")
    if size < len(MAGIC) + _LENGTH.size + _FOOTER.size + _DIGEST:
        raise _damaged(path)
    digest = _digest(file, size - _DIGEST)
    if file.read(_DIGEST) != digest:
        raise _damaged(path)
    file.seek(len(MAGIC))
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > _MAX_HEADER:
        raise _damaged(path)
    return file.read(length)


def _digest(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    whole = hashlib.sha256()
    while length > 0 and (data := file.read(min(length, 1 << 20))):
        whole.update(data)
        length -= len(data)
    return whole.digest()


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be used: {fault.strerror or fault}") from fault


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path.name} is cut short or damaged: take another copy of the backup")
