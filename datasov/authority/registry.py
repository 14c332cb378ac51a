"""Who consents to what, now: a fold over append-only streams.

One list of residents for each (schema, purpose), called a partition. A resident's place in it, and so their account of
loss, is bound to their account key and stays through renewals, revocation and erasure. The tokens themselves stay in
the store, and are read where one is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from datasov.authority import token
from datasov.authority.columns import Index
from datasov.authority.events import covered_columns, covered_tables, erasure_of, token_of
from datasov.authority.partition import Partition
from datasov.authority.reserved import Reserved
from datasov.errors import ConsentError, StoreError
from datasov.model.consent import Consent
from datasov.model.document import digest
from datasov.model.schema import Schema
from datasov.wire import cbor, fields

__all__ = ["Ending", "Partition", "Registry", "covered_columns", "covered_tables", "partition_name"]

_AT_ONCE = 1 << 15
STATUS, ERASURES = "status", "erasures"
"""Streams: what was published of status lists, and the erasures that the log does not tell of yet."""


class Reader(Protocol):
    """Streams to read."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def length(self, stream: str) -> int: ...


def partition_name(schema: Schema, purpose: str) -> str:
    """The name of the list of residents who consented to `purpose` for `schema`."""
    return _name(schema.digest, purpose)


def _name(schema: bytes, purpose: str) -> str:
    return digest({"schema": schema.hex(), "purpose": purpose}).hex()[:32]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a revocation appends, in one transaction, and the blobs that go with it."""

    streams: Mapping[str, tuple[int, Sequence[bytes]]]
    blobs: Mapping[str, bytes | None]


class Registry:
    """All partitions of a city, read from its store and kept up to date.

    Partitions move on in place, but never while another thread holds `lock`: it is held where several looks at a
    partition must agree, as what is decided from one and the version that the decision is appended at.
    """

    def __init__(self, store: Reader) -> None:
        self._store, self.lock = store, threading.RLock()
        self._partitions: dict[str, Partition] = {}
        self._listed = 0
        self._barred: dict[bytes, tuple[int, int]] = {}
        self._marks, self._published = Index(), 0
        self.reserved = Reserved(store)

    def partition(self, name: str) -> Partition:
        """The partition, up to date; where nobody was admitted yet an empty one, which is not kept.

        Anybody can name one, by a question or by a revocation of what never came; each that is kept is read ever after.
        """
        with self.lock:
            known = self._partitions.get(name)
            found = Partition(name) if known is None else known
            while events := self._store.read(found.stream, found.version, _AT_ONCE):
                found.apply(events)
                self._partitions[name] = found
                if len(events) < _AT_ONCE:
                    break
            return found

    def refresh(self) -> Sequence[Partition]:
        """All partitions, up to date."""
        with self.lock:
            for body in self._store.read("barred", len(self._barred)):
                consent, time, status = fields.items(cbor.decode(body), 3, 3)
                self._barred[consent] = time, status
            for body in self._store.read(STATUS, self._published):
                self._published += 1
                marks = np.frombuffer(cbor.decode(body)[4], dtype="<u4")
                self._marks.add(marks, np.zeros(len(marks)))
            for body in self._store.read("partitions", self._listed):
                self._listed += 1
                self._partitions.setdefault(body.decode(), Partition(body.decode()))
            return [self.partition(name) for name in list(self._partitions)]

    @property
    def listed(self) -> int:
        """Length of the stream that lists the partitions, as last read."""
        return self._listed

    @property
    def published(self) -> int:
        """Length of the stream of published status lists, as last read."""
        return self._published

    @property
    def bars(self) -> int:
        """Length of the stream of consents that were revoked before they came, as last read."""
        return len(self._barred)

    def barred(self, consent: bytes) -> bool:
        """Whether the consent with this digest was revoked before it came; as last read."""
        return consent in self._barred

    def taken(self, status: int, consent: bytes = b"") -> bool:
        """Whether an index of the status lists is marked, or another consent's than that with this digest."""
        with self.lock:
            if status in self._marks:
                return True
            return any(
                partition.columns["digest"][place].tobytes() != consent
                for partition in self._partitions.values()
                for place in partition.statuses[status]
            )

    def unmarked(self, before: int) -> list[int]:
        """Status indices of consents that were revoked before a time and that no list marks yet; as last read."""
        with self.lock:
            held = [pair for partition in self._partitions.values() for pair in partition.revoked]
            came = {status for time, status in held if time < before}
            came |= {s for time, s in self._barred.values() if time < before and not self.taken(s)}
            waiting = np.fromiter(came, dtype=np.uint32, count=len(came))
            return [int(s) for s in waiting[~self._marks.holds(waiting)]]

    def consent(self, partition: Partition, place: int) -> Consent:
        """The newest consent at a place, read from the store."""
        return token.reread(token_of(self._admission(partition, int(partition.columns["event"][place]))))

    def erasure(self, partition: Partition, place: int, *, folded: bool) -> bytes:
        """The hash for the erasure of what came last at a place, or with `folded` of its rows in a shard; 32 bytes."""
        return erasure_of(self._admission(partition, int(partition.columns["held" if folded else "event"][place])))

    def _admission(self, partition: Partition, number: int) -> bytes:
        if number == 0:
            raise StoreError("nothing was admitted at this place: please report it")
        return self._store.read(partition.stream, number - 1, 1)[0]

    def ending(self, consent: Consent, now: int) -> Ending:
        """What a verified revocation ends. A consent that never came is barred.

        Raises:
            ConsentError: it is revoked or superseded already.
        """
        with self.lock:
            self.refresh()
            claims = consent.claims
            partition = self.partition(_name(claims.coverage[0].schema_digest, claims.purpose))
            place = partition.places.get(claims.account)
            member = None if place is None else partition.member(place)
            if place is None or member is None or not (
                member.digest == consent.digest or partition.superseded(consent.digest, place)
            ):  # fmt: skip
                if self.barred(consent.digest):
                    raise _over()
                body = cbor.encode([consent.digest, now, claims.status])
                return Ending({partition.stream: (partition.version, []), "barred": (self.bars, [body])}, {})
            if member.digest != consent.digest or not member.live:
                raise _over()
            streams: dict[str, tuple[int, Sequence[bytes]]] = {
                partition.stream: (partition.version, [cbor.encode(["revoke", place, now])]), "barred": (self.bars, []),
            }  # fmt: skip
            if member.blob is None:
                return Ending(streams, {})
            streams[ERASURES] = self.erased(now, [self.erasure(partition, place, folded=False)])
            return Ending(streams, {member.blob: None})

    def erased(
        self, now: int, hashes: Sequence[bytes], shard: tuple[str, int, int, bytes, int, bytes] | None = None
    ) -> tuple[int, Sequence[bytes]]:
        """What to append to :data:`ERASURES` when contributions are gone from the city.

        Args:
            hashes: those that their residents sent for it. shard: partition, number, and the generation and fingerprint
                of the shard's file before and after; None where a contribution went that was in no shard yet.
        """
        body = cbor.encode([now, b"".join(hashes), None if shard is None else list(shard)])
        return self._store.length(ERASURES), [body]


def _over() -> ConsentError:
    """The same whether or not the consent ever came: who sends a revocation again is not told."""
    return ConsentError("the consent was revoked or superseded already: revoke your newest one")
