"""Answers under local trust: devices send them noised, the city keeps each tag once, and adds them after the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from datasov.city.asking import Asking
from datasov.city.state import Seen
from datasov.crypto.kdf import sha256
from datasov.errors import ConflictError, DatasovError, DeniedError, VerificationError
from datasov.kernel.ledger import KEY
from datasov.model.responses import Responses, Tally
from datasov.mpc.local import tally
from datasov.mpc.noised import TAG, NoisedReport
from datasov.mpc.task import SUBJECT, Task, check_open, read_task
from datasov.wire import cbor

_AT_ONCE = 4096
"""Reports that are read together."""


class Responding(Asking):
    """The part of :class:`datasov.City` that takes what devices noised themselves."""

    def take(self, report: bytes) -> None:
        """Keep what :meth:`datasov.Resident.answer` gave under local trust, durably, until its task is over.

        Of one vault one report counts, the first; sent again, it changes nothing. That a report was made from data, or
        by a person who has no other vault, nobody can tell: docs/limitations.md.

        Raises:
            VerificationError: not a report of this form, or of no task of this city that asks devices so.
            InvalidDataError: its task is over.
            DeniedError: another report of this vault was taken before.
        """
        (refused,) = self.take_many([report])
        if refused is not None:
            raise refused

    def take_many(self, reports: Sequence[bytes]) -> list[DatasovError | None]:
        """As :meth:`take`, of many at once: for each in order None, or why it was not taken."""
        results: list[DatasovError | None] = [None] * len(reports)
        by_task: dict[bytes, list[tuple[int, NoisedReport]]] = {}
        tasks, now = {task.id: task for _, task in self._tasks()}, int(self._clock())
        for place, data in enumerate(reports):
            try:
                report = NoisedReport.from_bytes(data)
                if report.task not in tasks:
                    raise VerificationError("a report of no task of this city: see city.tasks()")
                report.check(tasks[report.task])
                check_open(tasks[report.task], now)
                by_task.setdefault(report.task, []).append((place, report))
            except DatasovError as why:
                results[place] = why
        for name, found in by_task.items():
            for place, refused in self._kept(_stream(name), found):
                results[place] = refused
        self._anchor()
        return results

    def _kept(
        self, stream: str, found: Sequence[tuple[int, NoisedReport]]
    ) -> Iterator[tuple[int, DatasovError | None]]:
        """Append those whose tags are new; the same bytes again are fine, and change nothing."""
        while True:
            with self._guard:
                seen = self._seen.setdefault(stream, Seen())
                for body in self._store.read(stream, seen.read):
                    seen.tags[body[:TAG]] = sha256(body)
                    seen.read += 1
                new: dict[bytes, bytes] = {}
                results: list[tuple[int, DatasovError | None]] = []
                for place, report in found:
                    body = report.tag + report.answer
                    if report.tag not in seen.tags:
                        new.setdefault(report.tag, body)
                    same = seen.tags.get(report.tag) == sha256(body) or new.get(report.tag) == body
                    results.append((place, None if same else DeniedError("this vault answered before: once a task")))
                try:
                    if new:
                        self._store.append({stream: (seen.read, list(new.values()))})
                except ConflictError:
                    continue
                yield from results
                return

    def _responses(self, task: Task) -> Responses | None:
        """The sum of a task's noised reports, where it asks for such."""
        if task.asked is None:
            return None
        how, stream, at = task.asked.fit.how, _stream(task.id), 0
        supports = np.zeros(how.categories, dtype=np.int64)
        while bodies := self._store.read(stream, at, _AT_ONCE):
            supports += tally(how, [body[TAG:] for body in bodies]).supports
            at += len(bodies)
        return Responses(task.asked.fit, Tally(how, supports, at))

    def _tasks(self) -> list[tuple[bytes, Task]]:
        """All tasks, oldest first. What was read of them before is kept."""
        for body in self._store.read("releases", self._tasks_read):
            found = cbor.decode(body[KEY:])
            if found[0] == SUBJECT:
                self._tasks_known.append((found[1], read_task(found[1])))
            self._tasks_read += 1
        return list(self._tasks_known)


def _stream(task: bytes) -> str:
    return "responses/" + task.hex()
