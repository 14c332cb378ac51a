"""Who may sign with a key that is no Ed25519 key: the city's directory of enrolled keys.

A token names its key by 32 bytes. They are the Ed25519 key itself, unless the directory knows them as the thumbprint of
a key of another kind. So the kind, and with it the algorithm, is the directory's word and never the header's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from datasov.crypto.certificate import Certified
from datasov.crypto.es256 import P256Key
from datasov.crypto.sign import check_public
from datasov.errors import SignatureError, StoreError
from datasov.wire import cbor, fields

STREAM = "signers"
_ES256 = "es256"


class Directory(Protocol):
    """What keys the names in tokens stand for."""

    def key(self, name: bytes) -> bytes | P256Key:
        """The key of a name; SignatureError where it is none, or may not sign now."""
        ...


class Ed25519Only:
    """The directory of those who enrolled nobody: every name is an Ed25519 key."""

    def key(self, name: bytes) -> bytes | P256Key:
        check_public(name)
        return name


ED25519_ONLY = Ed25519Only()


class _Reader(Protocol):
    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...


class Signers:
    """The directory of a city: keys enrolled with a certificate, read from its store. Of a certificate nothing else is
    kept, since it says whose it is.
    """

    def __init__(self, store: _Reader) -> None:
        self._store, self._lock = store, threading.Lock()
        self._known: dict[bytes, Certified] = {}
        self._read = 0

    def refresh(self) -> int:
        """Read what was enrolled since; how many entries there are."""
        with self._lock:
            for body in self._store.read(STREAM, self._read):
                entry = unpack(body)
                self._known[entry.key.name] = entry
                self._read += 1
            return self._read

    def at(self, now: int | None) -> At:
        """The directory at a time, Unix seconds; None: whenever, since ending a consent needs no valid certificate."""
        return At(self._known, now)


class At:
    """The directory at one time: a certificate's key signs nothing new before or after its validity."""

    def __init__(self, known: dict[bytes, Certified], now: int | None) -> None:
        self._known, self._now = known, now

    def key(self, name: bytes) -> bytes | P256Key:
        entry = self._known.get(name)
        if entry is None:
            check_public(name)
            return name
        if self._now is not None and not entry.not_before <= self._now <= entry.not_after:
            raise SignatureError("the certificate of this key has expired: enrol the renewed one")
        return entry.key


def pack(entry: Certified) -> bytes:
    """An entry as the stream keeps it."""
    return cbor.encode([_ES256, entry.key.point, entry.not_before, entry.not_after])


def unpack(body: bytes) -> Certified:
    """The entry of what :func:`pack` gave."""
    kind, point, not_before, not_after = fields.items(cbor.decode(body), 4, 4)
    if kind != _ES256:
        raise StoreError("a key of an unknown kind in the directory: update datasov")
    return Certified(P256Key(fields.octets(point, 65)), not_before, not_after)
