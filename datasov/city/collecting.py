"""Questions under two servers: a collection is opened, devices answer, and the two shares make the release."""

from __future__ import annotations

import datetime as dt

from datasov.aggregator.messages import Share, open_share
from datasov.city.asking import Asking, check_made
from datasov.crypto.kdf import random
from datasov.errors import InvalidQueryError, PeerError, ProgrammeError
from datasov.kernel.ledger import KEY
from datasov.kernel.plan import compile
from datasov.model.document import digest
from datasov.model.instants import instant
from datasov.model.plan import Noised, Request
from datasov.model.preview import Preview
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.model.series import Series, SeriesRelease
from datasov.model.shard import Integers
from datasov.mpc.fitting import fit
from datasov.mpc.task import SUBJECT, Task, read_task
from datasov.tlog.leaves import NoticeLeaf, encode_leaf
from datasov.tlog.record import record_release, unpack_release
from datasov.wire import cbor, fields

LONGEST = 366 * 86_400
"""Seconds for which a collection may be open."""


class Collecting(Asking):
    """The part of :class:`datasov.City` that asks devices, where two servers add."""

    def preview(self, query: Query | Series, *, loss: Loss, confidence: float = 0.95) -> Preview:
        """The error to expect, before anything is spent. It touches no data.

        Under two servers it is that of both noises together.

        Raises:
            InvalidQueryError: the question is malformed or unbounded, or does not fit the trust model.
        """
        if self.trust.name == "two_server":
            fit(compile(_one(query)), loss)
        return super().preview(query, loss=loss, confidence=confidence)

    def follow(
        self, series: Series, *, loss: Loss, purpose: str, programme: bytes | str | None = None
    ) -> SeriesRelease:
        """As :meth:`datasov.city.asking.Asking.follow`; under two servers there are no series."""
        if self.trust.name == "two_server":
            _one(series)
        return super().follow(series, loss=loss, purpose=purpose, programme=programme)

    def collect(
        self, query: Query, *, loss: Loss, purpose: str, until: str | dt.date | dt.datetime,
        zone: str = "Asia/Tokyo", programme: bytes | str | None = None,
    ) -> bytes:  # fmt: skip
        """Ask devices: a task that they answer until then, signed, told to both aggregators and in the log.

        The loss is spent when the task is made, here and at each aggregator. Asked again in the same data epoch, the
        same task is given, and told again to an aggregator that did not answer.

        Args:
            until: the last day, to its end in `zone`, or the very instant. From then on :meth:`release` answers.

        Raises:
            InvalidQueryError: malformed, unbounded, or not of a form that two servers can add; or the city is no such.
            ConsentError, ProgrammeError, BudgetExceededError: as :meth:`release`; also where an aggregator refuses.
            PeerError: an aggregator does not answer: collect again.
        """
        if self.trust.name != "two_server":
            raise InvalidQueryError("this city adds by itself: ask with city.release")
        plan = compile(query)
        plan.losses(loss)
        fit(plan, loss)
        check_made(query)
        self.tick()
        now, ends = int(self._clock()), instant(until, zone)
        if not now < ends <= now + LONGEST:
            raise InvalidQueryError("a collection ends in the future, and within a year: give a later `until`")
        request = Request(plan, loss, purpose, self.trust, self.epoch, purses=(self._allowed,), time=now)
        request, running = self._under(request, programme, now)
        if not running:
            raise ProgrammeError("the programme is over: no question is opened under it")
        self._authorise(request)
        key = _task_key(request)
        if (stored := self._ledger.stored(key)) is None:
            reservation = self._ledger.reserve(loss, request.purses)
            task = Task(
                city=str(self.id), query=query, loss=loss, purpose=purpose, programme=request.programme,
                cohort=request.cohort, epoch=request.epoch, trust=self.trust, opened=now, until=ends, salt=random(16),
            )  # fmt: skip
            signed = task.signed(self._key)
            leaf = encode_leaf(NoticeLeaf(SUBJECT, now, task.id, signed))
            stored = self._ledger.commit(reservation, key, cbor.encode([SUBJECT, signed]), leaf, stands=True)
        self._anchor()
        signed = _signed(stored)
        task = read_task(signed)
        if self._post(task.trust.aggregators[0], "tasks", signed) != task.id:
            raise PeerError("the leader took another task: check that both run the same version")
        return signed

    def tasks(self) -> list[bytes]:
        """The tasks that devices may answer now, oldest first."""
        now = int(self._clock())
        return [signed for signed, task in self._tasks() if now < task.until]

    def release(
        self, query: Query, *, loss: Loss, purpose: str, as_of: int | None = None, programme: bytes | str | None = None
    ) -> Release:
        """As :meth:`datasov.city.asking.Asking.release`. Under two servers it answers the newest collection of the
        question, once that is over, from the aggregators' noised shares; later the stored answer.

        Args:
            as_of: the data epoch in which the collection was opened.

        Raises:
            As there; and InvalidQueryError: no collection of the question was opened, or it still runs.
            PeerError, VerificationError: an aggregator does not answer as agreed: ask again.
        """
        if self.trust.name != "two_server":
            return super().release(query, loss=loss, purpose=purpose, as_of=as_of, programme=programme)
        wanted = programme.hex() if isinstance(programme, bytes) else programme
        for _, task in reversed(self._tasks()):
            asked = task.query == query and (task.loss, task.purpose) == (loss, purpose)
            if asked and wanted in (None, task.programme) and as_of in (None, task.epoch):
                answer = unpack_release(self._collected(task))
                return self._retained(answer, answer.time)
        raise InvalidQueryError("no such question was opened: open it with city.collect, and let devices answer")

    def _collected(self, task: Task) -> bytes:
        request, now = task.request(), int(self._clock())
        if (stored := self._ledger.stored(request.key)) is not None:
            return stored
        if now < task.until:
            raise InvalidQueryError("the collection is still open: ask for its release after its end")
        leader = task.trust.aggregators[0]
        parts = fields.items(cbor.decode(self._post(leader, "collect", task.id)), 2, 2)
        mine, other = (
            self._who.take(lambda _, key, p=part, r=role: open_share(p, task, r, key))  # type: ignore[misc]
            for role, part in enumerate(parts)
        )
        key = _task_key(request)
        reservation = self._ledger.resume(key, task.loss)
        noised = Noised(reservation.identifier, tuple(_values(task, mine, other)))
        data = self._ledger.commit(reservation, request.key, *record_release(request, noised, str(self.id), now))
        self._anchor()
        return data

    def _tasks(self) -> list[tuple[bytes, Task]]:
        """All tasks, oldest first. What was read of them before is kept."""
        for body in self._store.read("releases", self._tasks_read):
            found = cbor.decode(body[KEY:])
            if found[0] == SUBJECT:
                self._tasks_known.append((found[1], read_task(found[1])))
            self._tasks_read += 1
        return list(self._tasks_known)


def _task_key(request: Request) -> bytes:
    """Under which the task of a question is stored."""
    return digest([request.key.hex(), SUBJECT])


def _signed(stored: bytes) -> bytes:
    return bytes(cbor.decode(stored)[1])


def _values(task: Task, mine: Share, other: Share) -> list[Integers]:
    """Noised vectors of two shares; PeerError where they are not of the same reports."""
    if (mine.reports, mine.checksum) != (other.reports, other.checksum):
        raise PeerError("the aggregators counted different reports: one of them is at fault")
    if not len(mine.shares) == len(other.shares) == len(task.fits):
        raise PeerError("the aggregators sent shares of another task: one of them is at fault")
    return [f.joined(a, b, mine.reports) for f, a, b in zip(task.fits, mine.shares, other.shares, strict=True)]


def _one(query: Query | Series) -> Query:
    if isinstance(query, Series):
        raise InvalidQueryError("two servers answer single questions: follow a series under central trust")
    return query
