"""Two aggregators in this process, behind the function that HTTP calls; a city that trusts them; residents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator.aggregator import Aggregator
from datasov.aggregator.state import identity, roll
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import PeerError
from datasov.kernel import noise
from datasov.mpc.task import Task, read_task
from datasov.store.sqlite import SQLiteStore
from datasov.wire import cbor
from tests.helpers import PURPOSE, TRIPS, Clock, MemoryStore, instant
from tests.tokens import person

URLS = "http://127.0.0.1:7301", "http://127.0.0.1:7302"
SECRETS = tuple(hashlib.sha256(name).digest() for name in (b"city's", b"council's"))
IDS = tuple(identity(n, u, s) for n, u, s in zip(("city", "council"), URLS, SECRETS, strict=True))
TRUST = ds.two_server(city=IDS[0], council=IDS[1])
ISSUERS = tuple(identity(i.name, i.url, s, tokens=True) for i, s in zip(IDS, SECRETS, strict=True))
ENROLLED = ds.two_server(city=ISSUERS[0], council=ISSUERS[1])
"""Two that issue enrolment tokens, and ask for them."""
LONG = 3600
LOSS = ds.zcdp(rho="0.05")


@dataclass
class Servers:
    """A leader and a helper in this process; `down` are the URLs that do not answer, `said` all that was posted.

    `trust` is TRUST, or ENROLLED.
    """

    clock: Clock
    city: str
    stores: list[Any] = field(default_factory=lambda: [MemoryStore(), MemoryStore()])
    budgets: tuple[ds.Loss, ds.Loss] = (ds.zcdp(rho=1), ds.zcdp(rho=1))
    given: dict[str, Any] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    said: list[tuple[str, str, bytes, bytes]] = field(default_factory=list)
    trust: ds.Trust = TRUST

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Both anew from their stores, as after a crash."""
        self.both = [
            Aggregator(
                me, secret, store, [self.city], clock=self.clock, post=self.post,
                budget=None if store.length("ledger") else budget, **self.given,
            )
            for me, secret, store, budget in zip(
                self.trust.aggregators, SECRETS, self.stores, self.budgets, strict=True
            )
        ]  # fmt: skip

    @property
    def leader(self) -> Aggregator:
        return self.both[0]

    @property
    def helper(self) -> Aggregator:
        return self.both[1]

    def post(self, to: ds.AggregatorId, path: str, body: bytes) -> bytes:
        if to.url in self.down:
            raise PeerError("down")
        answer = self.both[URLS.index(to.url)].handle(path, body)
        self.said.append((to.url, path, body, answer))
        return answer

    def enrol(self, people: Mapping[str, bytes]) -> None:
        """Put people, by name, on both rolls with these keys."""
        for store in self.stores:
            roll(store, self.city).enrol([(person(name), key) for name, key in people.items()])

    def upload(self, reports: Sequence[bytes]) -> None:
        for at in range(0, len(reports), 256):
            self.leader.handle("reports", cbor.encode(list(reports[at : at + 256])))


class Crash(Exception):
    """The end of a process."""


class FailingStore:
    """A store whose process ends at the `at`-th append, before it or with `late` after it; once."""

    def __init__(self, store: MemoryStore, at: int, late: bool) -> None:
        self._store, self._left, self._late = store, at, late

    def append(self, *given: Any) -> None:
        self._left -= 1
        if self._left == 0 and not self._late:
            raise Crash
        self._store.append(*given)
        if self._left == 0:
            raise Crash

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def two_server_city(
    folder: Path, clock: Clock, trust: ds.Trust = TRUST, **given: Any
) -> tuple[ds.City, Servers]:  # fmt: skip
    """A city that two aggregators in this process add for."""
    made: list[Servers] = []
    city = ds.City.open(
        folder / "two.city", clock=clock, post=lambda *a: made[0].post(*a), trust=trust,
        **{"budget": ds.zcdp(rho=1), "purposes": [PURPOSE], **given},
    )  # fmt: skip
    made.append(Servers(clock, str(city.id), trust=trust))
    return city, made[0]


def opened(city: ds.City, query: ds.Query, clock: Clock, loss: ds.Loss = LOSS, **given: Any) -> bytes:
    """A task that is open for an hour."""
    return city.collect(query, loss=loss, purpose=PURPOSE, until=instant(clock.now + LONG), **given)


CITY_KEYS = SigningKey(hashlib.sha256(b"a city").digest()), OpeningKey(hashlib.sha256(b"its seal").digest())


def made_task(query: ds.Query, clock: Clock, loss: ds.Loss = LOSS, trust: ds.Trust = TRUST) -> tuple[bytes, OpeningKey]:
    """A task of a city that is keys alone, open for an hour, and the key that opens its shares."""
    signing, opening = CITY_KEYS
    city = ds.CityId("keys", signing.public, opening.public)
    task = Task(
        city=str(city), query=query, loss=loss, purpose=PURPOSE, programme="", cohort=0, epoch=0, trust=trust,
        opened=clock.now, until=clock.now + LONG, salt=os.urandom(16),
    )  # fmt: skip
    return task.signed(signing), opening


def silent(patch: pytest.MonkeyPatch) -> None:
    """Noise of zero from every mechanism that adds, in every process's place."""
    patch.setattr(noise, "_additive", lambda *_: lambda values: values)


def vectors(task: Task, *dense: Sequence[int]) -> list[np.ndarray]:
    """Dense vectors, one a statistic."""
    return [np.array(v, dtype=np.int64) for v in dense] or [np.zeros(f.entries, np.int64) for f in task.fits]


def resident(folder: Path, clock: Clock, name: object, tables: Mapping[ds.Schema, Any]) -> ds.Resident:
    """A resident with a vault and these rows."""
    made = ds.Resident.create(folder / f"{name}.vault", device_key=hashlib.sha256(repr(name).encode()).digest(),
                              clock=clock)  # fmt: skip
    made.put_all(tables.items())
    return made


def grant(who: ds.Resident, city: ds.City, schema: ds.Schema = TRIPS, **given: Any) -> ds.Consent:
    return who.grant(
        city.id, schema, **{"purpose": PURPOSE, "loss": ds.zcdp(rho=1), "until": "2028-12-31", "trust": city.trust,
                            **given},
    )  # fmt: skip


__all__ = [
    "ENROLLED",
    "IDS",
    "ISSUERS",
    "LONG",
    "LOSS",
    "TRUST",
    "Callable",
    "Crash",
    "FailingStore",
    "SQLiteStore",
    "Servers",
    "grant",
    "opened",
    "read_task",
    "resident",
    "silent",
    "two_server_city",
    "vectors",
]  # fmt: skip
