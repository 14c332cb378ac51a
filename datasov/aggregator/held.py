"""A task as an aggregator holds it: what was aggregated so far, as its store has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from datasov.aggregator.seen import Digests, Seen, digests, marks
from datasov.crypto.kdf import random
from datasov.errors import StoreError
from datasov.mpc.prio3 import NONCE_SIZE
from datasov.mpc.task import Task
from datasov.wire import cbor

NULLIFIER, SALT = 32, 32


class Store(Protocol):
    """Streams and blobs, as :class:`datasov.store.sqlite.SQLiteStore` keeps them."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(
        self, batch: Mapping[str, tuple[int, Sequence[bytes]]], blobs: Mapping[str, bytes | None] | None = None
    ) -> None: ...
    def length(self, stream: str) -> int: ...
    def blob(self, name: str) -> bytes: ...


@dataclass
class Held:
    """What a task's aggregation has come to.

    Attributes:
        role: 0 the leader, 1 the helper.
        jobs: batches that were aggregated.
        uploads: of the leader, requests with reports that were aggregated.
        reports, checksum: how many reports are in the sums, and the exclusive or of the SHA-256 of their nonces.
        sums: an aggregate share for each statistic.
        last: of the helper, the digest of the request and the answer to it, of each of its last two batches.
    """

    task: Task
    role: int
    jobs: int = 0
    uploads: int = 0
    reports: int = 0
    checksum: bytes = bytes(32)
    sums: list[bytes] = field(default_factory=list)
    last: list[tuple[bytes, bytes]] = field(default_factory=list)
    nonces: Seen = field(default_factory=Seen)
    nullifiers: Seen = field(default_factory=Seen)

    @property
    def name(self) -> str:
        """The task's part of the names of streams and blobs."""
        return self.task.id.hex()

    def entry(self, nonces: Sequence[bytes], nullifiers: Sequence[bytes]) -> bytes:
        """What the stream of batches keeps of one: what must not come again."""
        return cbor.encode([b"".join(nonces), b"".join(nullifiers)])

    def pack(self) -> bytes:
        """The sums so far, as the blob `sum/TASK` holds them, with a salt of their own.

        The store's chain keeps a hash of each blob for good. Without a salt, whoever opens the noised share would find
        the exact one by it, since few values of the noise are likely.
        """
        found = [self.jobs, self.uploads, self.reports, self.checksum, self.sums, self.last]
        return cbor.encode([*found, random(SALT)])


def load(store: Store, task: Task, role: int) -> Held:
    """A task as the store has it; without marks where its share is noised, since no batch is added to it any more."""
    held = Held(task, role, sums=[f.vdaf.aggregate([]) for f in task.fits])
    try:
        found = cbor.decode(store.blob("sum/" + held.name))
    except StoreError:
        return held
    held.jobs, held.uploads, held.reports, held.checksum, held.sums, last, *_ = found
    held.last = [(digest, answer) for digest, answer in last]
    if not held.sums:
        return held
    for entry in store.read("jobs/" + held.name):
        nonces, nullifiers = cbor.decode(entry)
        held.nonces.add(marks(digests(parted(nonces, NONCE_SIZE))))
        held.nullifiers.add(marks(digests(parted(nullifiers, NULLIFIER))))
    return held


def parted(data: bytes, size: int) -> list[bytes]:
    """Pieces of that size; the last one is shorter where they do not come out even."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def mixed_in(checksum: bytes, nonces: Digests) -> bytes:
    """A checksum with more nonces in it, given by their digests."""
    added = np.bitwise_xor.reduce(nonces, axis=0, initial=0)
    return bytes(a ^ b for a, b in zip(checksum, added.tobytes(), strict=True))
