"""Admissions of one batch, checked against the registry and each other, for one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datasov.authority import events
from datasov.authority.admission import Admission
from datasov.authority.partition import Member, Partition, blob_name
from datasov.authority.registry import ERASURES, STATUS, Registry, partition_name
from datasov.authority.reserved import STREAM
from datasov.crypto.kdf import random
from datasov.errors import ConflictError, ConsentError, DatasovError, IndexTakenError, StoreError
from datasov.kernel.plan import MAX_RESIDENTS
from datasov.pool.pool import Contributed, Pool
from datasov.store.stores import Store
from datasov.tlog.ticks import ADMISSION, waiting


class Draft:
    """What one transaction will admit. Make a new one when `write` loses a compare-and-append."""

    def __init__(self, registry: Registry, store: Store, pool: Pool, now: int) -> None:
        self._registry, self._store, self._pool, self._now = registry, store, pool, now
        with registry.lock:
            self._committed = store.length("commitments")
            self._versions = {p.name: (p.stream, p.version) for p in registry.refresh()}
            registry.reserved.refresh()
            self._listed, self._bars, self._published = registry.listed, registry.bars, registry.published
            self._under = registry.reserved.version
        self._events: dict[str, list[bytes]] = {}
        self._terms: dict[str, dict[bytes, int]] = {}
        self._accounts: set[tuple[str, bytes]] = set()
        self._roots: set[bytes] = set()
        self._delegated: list[bytes] = []
        self._statuses: set[int] = set()
        self._gone: list[bytes] = []
        self._fresh: dict[str, int] = {}
        self._blobs: dict[str, bytes | None] = {}
        self._commitments: list[bytes] = []

    def add(self, admission: Admission) -> bool:
        """Take in an admission; False where it must wait for the next draft.

        A draft holds one change a resident, and one consent under a delegation that a resident signed.

        Raises:
            ConsentError: replayed, superseded or revoked, or with a status index that is taken.
            ConflictError: the registry moved on since this draft was begun.
        """
        with self._registry.lock:
            return self._add(admission)

    def _add(self, admission: Admission) -> bool:
        claims = admission.consent.claims
        name = partition_name(admission.schemas[0], claims.purpose)
        partition = self._registry.partition(name)
        moved = self._registry.reserved.version != self._under
        if moved or self._versions.setdefault(name, (partition.stream, 0))[1] != partition.version:
            raise ConflictError("the registry moved on: begin a new draft")
        if self._registry.barred(admission.consent.digest):
            raise ConsentError("the consent was revoked: grant a new one")
        roots = {link.digest for link in admission.chain[:1]}
        if (name, claims.account) in self._accounts or roots & self._roots:
            return False
        place = partition.places.get(claims.account)
        member = None if place is None else partition.member(place)
        if member is not None:
            _check_newer(member, admission)
        if claims.status in self._statuses or self._registry.taken(claims.status, admission.consent.digest):
            raise IndexTakenError("the consent's index in the status lists is taken: grant again, and send that one")
        delegated = self._registry.reserved.admit(admission.chain, admission.consent, name) if admission.chain else []
        if place is None:
            place = len(partition) + self._fresh.get(name, 0)
            if place >= MAX_RESIDENTS:
                raise StoreError("the pool is full: found a second city for further residents")
            self._fresh[name] = self._fresh.get(name, 0) + 1
        elif member is not None and member.blob is not None:
            self._blobs[member.blob] = None
            self._gone.append(self._registry.erasure(partition, place, folded=False))
        blob = blob_name(name, place, admission.sequence)
        self._blobs[blob] = self._pool.seal(blob, Contributed(admission.rows, admission.profiles))
        event = events.admission(
            admission.consent, place, self._numbered(partition, admission), admission.sequence, self._now,
            admission.erasure or random(32),
        )  # fmt: skip
        self._events.setdefault(name, []).append(event)
        self._commitments.append(admission.commitment)
        self._accounts.add((name, claims.account))
        self._delegated += delegated
        self._roots |= roots
        self._statuses.add(claims.status)
        return True

    def _numbered(self, partition: Partition, admission: Admission) -> int:
        """The number of the consent's terms, which are told of in the stream before they are first used."""
        event, number = partition.terms(admission.consent.claims)
        if number is not None:
            return number
        fresh = self._terms.setdefault(partition.name, {})
        if event not in fresh:
            fresh[event] = partition.numbered + len(fresh)
            self._events.setdefault(partition.name, []).append(event)
        return fresh[event]

    def write(self) -> None:
        """Admit all of them, durably and together. ConflictError where the registry moved on meanwhile."""
        if not self._events:
            return
        new = [n.encode() for n in self._events if self._versions[n][1] == 0]
        streams = [(*self._versions[n], found) for n, found in self._events.items()]
        entries, blobs = waiting(ADMISSION, self._now, self._commitments)
        batch: dict[str, tuple[int, Sequence[bytes]]] = {
            **{stream: (version, found) for stream, version, found in streams},
            "partitions": (self._listed, new),
            "barred": (self._bars, []),
            "commitments": (self._committed, entries),
            STATUS: (self._published, []),
            STREAM: (self._under, self._delegated),
        }
        if self._gone:
            batch[ERASURES] = self._registry.erased(self._now, self._gone)
        self._store.append(batch, {**self._blobs, **blobs})


def admit_all(verified: Sequence[Admission | DatasovError], begin: Callable[[], Draft]) -> list[DatasovError | None]:
    """Admit what passed verification, in as many drafts as it takes; for each in order, None or why it was refused."""
    results: list[DatasovError | None] = [v if isinstance(v, DatasovError) else None for v in verified]
    waiting = {i: v for i, v in enumerate(verified) if isinstance(v, Admission)}
    while waiting:
        draft, refused, again = begin(), dict[int, DatasovError](), dict[int, Admission]()
        try:
            for i, admission in waiting.items():
                try:
                    if not draft.add(admission):
                        again[i] = admission
                except ConflictError:
                    raise
                except DatasovError as why:
                    refused[i] = why
            draft.write()
        except ConflictError:
            continue
        for i, reason in refused.items():
            results[i] = reason
        waiting = again
    return results


def _check_newer(member: Member, admission: Admission) -> None:
    new = admission.consent
    # First of all: whoever sends an old contribution again is not told what became of the consent.
    if admission.sequence <= member.sequence:
        raise ConsentError("the contribution was admitted already, or a newer one was: contribute again")
    if new.digest == member.digest and not member.live:
        raise ConsentError("the consent was revoked: grant a new one")
    if new.digest != member.digest and new.claims.issued <= member.issued:
        raise ConsentError("a newer consent was admitted already: contribute under that one")
