"""What a city is made of, and what it says about itself."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from datasov.aggregator.client import over_http
from datasov.aggregator.messages import Post
from datasov.authority import signers
from datasov.authority.lists import StatusLists
from datasov.authority.registry import Registry
from datasov.errors import ConflictError, InvalidQueryError
from datasov.founding import DEFAULT_PLACE
from datasov.governing import Governing
from datasov.kernel import monitor
from datasov.kernel.ledger import KEY, Ledger
from datasov.model.consent import CityId
from datasov.model.privacy import Loss, Trust
from datasov.model.purposes import Purpose
from datasov.mpc.task import SUBJECT, Task, read_task
from datasov.pool.pool import Pool
from datasov.pool.rounds import Public, keep
from datasov.pool.sealed import SealedAccounts
from datasov.store import anchor, place, settings
from datasov.store.stores import Store
from datasov.tlog.log import Log
from datasov.upkeep.identity import identity
from datasov.wire import cbor


@dataclass(slots=True)
class Seen:
    """The marks of a task's noised reports, as far as its stream was read.

    Attributes:
        read: entries. over: of them, how many are empty: 0 it takes reports, 1 no more, 2 the answers are deleted.
        marks: of each the number of its entry, and its place there.
    """

    read: int = 0
    over: int = 0
    marks: dict[bytes, tuple[int, int]] = field(default_factory=dict)


class OneAsker:
    """A lock for one question: its second asker waits and gets the first one's answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class State:
    """The parts of an open city, shared by all that it does."""

    def __init__(
        self, path: Path, store: Store, key: bytes, clock: Callable[[], float], engine: monitor.Engine
    ) -> None:
        """Use :meth:`open`."""
        self._path, self._store, self._clock, self._engine = path, store, clock, engine
        self._settings = settings.read(store)
        self._who, self._operator = identity(self._settings, key), key
        settings.check_version(self._settings)
        self.id: CityId = self._who.id
        self._key, self._opening = self._who.signing, self._who.opening
        store.verify()
        self.trust = Trust.from_document({"model": self._settings["trust"], **self._settings.get("parties", {})})
        self.log = Log(store, self._key, self._who.origin)
        self._registry = Registry(store)
        founded, tick = self._settings["founded"], self._settings["tick"]
        self._times = Public(founded, tick, self._settings["erase_within"] // 2)
        self._lists = StatusLists(store, self._registry, self._key, founded, tick)
        self._ledger = Ledger(SealedAccounts(store, key))
        self._signers, self._authorities = signers.Signers(store), tuple[bytes, ...]()
        self._governing = Governing(store, self.id)
        self._pool = Pool(path / "pool", store, self._registry, key, lambda: int(clock()), lists=self._lists)
        self._guard = threading.RLock()
        self._given: bytes | None = None
        self._at: str | None = None
        self._anchored: int | None = None
        self._post: Post = over_http
        self._tasks_read, self._tasks_known = 0, list[tuple[bytes, Task]]()
        self._seen: dict[bytes, Seen] = {}
        self._erased: set[bytes] = set()
        self._asking: weakref.WeakValueDictionary[bytes, OneAsker] = weakref.WeakValueDictionary()

    @property
    def purposes(self) -> tuple[str, ...]:
        """The purposes that the city declares."""
        return tuple(self._settings["purposes"])

    @property
    def _described(self) -> tuple[Purpose, ...]:
        described = {d["name"]: Purpose(**d) for d in self._settings.get("purpose_documents", [])}
        return tuple(described.get(name) or Purpose(name) for name in self.purposes)

    def purpose(self, name: str) -> Purpose:
        """A declared purpose with what it is called; InvalidQueryError where the city declares none of that name."""
        for purpose in self._described:
            if purpose.name == name:
                return purpose
        raise InvalidQueryError("a purpose that this city does not declare: see city.purposes")

    @property
    def processing(self) -> str:
        """Where the city processes, an ISO 3166 code: a consent for a place that does not contain it is refused."""
        return str(self._settings.get("processing", DEFAULT_PLACE))

    @property
    def budget(self) -> Loss:
        """The whole budget."""
        return self._ledger.budget

    @property
    def remaining(self) -> Loss:
        """What is left of the budget, exactly."""
        return self._ledger.remaining()

    @property
    def allowance(self) -> Loss:
        """What may still be spent in this period, exactly: at most what is left of the budget."""
        return self._ledger.remaining([self._allowed])

    @property
    def _allowed(self) -> tuple[str, Loss]:
        """The purse of the present period."""
        number = int(self._clock()) // int(self._settings["period"])
        return f"the allowance of period {number}", self._ledger.allowance

    @property
    def epoch(self) -> int:
        """The number of the present data epoch: it advances with the clock alone, never with admissions."""
        return int(self._clock()) // int(self._settings["epoch"])

    def _tasks(self) -> list[tuple[bytes, Task]]:
        """All tasks, oldest first. What was read of them before is kept."""
        with self._guard:
            for body in self._store.read("releases", self._tasks_read):
                found = cbor.decode(body[KEY:])
                if found[0] == SUBJECT:
                    self._tasks_known.append((found[1], read_task(found[1])))
                self._tasks_read += 1
            return list(self._tasks_known)

    @property
    def _tick_began(self) -> int:
        """When the present tick began: no finer time of an admission or a revocation is kept."""
        tick: int = self._settings["tick"]
        return int(self._clock()) // tick * tick

    def _anchor(self) -> None:
        """Sign the store's position outside of it: done before any answer leaves."""
        if self._store.head()[0] != self._anchored:
            self._anchored = anchor.write(place.anchor_path(self._path), self._store.head, self._key)

    def tick(self) -> None:
        """Publish the admissions and revocations of the ticks that are over, in padded batches, and the status lists;
        and in each half of `erase_within` erase what is to go from the pool, and tell the log of it.

        Questions do this too; a scheduler calls it where nobody asks. Admissions and revocations never do: that a batch
        came just then would tell of them.
        """
        while True:
            try:
                with self._guard:
                    keep(self._store, self._pool, self._lists, self._times, int(self._clock()))
            except ConflictError:
                continue
            self._anchor()
            return
