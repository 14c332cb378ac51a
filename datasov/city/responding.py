"""Answers under local trust: devices send them noised, the city keeps each mark once, and adds them after the end.

A stream of a task holds the marks, an entry for what was taken at once; beside each entry a blob holds the answers, and
a salt, so that nothing tells of them once they are deleted. An empty entry closes the stream before the answers are
added, and a second one says that they are gone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from datasov.city.asking import Asking
from datasov.city.enrolling import Enrolling
from datasov.city.state import Seen
from datasov.crypto.kdf import random
from datasov.errors import ConflictError, DatasovError, DeniedError, InvalidDataError, VerificationError
from datasov.model.responses import Responses, Tally
from datasov.mpc.local import tally
from datasov.mpc.noised import TAG, NoisedReport
from datasov.mpc.task import Task, check_open

MOST_REPORTS, MOST_BYTES = 1 << 22, 16 * 1024**3
"""Noised answers of one task that are kept where no roll bounds their number."""
_AT_ONCE, _SALT = 4096, 32
_GONE = 2
"""Empty entries of a stream whose answers are deleted."""

Marked = tuple[int, bytes, bytes]
"""A report's place in what came, its mark, and its answer."""


class Responding(Enrolling, Asking):
    """The part of :class:`datasov.City` that takes what devices noised themselves."""

    def take(self, report: bytes) -> None:
        """Keep what :meth:`datasov.Resident.answer` gave under local trust, durably, until its task's release.

        In a city with a roll (:meth:`enrol`) one report of each person counts, else one of each vault: the first. Sent
        again, it changes nothing. That a report was made from data nobody can tell: docs/limitations.md.

        Raises:
            VerificationError: not a report of this form, or of no task of this city that asks devices so; or without a
                token that this city issued for the task.
            InvalidDataError: its task is over.
            DeniedError: another report of this person or vault was taken before, or as many as a task may have.
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
            marked: list[Marked] = []
            marks = self._marks(tasks[name], [report for _, report in found])
            for (place, report), mark in zip(found, marks, strict=True):
                if isinstance(mark, bytes):
                    marked.append((place, mark, report.answer))
                else:
                    results[place] = mark
            for place, refused in self._kept(tasks[name], marked):
                results[place] = refused
        self._anchor()
        return results

    def tick(self) -> None:
        """As :meth:`datasov.city.state.State.tick`; and noised answers go whose release is stored."""
        super().tick()
        if self.trust.part("local") is None:
            return
        now = int(self._clock())
        for _, task in self._tasks():
            if task.id not in self._erased and task.until <= now and self._ledger.stored(task.request().key):
                self._erase(task)

    def _marks(self, task: Task, reports: Sequence[NoisedReport]) -> list[bytes | DatasovError]:
        """What each report is known by when it comes again: its token's nullifier, or the vault's tag; or why not."""
        if not task.issuer_key:
            return [report.tag for report in reports]
        tokens = [self._token(report) for report in reports]
        redeemed = self._issuer[2].redeem(task.id, task.epoch, tokens)
        refused = VerificationError("a report without a token of this city for this task: get one, and answer anew")
        return [refused if found is None else found[:TAG] for found in redeemed]

    def _token(self, report: NoisedReport) -> bytes:
        try:
            return self._who.take(lambda _, key: report.token(key))
        except VerificationError:
            return b""

    def _read(self, task: Task) -> Seen:
        """The marks of a task, read anew as far as they came since. Call it with the guard."""
        seen = self._seen.setdefault(task.id, Seen())
        for body in self._store.read(_stream(task), seen.read):
            if not body:
                seen.over += 1
            for place in range(len(body) // TAG):
                seen.marks[body[place * TAG : (place + 1) * TAG]] = seen.read, place
            seen.read += 1
        return seen

    def _kept(self, task: Task, found: Sequence[Marked]) -> Iterator[tuple[int, DatasovError | None]]:
        """Keep those whose marks are new, in one transaction; the same answer again is fine, and changes nothing."""
        while found:
            with self._guard:
                seen, new = self._read(task), dict[bytes, bytes]()
                stood = self._stood(task, seen, [mark for _, mark, _ in found])
                results = [(p, self._refused(task, seen, stood, new, mark, answer)) for p, mark, answer in found]
                if new:
                    blob = random(_SALT) + b"".join(new.values())
                    try:
                        self._store.append(
                            {_stream(task): (seen.read, [b"".join(new)])}, {_blob(task, seen.read): blob}
                        )
                    except ConflictError:
                        continue
                yield from results
                return

    def _stood(self, task: Task, seen: Seen, marks: Iterable[bytes]) -> dict[bytes, bytes]:
        """The answers under those of the marks that were kept before. Each entry is read once: many may repeat."""
        at = [] if seen.over else sorted((seen.marks[mark], mark) for mark in set(marks) if mark in seen.marks)
        found = dict[bytes, bytes]()
        for entry, group in itertools.groupby(at, key=lambda each: each[0][0]):
            answers = self._answers(task, entry)
            found |= {mark: answers[place] for (_, place), mark in group}
        return found

    def _refused(
        self, task: Task, seen: Seen, stood: Mapping[bytes, bytes], new: dict[bytes, bytes], mark: bytes, answer: bytes
    ) -> DatasovError | None:
        """None where a report is taken, or was, and is then in `new` or in `stood`; else why it is not."""
        if seen.over:
            return InvalidDataError("the task takes no reports now: ask the city for the tasks that are open")
        if (before := new.get(mark, stood.get(mark))) is not None:
            return None if before == answer else DeniedError("a report of this person or vault was taken: once a task")
        if not task.issuer_key and len(seen.marks) + len(new) >= most(len(answer)):
            return DeniedError("the task has all the reports that a city without a roll keeps: answer the next one")
        new[mark] = answer
        return None

    def _answers(self, task: Task, entry: int) -> list[bytes]:
        """The answers that were taken together."""
        size, body = _size(task), self._store.blob(_blob(task, entry))
        return [body[at : at + size] for at in range(_SALT, len(body), size)]

    def _responses(self, task: Task) -> Responses | None:
        """The sum of a task's noised reports, where it asks for such. No more are taken from then on."""
        if task.asked is None:
            return None
        how, entries = task.asked.fit.how, self._closed(task)
        supports, reports, group = np.zeros(how.categories, dtype=np.int64), 0, list[bytes]()
        for entry in range(entries):
            group += self._answers(task, entry)
            if len(group) >= _AT_ONCE or entry == entries - 1:
                supports, reports, group = supports + tally(how, group).supports, reports + len(group), []
        return Responses(task.asked.fit, Tally(how, supports, reports))

    def _closed(self, task: Task) -> int:
        """Let the task take no more reports; how many entries of them there are."""
        while True:
            with self._guard:
                seen = self._read(task)
                if seen.over:
                    return seen.read - seen.over
                try:
                    self._store.append({_stream(task): (seen.read, [b""])})
                except ConflictError:
                    continue

    def _erase(self, task: Task) -> None:
        """Delete a task's answers, and overwrite them in the database; the marks stay. Its release is stored."""
        if task.asked is None or task.id in self._erased:
            return
        gone = self._store.read(_stream(task), max(self._store.length(_stream(task)) - _GONE, 0)) == [b""] * _GONE
        while not gone:
            names = [_blob(task, entry) for entry in range(self._closed(task))]
            with self._guard, contextlib.suppress(ConflictError):
                for start in range(0, len(names), _AT_ONCE):
                    self._store.append({}, dict.fromkeys(names[start : start + _AT_ONCE]))
                self._store.wipe()
                seen = self._read(task)
                if seen.over < _GONE:
                    self._store.append({_stream(task): (seen.read, [b""])})
                self._anchor()
                gone = True
        self._erased.add(task.id)
        self._seen.pop(task.id, None)


def most(size: int) -> int:
    """How many reports with answers of so many bytes a task may have where no roll bounds them."""
    return min(MOST_REPORTS, MOST_BYTES // size)


def _size(task: Task) -> int:
    return 0 if task.asked is None else task.asked.fit.how.size


def _stream(task: Task) -> str:
    return "responses/" + task.id.hex()


def _blob(task: Task, entry: int) -> str:
    return f"responses/{task.id.hex()}/{entry:09d}"
