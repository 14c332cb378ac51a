"""Admissions of one batch, checked against the registry and each other, for one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datasov.authority.admission import Admission
from datasov.authority.registry import Member, Registry, partition_name
from datasov.authority.reserved import STREAM
from datasov.errors import ConflictError, ConsentError, DatasovError, StoreError
from datasov.kernel.plan import MAX_RESIDENTS
from datasov.pool.pool import Contributed, Pool
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.ticks import ADMISSION, commitment
from datasov.wire import cbor


class Draft:
    """What one transaction will admit. Make a new one when `write` loses a compare-and-append."""

    def __init__(self, registry: Registry, store: SQLiteStore, pool: Pool, now: int) -> None:
        self._registry, self._store, self._pool, self._now = registry, store, pool, now
        with registry.lock:
            self._versions = {p.name: (p.stream, p.version) for p in registry.refresh()}
            registry.reserved.refresh()
            self._listed, self._bars, self._under = registry.listed, registry.bars, registry.reserved.version
        self._events: dict[str, list[bytes]] = {}
        self._accounts: set[tuple[str, bytes]] = set()
        self._roots: set[bytes] = set()
        self._delegated: list[bytes] = []
        self._fresh: dict[str, int] = {}
        self._blobs: dict[str, bytes | None] = {}
        self._commitments: list[bytes] = []

    def add(self, admission: Admission) -> bool:
        """Take in an admission; False where it must wait for the next draft.

        A draft holds one change a resident, and one consent under a delegation that a resident signed.

        Raises:
            ConsentError: replayed, superseded or revoked.
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
        if place is not None:
            _check_newer(partition.members[place], admission)
        delegated = self._registry.reserved.admit(admission.chain, admission.consent, name) if admission.chain else []
        if place is None:
            place = len(partition) + self._fresh.get(name, 0)
            if place >= MAX_RESIDENTS:
                raise StoreError("the pool is full: found a second city for further residents")
            self._fresh[name] = self._fresh.get(name, 0) + 1
        elif (waiting := partition.members[place].blob) is not None:
            self._blobs[waiting] = None
        blob = f"pool/{name}/{place}/{admission.sequence}"
        self._blobs[blob] = self._pool.seal(blob, Contributed(admission.rows, admission.profiles))
        event = cbor.encode(["admit", place, admission.consent.token, admission.sequence, blob])
        self._events.setdefault(name, []).append(event)
        self._commitments.append(commitment(ADMISSION, self._now, admission.commitment))
        self._delegated += delegated
        self._accounts.add((name, claims.account))
        self._roots |= roots
        return True

    def write(self) -> None:
        """Admit all of them, durably and together. ConflictError where the registry moved on meanwhile."""
        if not self._events:
            return
        new = [n.encode() for n in self._events if self._versions[n][1] == 0]
        streams = [(*self._versions[n], events) for n, events in self._events.items()]
        self._store.append(
            {
                **{stream: (version, events) for stream, version, events in streams},
                "partitions": (self._listed, new),
                "barred": (self._bars, []),
                STREAM: (self._under, self._delegated),
                "commitments": (self._store.length("commitments"), self._commitments),
            },
            self._blobs,
        )


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
    old, new = member.consent, admission.consent
    if new.digest == old.digest and not member.live:
        raise ConsentError("the consent was revoked: grant a new one")
    if new.digest != old.digest and new.claims.issued <= old.claims.issued:
        raise ConsentError("a newer consent was admitted already: contribute under that one")
    if admission.sequence <= member.sequence:
        raise ConsentError("the contribution was admitted already, or a newer one was: contribute again")
