"""What an aggregator is made of: its keys, its budget, its store, and the tasks that it took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from datasov.aggregator.held import Held, Store, load
from datasov.aggregator.messages import Post
from datasov.authority import issuing
from datasov.authority.enrolment import Issuer, Roll
from datasov.crypto import oprf
from datasov.crypto.kdf import hkdf, sha256
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import InvalidDataError
from datasov.kernel.ledger import Ledger
from datasov.model.parties import AggregatorId
from datasov.model.privacy import Loss
from datasov.mpc.task import Task, read_task


def keys(secret: bytes) -> tuple[SigningKey, OpeningKey]:
    """An aggregator's keys, from its secret (32 bytes)."""
    return (
        SigningKey(hkdf(secret, salt=b"", info=b"datasov aggregator signing key v1")),
        OpeningKey(hkdf(secret, salt=b"", info=b"datasov aggregator opening key v1")),
    )


def issuer_key(secret: bytes) -> oprf.PrivateKey:
    """The key under which an aggregator issues enrolment tokens, from its secret."""
    return issuing.issuer_key(secret, b"datasov aggregator issuer key v1")


def identity(name: str, url: str, secret: bytes, *, tokens: bool = False) -> AggregatorId:
    """The id of an aggregator with this secret.

    Args:
        tokens: whether it issues enrolment tokens and asks for them.
    """
    signing, opening = keys(secret)
    return AggregatorId(name, url, signing.public, opening.public, issuer_key(secret).public if tokens else b"")


def roll(store: Store, city: str) -> Roll:
    """Who is enrolled for the tasks of a city (the text of its id)."""
    return Roll(store, "enrolled/" + sha256(city.encode()).hex())


class State:
    """The parts of an aggregator, shared by its two roles: see :class:`datasov.aggregator.aggregator.Aggregator`."""

    def __init__(
        self, me: AggregatorId, secret: bytes, store: Store, cities: Collection[str], clock: Callable[[], float],
        post: Post, budget: Loss | None,
    ) -> None:  # fmt: skip
        self.me, self.store, self.cities, self.post = me, store, frozenset(cities), post
        self.signing, self.opening = keys(secret)
        self._issuing, self._issuers = issuer_key(secret), dict[str, Issuer]()
        self._secret, self._clock = secret, clock
        self.ledger = Ledger(store, budget)
        self.guard, self.door = threading.RLock(), threading.Lock()
        self.introduced: set[bytes] = set()
        self._tasks: dict[bytes, Task] = {}
        self._held: dict[bytes, Held] = {}
        self._locks: dict[bytes, threading.RLock] = {}

    @property
    def remaining(self) -> Loss:
        """What is left of its budget, exactly."""
        return self.ledger.remaining()

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    def verify_key(self, task: Task) -> bytes:
        """The leader's verify key of a task, fixed by its secret before there is any report."""
        return hkdf(self._secret, salt=task.id, info=b"datasov verify key v1")

    def issuer(self, city: str) -> Issuer:
        """Issues and checks the enrolment tokens of a city's tasks."""
        with self.guard:
            if city not in self._issuers:
                self._issuers[city] = Issuer(self.store, roll(self.store, city), self._issuing, batch=oprf.MAX_BATCH)
            return self._issuers[city]

    def check(self, tokens: Sequence[bytes], task: Task) -> list[bytes | None]:
        """The nullifier of each token that was issued here for a task, or None."""
        return self.issuer(task.city).redeem(task.id, task.epoch, tokens)

    def task(self, identifier: bytes, role: int | None = None) -> Task:
        """A task that was taken, in which this aggregator has this role: 0 the leader's, 1 the helper's, or either.

        Raises:
            InvalidDataError: it was not, or this aggregator has the other role.
        """
        with self.guard:
            task = self._tasks.get(identifier)
            if task is None:
                stored = self.ledger.stored(identifier) if len(identifier) == 32 else None
                if stored is None:
                    raise InvalidDataError("no such task: ask the city for the tasks that are open")
                task = self._tasks[identifier] = read_task(stored)
        if role is not None and task.trust.aggregators[role] != self.me:
            raise InvalidDataError("this aggregator has the other role in that task: devices send to the leader")
        return task

    @contextmanager
    def working(self, identifier: bytes, role: int) -> Iterator[Held]:
        """A task's sums, for this thread alone. Where it fails, what is in memory is read anew from the store."""
        task = self.task(identifier, role)
        with self.guard:
            lock = self._locks.setdefault(identifier, threading.RLock())
        with lock:
            if identifier not in self._held:
                self._held[identifier] = load(self.store, task, role)
            try:
                yield self._held[identifier]
            except BaseException:
                self._held.pop(identifier, None)
                raise
