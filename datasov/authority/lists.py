"""A city's status lists: made anew on public ticks, and read back, verified, for each question. docs/spec/status.md.

Stream `status`: for each publication {1: tick, 2: time, 3: numbers of the lists that were made, 4: the new marks,
5: SHA-256 of each of the lists, 6: the key that signed them}. The signed lists are blobs. A mark is the index of a
consent that was revoked, or a decoy, and nothing tells which.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from datasov.authority import status
from datasov.authority.columns import Array
from datasov.authority.partition import Mask, Partition
from datasov.authority.registry import STATUS, Registry
from datasov.authority.status import LISTS
from datasov.crypto.kdf import sha256
from datasov.crypto.padding import padded
from datasov.crypto.sign import SigningKey
from datasov.errors import ConflictError, StoreError, VerificationError
from datasov.wire import cbor

BATCH = 256
"""Marks of one publication come in multiples of this, and so do lists that are new in it."""
VALID = 7 * 86_400
"""Seconds for which a list is valid, but at least four ticks; it is made anew when half of them are over."""
_FEW, _SHORT = 1 << 16, 1 << 12


class Store(Protocol):
    """Streams and blobs, with compare-and-append."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(
        self, batch: Mapping[str, tuple[int, Sequence[bytes]]], blobs: Mapping[str, bytes | None] | None = None
    ) -> None: ...
    def blob(self, name: str) -> bytes: ...
    def length(self, stream: str) -> int: ...


def _blob(number: int) -> str:
    return f"status/{number}"


class StatusLists:
    """The lists of one city. Threads may share it; publishing is for one of them at a time.

    Args:
        key: the city's signing key. founded: Unix seconds. tick: seconds of a public tick.
    """

    def __init__(self, store: Store, registry: Registry, key: SigningKey, founded: int, tick: int) -> None:
        self._store, self._registry, self._key = store, registry, key
        self._tick, self._lock = tick, registry.lock
        self._read, self._done, self._time = 0, founded // tick, 0
        self._hashes: dict[int, bytes] = {}
        self._until = np.zeros(LISTS, dtype=np.int64)
        self._good, self._bad = np.zeros((2, LISTS), dtype=np.bool_)
        self._own: dict[int, bytes] = {}
        self._packed: dict[int, bytes] = {}
        self._marked: dict[int, Array] = {}
        self._news: list[Array] = []
        self._seen: dict[str, int] = {}
        self._needed: dict[str, Mask] = {}
        self._document: tuple[int, bytes] = 0, b""

    @property
    def lasting(self) -> int:
        """Seconds for which a list is valid."""
        return max(VALID, 4 * self._tick)

    def document(self) -> bytes:
        """The set that is in force: canonical CBOR of {1: kind, 2: time, 3: numbers, 4: SHA-256 of each signed list}.

        Numbers ascend, 2 bytes each, big-endian. Empty where no list was published yet.
        """
        with self._lock:
            self._refresh()
            if self._document[0] != self._read:
                held = sorted(self._hashes.items())
                numbers, hashes = b"".join(n.to_bytes(2, "big") for n, _ in held), b"".join(h for _, h in held)
                document = cbor.encode({1: "datasov status set v1", 2: self._time, 3: numbers, 4: hashes})
                self._document = self._read, document
            return self._document[1]

    def digest(self) -> bytes:
        """SHA-256 of :meth:`document`: 32 bytes, or none where no list was published yet."""
        document = self.document()
        return sha256(document) if document else b""

    def signed(self, number: int) -> bytes:
        """The signed list of a number; StoreError where it was not published yet."""
        return self._store.blob(_blob(number))

    def apply(self, partition: Partition, now: int) -> tuple[Mask, int]:
        """Bring the partition's `marked` up to the lists in force; hold the registry's lock.

        Returns:
            which lists are there, signed by the city and not expired, shape (4096,); and the beginning of the running
            tick: who was admitted before it must stand in one of them.
        """
        with self._lock:
            self._refresh()
            marked, statuses = partition.columns["marked"], partition.columns["status"]
            fresh = partition.fresh()
            marked[fresh] = self._holds(statuses[fresh])
            for news in self._news[self._seen.get(partition.name, 0) :]:
                if len(news) > _FEW:
                    marked |= self._holds(statuses)
                    continue
                places = [p for mark in news.tolist() for p in partition.statuses[mark] if statuses[p] == mark]
                marked[places] = True
            self._seen[partition.name] = len(self._news)
            needed = self._needed.setdefault(partition.name, np.zeros(LISTS, dtype=np.bool_))
            needed[status.list_of(statuses[fresh])] = True
            for number in np.flatnonzero(needed & ~self._good & ~self._bad).tolist():
                self._good[number] = self._verified(number)
                self._bad[number] = not self._good[number]
            return self._good & (self._until > now), now // self._tick * self._tick

    def _holds(self, indices: Array) -> Mask:
        held = np.concatenate([np.zeros(0, dtype=np.uint32), *(self._marked[n] for n in sorted(self._marked))])
        at = np.minimum(np.searchsorted(held, indices), max(0, len(held) - 1))
        return np.zeros(len(indices), dtype=np.bool_) if len(held) == 0 else held[at] == indices

    def _refresh(self) -> None:
        """Read what was published since. The lists are verified when they are first needed."""
        for body in self._store.read(STATUS, self._read):
            entry = cbor.decode(body)
            self._done, self._time, self._read = entry[1], entry[2], self._read + 1
            numbers = np.frombuffer(entry[3], dtype="<u2").tolist()
            self._hashes.update({n: entry[5][32 * i : 32 * i + 32] for i, n in enumerate(numbers)})
            self._until[numbers] = self._time + self.lasting if entry[6] == self._key.public else 0
            self._good[numbers] = [self._own.pop(n, b"") == self._hashes[n] for n in numbers]
            self._bad[numbers] = False
            marks = np.frombuffer(entry[4], dtype="<u4")
            for number in np.unique(status.list_of(marks)).tolist():
                here = marks[status.list_of(marks) == number]
                self._marked[number] = np.union1d(self._marks_in(number), here)
                self._packed.pop(number, None)
            self._news.append(marks)

    def _marks_in(self, number: int) -> Array:
        return self._marked.get(number, np.zeros(0, dtype=np.uint32))

    def _verified(self, number: int) -> bool:
        """Whether a stored list is there, signed by the city, and the one that was published."""
        try:
            signed = self.signed(number)
            found = status.read(signed, self._key.public, number)
        except (StoreError, VerificationError):
            return False
        invalid = (found.invalid + (number << 20)).astype(np.uint32)
        same = sha256(signed) == self._hashes.get(number) and found.expires == self._until[number]
        return same and np.array_equal(invalid, self._marks_in(number))

    def publish(self, now: int) -> bool:
        """Publish the ticks that are over since the last publication; False where none is.

        After a change of the city's key all lists are made anew at once.

        The lists that are made anew are those with new marks, those of which half of the time is over, and as many
        that are new as fill a multiple of 256 with those that consents need. The consents that were revoked before the
        running tick are marked, and as many decoys as fill a multiple of 256 with them. Both multiples are drawn.

        Raises:
            ConflictError: another process published meanwhile.
        """
        with self._lock:
            self._refresh()
            foreign = bool(self._hashes) and not self._until.any()
            if now // self._tick <= self._done and not foreign:
                return False
            running, marks, made = (
                now // self._tick * self._tick,
                np.zeros(0, dtype=np.uint32),
                dict[int, tuple[bytes, bytes]](),
            )
            while True:
                fence = self._store.length("commitments")
                wanted = {n for p in self._registry.refresh() for n in _lists(p)}
                over = set(self._registry.unmarked(running))
                held = set(marks.tolist())
                hit = any(self._registry.taken(m) for m in held - over)
                if hit or not over <= held or not held or not wanted <= self._hashes.keys() | made.keys():
                    marks = self._decoys(over)
                    made = self._made(marks, wanted, now)
                numbers = sorted(made)
                entry = {
                    1: now // self._tick, 2: now, 3: np.array(numbers, dtype="<u2").tobytes(),
                    4: marks.astype("<u4").tobytes(), 5: b"".join(sha256(made[n][1]) for n in numbers),
                    6: self._key.public,
                }  # fmt: skip
                try:
                    self._store.append(
                        {STATUS: (self._read, [cbor.encode(entry)]), "commitments": (fence, [])},
                        {_blob(n): made[n][1] for n in numbers},
                    )
                except ConflictError:
                    if self._store.length(STATUS) != self._read:
                        raise
                    continue
                self._own = {n: sha256(signed) for n, (_, signed) in made.items()}
                self._refresh()
                self._packed.update({n: lst for n, (lst, _) in made.items() if len(lst) <= _SHORT})
                return True

    def _decoys(self, over: Collection[int]) -> Array:
        """The indices and random ones that no consent has, ascending: a multiple of 256, drawn (`crypto.padding`)."""
        marks, many = set(over), padded(len(over))
        while len(marks) < many:
            drawn = secrets.randbits(32)
            if drawn not in marks and not self._registry.taken(drawn):
                marks.add(drawn)
        return np.array(sorted(marks), dtype=np.uint32)

    def _made(self, marks: Array, wanted: set[int], now: int) -> dict[int, tuple[bytes, bytes]]:
        """The lists to publish: packed, and signed."""
        touched = set(status.list_of(marks).tolist())
        new = (touched | wanted) - self._hashes.keys()
        free = [n for n in range(LISTS) if n not in self._hashes and n not in new]
        for _ in range(min(len(free), padded(len(new)) - len(new))):
            new.add(free.pop(secrets.randbelow(len(free))))
        old = {n for n in self._hashes if self._until[n] - now <= self.lasting // 2 or self._bad[n]}
        made: dict[int, tuple[bytes, bytes]] = {}
        for number in sorted(touched | new | old):
            here = marks[status.list_of(marks) == number]
            lst = self._packed.get(number, b"")
            if len(here) or not lst:
                lst = status.packed(np.union1d(self._marks_in(number), here) & np.uint32(status.ENTRIES - 1))
            made[number] = (
                lst,
                status.issue(number, lst, self._key, now=now, expires=now + self.lasting, ttl=self._tick),
            )
        return made


def _lists(partition: Partition) -> list[int]:
    """Numbers of the lists in which the partition's consents stand."""
    counts = np.bincount(status.list_of(partition.columns["status"]), minlength=LISTS)
    return [int(n) for n in np.flatnonzero(counts)]
