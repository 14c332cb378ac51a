"""Who consents to what, now: a fold over append-only streams.

One list of residents for each (schema, purpose), called a partition. A resident's place in it, and so their account of
loss, is bound to their account key and stays through renewals, revocation and erasure.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from datasov.authority import token
from datasov.authority.reserved import Reserved
from datasov.errors import ConsentError, StoreError
from datasov.model.consent import Claims, Consent
from datasov.model.document import digest
from datasov.model.schema import Schema
from datasov.wire import cbor

Mask = npt.NDArray[np.bool_]


class Reader(Protocol):
    """Streams to read."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...


def partition_name(schema: Schema, purpose: str) -> str:
    """The name of the list of residents who consented to `purpose` for `schema`."""
    return _name(schema.digest, purpose)


def _name(schema: bytes, purpose: str) -> str:
    return digest({"schema": schema.hex(), "purpose": purpose}).hex()[:32]


def covered_columns(claims: Claims) -> frozenset[str]:
    """Names of the covered columns, those of joined tables as `table.column`."""
    base, *joined = claims.coverage
    return frozenset(base.columns) | {f"{c.table}.{name}" for c in joined for name in c.columns}


def covered_tables(claims: Claims) -> dict[str, bytes]:
    """Name and schema digest of each covered table."""
    return {c.table: c.schema_digest for c in claims.coverage}


@dataclass(slots=True)
class Member:
    """One resident of a partition: their newest consent, and where their newest contribution is.

    `blob` names a sealed contribution that is not yet in a shard; `folded` says that rows of theirs lie in one.
    """

    consent: Consent
    sequence: int
    blob: str | None
    live: bool = True
    folded: bool = False

    def lasting(self, now: int) -> bool:
        """Whether the consent is neither revoked nor expired."""
        return self.live and now < self.consent.claims.expires


class Partition:
    """The residents of one (schema, purpose), by their places 0, 1, 2 ... in order of first admission."""

    def __init__(self, name: str) -> None:
        self.name, self.version = name, 0
        self.members: list[Member] = []
        self.places: dict[bytes, int] = {}
        self.shards: dict[int, tuple[int, bytes]] = {}
        self._size = 0
        self._numbers = np.zeros((5, 0), dtype=np.int64)
        self._covers: dict[str, Mask] = {}

    @property
    def stream(self) -> str:
        return "registry/" + self.name

    def __len__(self) -> int:
        return len(self.members)

    def eligible(self, columns: Iterable[str], tables: Mapping[str, bytes], trust: str, measure: str, now: int) -> Mask:
        """Whose live consent covers the columns at this time, under this trust and measure; one entry a resident.

        A joined table must be the very schema that the consent names. A consent in pure epsilon admits pure mechanisms
        alone, and one in zCDP those of zCDP: each has an account of its own.
        """
        live, begins, ends = self._numbers[:3, : self._size]
        mask: Mask = (live == 1) & (begins <= now) & (now < ends)
        names = [*columns, "trust:" + trust, "measure:" + measure, *(f"{t}:{d.hex()}" for t, d in tables.items())]
        for name in names:
            cover = self._covers.get(name)
            mask &= np.zeros(self._size, dtype=np.bool_) if cover is None else cover[: self._size]
        return mask

    def caps(self) -> npt.NDArray[np.int64]:
        """The most that each resident's newest consent allows in all, in nano and in delta; shape (2, residents)."""
        return self._numbers[3:, : self._size].copy()

    def pending(self) -> dict[int, str]:
        """Places and blob names of contributions that are not in a shard yet."""
        return {i: m.blob for i, m in enumerate(self.members) if m.blob is not None}

    def leaving(self, now: int) -> list[int]:
        """Places of residents whose rows must leave their shard: revoked, expired or replaced."""
        return [i for i, m in enumerate(self.members) if m.folded and (m.blob is not None or not m.lasting(now))]

    def apply(self, event: bytes) -> None:
        """Take in one event of the stream."""
        match cbor.decode(event):
            case ["admit", place, bytes(signed), sequence, blob]:
                self._admit(place, token.reread(signed), sequence, blob)
            case ["revoke", place]:
                member = self.members[place]
                member.live, member.blob = False, None
                self._numbers[0, place] = 0
            case ["fold", shard, generation, fingerprint, [first, last], places]:
                self.shards[shard] = generation, fingerprint
                self._folded(first, last, set(places))
            case _:
                raise StoreError("an unknown event in the registry: update datasov")
        self.version += 1

    def _admit(self, place: int, consent: Consent, sequence: int, blob: str) -> None:
        claims = consent.claims
        if place == len(self.members):
            self.members.append(Member(consent, sequence, blob))
            self.places[claims.account] = place
            self._grow(place + 1)
        else:
            old = self.members[place]
            self.members[place] = Member(consent, sequence, blob, folded=old.folded)
        loss = claims.loss
        self._numbers[:, place] = 1, claims.not_before, claims.expires, loss.nano, loss.delta
        for cover in self._covers.values():
            cover[place] = False
        tables = {f"{t}:{d.hex()}" for t, d in covered_tables(claims).items()}
        for name in covered_columns(claims) | tables | {"trust:" + claims.trust.name, "measure:" + loss.measure}:
            if name not in self._covers:
                self._covers[name] = np.zeros(self._numbers.shape[1], dtype=np.bool_)
            self._covers[name][place] = True

    def _folded(self, first: int, last: int, places: set[int]) -> None:
        """From now on the rows of exactly these places, among first .. last - 1, lie in their shard."""
        for place in range(first, min(last, len(self.members))):
            member = self.members[place]
            member.folded = place in places
            member.blob = None if member.folded else member.blob

    def _grow(self, size: int) -> None:
        self._size = size
        held = self._numbers.shape[1]
        if size > held:
            room = max(1024, held * 2) - held
            self._numbers = np.pad(self._numbers, ((0, 0), (0, room)))
            self._covers = {n: np.pad(c, (0, room)) for n, c in self._covers.items()}


class Registry:
    """All partitions of a city, read from its store and kept up to date.

    Partitions move on in place, but never while another thread holds `lock`: it is held where several looks at a
    partition must agree, as what is decided from one and the version that the decision is appended at.
    """

    def __init__(self, store: Reader) -> None:
        self._store, self.lock = store, threading.RLock()
        self._partitions: dict[str, Partition] = {}
        self._listed = 0
        self._tokens: dict[bytes, tuple[str, int]] = {}
        self._barred: dict[bytes, None] = {}
        self.reserved = Reserved(store)

    def partition(self, name: str) -> Partition:
        """The partition, up to date; an empty one where nobody was admitted yet."""
        with self.lock:
            found = self._partitions.setdefault(name, Partition(name))
            for event in self._store.read(found.stream, found.version):
                found.apply(event)
                self._note(found, event)
            return found

    def refresh(self) -> Sequence[Partition]:
        """All partitions, up to date."""
        with self.lock:
            for digest_ in self._store.read("barred", len(self._barred)):
                self._barred[bytes(digest_)] = None
            for body in self._store.read("partitions", self._listed):
                self._listed += 1
                self._partitions.setdefault(body.decode(), Partition(body.decode()))
            return [self.partition(name) for name in list(self._partitions)]

    @property
    def listed(self) -> int:
        """Length of the stream that lists the partitions, as last read."""
        return self._listed

    def find(self, consent: bytes) -> tuple[Partition, int] | None:
        """Where the consent with this digest was admitted, superseded ones included."""
        with self.lock:
            self.refresh()
            at = self._tokens.get(consent)
            return None if at is None else (self._partitions[at[0]], at[1])

    @property
    def bars(self) -> int:
        """Length of the stream of consents that were revoked before they came, as last read."""
        return len(self._barred)

    def barred(self, consent: bytes) -> bool:
        """Whether the consent with this digest was revoked before it came; as last read."""
        return consent in self._barred

    def ending(self, consent: Consent) -> tuple[Partition, bytes | None, str | None]:
        """What a verified revocation ends: the partition, the event to append, and the blob that goes.

        Without an event the consent never came: it is to be barred.

        Raises:
            ConsentError: it is revoked or superseded already.
        """
        with self.lock:
            at = self.find(consent.digest)
            if at is None:
                claims = consent.claims
                if self.barred(consent.digest):
                    raise ConsentError("the consent was revoked already")
                return self.partition(_name(claims.coverage[0].schema_digest, claims.purpose)), None, None
            live = self.live(consent.digest)
            if live is None:
                raise ConsentError("the consent was revoked or superseded already: revoke your newest one")
            return live

    def live(self, consent: bytes) -> tuple[Partition, bytes, str | None] | None:
        """What would end the consent with this digest: as :meth:`ending`; None where it is not in force."""
        at = self._tokens.get(consent)
        if at is None:
            return None
        partition, place = self._partitions[at[0]], at[1]
        member = partition.members[place]
        if member.consent.digest != consent or not member.live:
            return None
        return partition, cbor.encode(["revoke", place]), member.blob

    def _note(self, partition: Partition, event: bytes) -> None:
        match cbor.decode(event):
            case ["admit", place, *_]:
                consent = partition.members[place].consent
                self._tokens[consent.digest] = partition.name, place
