"""What serves a city to many askers tells of its collections: which are open, over, or released."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from datasov.city.responding import Responding
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.mpc.task import Task, read_task
from datasov.tlog.record import unpack_release

State: TypeAlias = Literal["open", "ended", "released"]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: `place` counts from 0; `signed` are the task's bytes; `release` is the identifier, or empty."""

    place: int
    signed: bytes
    task: Task
    state: State
    release: str = ""


class Collections:
    """The collections of an open city, as any of its processes and threads sees them."""

    def __init__(self, city: Responding) -> None:
        self._city, self._lock = city, threading.Lock()
        self._released: dict[bytes, str] = {}
        self._places: dict[str, int] = {}

    def find(self, identifier: str) -> Collection | None:
        """The collection whose task has this identity (64 hexadecimal digits), or None."""
        known = self._city._tasks()
        with self._lock:
            for place in range(len(self._places), len(known)):
                self._places[known[place][1].id.hex()] = place
            found = self._places.get(identifier)
        return None if found is None else self._shown(found, *known[found])

    def of_task(self, signed: bytes) -> Collection | None:
        """The collection of a signed task."""
        return self.find(read_task(signed).id.hex())

    def of(self, query: Query, *, loss: Loss, purpose: str, programme: str | None, epoch: int) -> Collection | None:
        """The one of this question that was opened in a data epoch."""
        for place, (signed, task) in enumerate(self._city._tasks()):
            same = (task.query, task.loss, task.purpose, task.epoch) == (query, loss, purpose, epoch)
            if same and programme in (None, task.programme):
                return self._shown(place, signed, task)
        return None

    def newest(self, before: int | None, limit: int) -> list[Collection]:
        """The newest ones, from the place before `before` down, at most `limit`."""
        known = self._city._tasks()
        end = len(known) if before is None else min(before, len(known))
        return [self._shown(place, *known[place]) for place in range(end - 1, max(end - 1 - limit, -1), -1)]

    def open(self) -> Sequence[Collection]:
        """Those that devices may answer now, oldest first."""
        now = int(self._city._clock())
        known = enumerate(self._city._tasks())
        return [Collection(place, signed, task, "open") for place, (signed, task) in known if now < task.until]

    def _shown(self, place: int, signed: bytes, task: Task) -> Collection:
        if int(self._city._clock()) < task.until:
            return Collection(place, signed, task, "open")
        release = self._released.get(task.id, "")
        if not release and (stored := self._city._ledger.stored(task.request().key)) is not None:
            release = self._released[task.id] = unpack_release(stored).identifier.hex()
        return Collection(place, signed, task, "released" if release else "ended", release)
