"""Questions to devices: a collection is opened, they answer, and what two servers or they themselves noised is told."""

from __future__ import annotations

import datetime as dt
from typing import cast

import numpy as np

from datasov.aggregator.messages import Share, open_share
from datasov.city.asking import check_made
from datasov.city.opening import Opening, Pooled
from datasov.city.responding import Responding
from datasov.city.state import OneAsker
from datasov.crypto.kdf import random
from datasov.errors import CollectionError, InvalidQueryError, PeerError, ProgrammeError, StoreError
from datasov.kernel import monitor
from datasov.kernel.ledger import Ledger
from datasov.kernel.plan import compile
from datasov.model.document import digest
from datasov.model.instants import instant
from datasov.model.plan import Noised, Plan, Request
from datasov.model.preview import Preview, expected
from datasov.model.privacy import Loss, Trust
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.model.responses import Fit
from datasov.model.series import Series, SeriesRelease
from datasov.model.shard import Integers
from datasov.mpc import fitting, listed, local
from datasov.mpc.permanent import renewal
from datasov.mpc.task import SUBJECT, Task, read_task
from datasov.pool.asked import Asked
from datasov.tlog.record import record_release, unpack_release
from datasov.wire import cbor, fields

LONGEST = 366 * 86_400
"""Seconds for which a collection may be open."""


class Collecting(Responding):
    """The part of :class:`datasov.City` that asks devices, where two servers add, or nobody."""

    def preview(self, query: Query | Series, *, loss: Loss, confidence: float = 0.95) -> Preview:
        """The error to expect, before anything is spent. It touches no data.

        Under two servers it is that of both noises together. Under local trust it grows with the root of the number of
        devices, and is that of 10,000.

        Raises:
            InvalidQueryError: the question is malformed or unbounded, or does not fit the trust model.
        """
        if self.trust.name == "central":
            return super().preview(query, loss=loss, confidence=confidence)
        plan = compile(_one(query))
        device = _fits(plan, loss, self.trust)
        found = super().preview(query, loss=loss, confidence=confidence)
        return found if device is None else expected(plan, device, found)

    def follow(
        self, series: Series, *, loss: Loss, purpose: str, programme: bytes | str | None = None
    ) -> SeriesRelease:
        """As :meth:`datasov.city.asking.Asking.follow`; only under central trust there are series."""
        if self.trust.name != "central":
            _one(series)
        return super().follow(series, loss=loss, purpose=purpose, programme=programme)

    def collect(
        self, query: Query, *, loss: Loss, purpose: str, until: str | dt.date | dt.datetime,
        zone: str = "Asia/Tokyo", programme: bytes | str | None = None, every: int = 0, announce: bool = True,
    ) -> bytes:  # fmt: skip
        """Ask devices: a task that they answer until then, signed, in the log, and told to both aggregators if any.

        The loss is spent when the task is made, here and at each aggregator. Asked again in the same data epoch, the
        same task is given, and told again to an aggregator that did not answer.

        Args:
            until: the last day, to its end in `zone`, or the very instant. From then on :meth:`release` answers.
            every: under local trust, data epochs after which devices noise their answer to this question anew, and are
                charged again; until then they repeat what they said. 0: never.
            announce: tell the aggregators now; else :meth:`announce` does.

        Raises:
            InvalidQueryError: malformed, unbounded, or not of a form that the city's trust model can answer; or it is
                central trust alone.
            ConsentError, ProgrammeError, BudgetExceededError: as :meth:`release`; also where an aggregator refuses.
            PeerError: an aggregator does not answer: collect again.
        """
        if self.trust.name == "central":
            raise InvalidQueryError("this city adds by itself: ask with city.release")
        plan = compile(query)
        plan.losses(loss)
        _fits(plan, loss, self.trust)
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
        if request.cohort and self.trust.part("local"):
            raise InvalidQueryError("local trust tests no minimum cohort: ask under two servers, or central trust")
        key = _task_key(request)
        with self._guard:
            asking = self._asking.setdefault(key, OneAsker())
        with asking.lock:
            if (stored := self._ledger.stored(key)) is None:
                task = Task(
                    city=str(self.id), query=query, loss=loss, purpose=purpose, programme=request.programme,
                    cohort=request.cohort, epoch=request.epoch, trust=self.trust, opened=now, until=ends,
                    salt=random(16), renewal=renewal(self.epoch, every),
                )  # fmt: skip
                stored = self._open_task(request, key, task)
        self._anchor()
        signed = _signed(stored)
        if announce:
            self.announce(signed)
        return signed

    def announce(self, task: bytes) -> None:
        """Tell a task to the aggregators, if there are any; once more where one did not answer.

        Raises:
            DatasovError: one refuses it. PeerError: one does not answer.
        """
        read = read_task(task)
        if read.trust.aggregators and self._post(read.trust.aggregators[0], "tasks", task) != read.id:
            raise PeerError("the leader took another task: check that both run the same version")

    def _open_task(self, request: Request, key: bytes, task: Task) -> bytes:
        """The stored task; with what the pool says to it, noised now, where residents of central trust answer too."""
        signed = task.signed(self._key)
        leaf = listed.leaf(task, signed)
        if task.trust.part("central") is None:
            reservation = self._ledger.reserve(request.loss, request.purses)
            return self._ledger.commit(reservation, key, cbor.encode([SUBJECT, signed]), leaf, stands=True)
        asked = Asked(self._pool, self._registry, self._lists)

        def record(_: Request, noised: Noised) -> tuple[bytes, bytes]:
            words = [v.astype("<i8").tobytes() for v in noised.values]
            return cbor.encode([SUBJECT, signed, words, asked.status]), leaf

        return monitor.release(
            request, authorise=self._authorise, ledger=cast(Ledger, Opening(self._ledger, key)), pool=Pooled(asked),
            engine=self._engine, record=record,
        )  # fmt: skip

    def tasks(self) -> list[bytes]:
        """The tasks that devices may answer now, oldest first."""
        now = int(self._clock())
        return [signed for signed, task in self._tasks() if now < task.until]

    def release(
        self, query: Query, *, loss: Loss, purpose: str, as_of: int | None = None, programme: bytes | str | None = None
    ) -> Release:
        """As :meth:`datasov.city.asking.Asking.release`. Under other than central trust it answers the newest
        collection of the question, once that is over, from the aggregators' noised shares or the devices' noised
        reports; later the stored answer.

        Args:
            as_of: the data epoch in which the collection was opened.

        Raises:
            As there; and CollectionError: no collection of the question was opened, or it still runs.
            PeerError, VerificationError: an aggregator does not answer as agreed: ask again.
        """
        if self.trust.name == "central":
            return super().release(query, loss=loss, purpose=purpose, as_of=as_of, programme=programme)
        wanted = programme.hex() if isinstance(programme, bytes) else programme
        for _, task in reversed(self._tasks()):
            asked = task.query == query and (task.loss, task.purpose) == (loss, purpose)
            if asked and wanted in (None, task.programme) and as_of in (None, task.epoch):
                answer = unpack_release(self._collected(task))
                return self._retained(answer, answer.time)
        raise CollectionError("no such question was opened: open a collection of it, and let devices answer")

    def _collected(self, task: Task) -> bytes:
        request, now = task.request(), int(self._clock())
        if (stored := self._ledger.stored(request.key)) is not None:
            self._erase(task)
            return stored
        if now < task.until:
            raise CollectionError("the collection is still open: ask for its release after its end", until=task.until)
        key = _task_key(request)
        _, _, *pooled = cbor.decode(self._ledger.stored(key) or b"")
        values = self._added(task)
        if pooled:
            values = [_both(v, np.frombuffer(w, dtype="<i8")) for v, w in zip(values, pooled[0], strict=True)]
        try:
            responses = self._responses(task)
        except StoreError:
            if (stored := self._ledger.stored(request.key)) is None:
                raise
            return stored  # another process was first, and deleted them
        reservation = self._ledger.resume(key, task.loss)
        noised = Noised(reservation.identifier, tuple(values))
        recorded = record_release(request, noised, str(self.id), now, pooled[1] if pooled else b"", responses)
        data = self._ledger.commit(reservation, request.key, *recorded)
        self._anchor()
        self._erase(task)
        return data

    def _added(self, task: Task) -> list[Integers]:
        """What both servers' shares come to, a vector a statistic; zeros where there are none."""
        if not task.trust.aggregators:
            return [np.zeros(s.size(task.plan.cells), dtype=np.int64) for s in task.plan.statistics]
        parts = fields.items(cbor.decode(self._post(task.trust.aggregators[0], "collect", task.id)), 2, 2)
        mine, other = (
            self._who.take(lambda _, key, p=part, r=role: open_share(p, task, r, key))  # type: ignore[misc]
            for role, part in enumerate(parts)
        )
        return _values(task, mine, other)


def _both(one: Integers, two: Integers) -> Integers:
    """The sum of two noised vectors; PeerError where it is beyond all that honest parties could have sent."""
    if np.abs(one.astype(np.float64)).max(initial=0) + np.abs(two.astype(np.float64)).max(initial=0) >= 2.0**63:
        raise PeerError("an aggregate beyond all bounds: an aggregator is at fault, so do not rely on it")
    return one + two


def _fits(plan: Plan, loss: Loss, trust: Trust) -> Fit | None:
    """InvalidQueryError unless the question fits every model of the trust; what it is on a device under local trust."""
    if trust.part("two_server"):
        fitting.fit(plan, loss)
    return local.fit(plan, loss) if trust.part("local") else None


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
        raise InvalidQueryError("devices answer single questions: follow a series under central trust")
    return query
