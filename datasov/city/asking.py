"""Questions and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from datasov.city.state import OneAsker, State
from datasov.errors import ConsentError, InvalidQueryError, ProgrammeError
from datasov.kernel import monitor
from datasov.kernel import series as monitor_series
from datasov.kernel.ledger import KEY
from datasov.kernel.plan import compile
from datasov.kernel.series import compile_series
from datasov.model.document import digest
from datasov.model.plan import Request
from datasov.model.preview import Preview, least_loss, preview, preview_series
from datasov.model.privacy import Loss
from datasov.model.query import Query, query_from_document
from datasov.model.release import Release
from datasov.model.series import Series, SeriesRelease, series_from_document
from datasov.model.suggest import Bounds, suggest
from datasov.pool.asked import Asked
from datasov.tlog.record import is_opening, is_series, record_release, record_step, unpack_release, unpack_series

Answer = TypeVar("Answer", Release, SeriesRelease)


class Asking(State):
    """The part of :class:`datasov.City` that analysts meet."""

    def preview(self, query: Query | Series, *, loss: Loss, confidence: float = 0.95) -> Preview:
        """The error to expect, before anything is spent. It touches no data.

        Raises:
            InvalidQueryError: the question is malformed or unbounded.
        """
        if isinstance(query, Series):
            return preview_series(query, compile_series(query), loss, confidence)
        plan = compile(query)
        notes: tuple[str, ...] = ()
        if plan.blind:
            notes = (
                f"no rank index for these keys in schema {query.schema.name!r}: each resident counts with at most "
                f"{plan.rows} rows in all; declare the key set in the schema's `keys` to bound it by key",
            )
        return preview(
            query, plan.statistics, plan.parts, plan.scales(loss), plan.cells, loss, confidence, notes, self.trust.draws
        )

    def loss_for(
        self,
        query: Query | Series,
        *,
        within: float | Mapping[str, float],
        confidence: float = 0.95,
        like: Loss | None = None,
    ) -> Loss:
        """The least loss for which every margin of the preview is at most `within`: the inverse of :meth:`preview`.

        Args:
            within: in the columns' units; one for all statistics, or one for each that matters, by its name.
            like: a loss whose measure and delta the found one has; zCDP without a delta where None.

        Raises:
            InvalidQueryError: no loss gives such margins, or there is no such statistic.
        """
        return least_loss(lambda loss: self.preview(query, loss=loss, confidence=confidence), within, like or Loss(1))

    def suggest_bounds(
        self, query: Query, *, loss: Loss, purpose: str, share: object = "0.95", programme: bytes | str | None = None
    ) -> Bounds:
        """Bounds for a question, from noisy quantiles: `bounds.apply(query)` is the question under them.

        Args:
            query: with its keys, where and aggregates; bounds that it has already are left aside.
            loss: of one or two releases together: of rows a key and keys a resident, and of the columns' values.
            share: of the residents (of one row of each, for values) that the bounds are to cover, above 0.5. The values
                cut off are as many at the low end as at the high one.

        Raises:
            As :meth:`release`.
        """
        most, cohort = self._governing.bounds(purpose, programme, int(self._clock()))
        return suggest(
            query, share, loss, lambda q, part: self.release(q, loss=part, purpose=purpose, programme=programme),
            most, cohort=cohort,
        )  # fmt: skip

    def release(
        self, query: Query, *, loss: Loss, purpose: str, as_of: int | None = None, programme: bytes | str | None = None
    ) -> Release:
        """Answer a question with noise, or return the stored answer where it was asked before in this data epoch.

        Args:
            loss: what the answer costs the city's budget, and at most each resident who takes part.
            as_of: a public data epoch. An earlier one only finds what was asked then.
            programme: the identity of the approved one under which it is asked; the first that covers it where None.
                One that is over only finds what was asked under it, until its days of retention are over too.

        Raises:
            InvalidQueryError: malformed, unbounded, or for an epoch in which it was not asked.
            ConsentError: a purpose that the city does not declare.
            ProgrammeError: the city has a charter, which does not leave the question open, and no programme covers it.
            BudgetExceededError: the remaining budget, or what is left to the programme, does not cover the loss.
        """
        plan = compile(query)
        plan.losses(loss)
        check_made(query)
        self.tick()
        present = self.epoch
        epoch = present if as_of is None else as_of
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= present:
            raise InvalidQueryError(f"as_of is the number of a data epoch up to the present one, {present}")
        now = int(self._clock())
        request = Request(plan, loss, purpose, self.trust, epoch, purses=(self._allowed,), time=now)
        request, running = self._under(request, programme, now)
        if epoch < present or not running:
            stored = self._ledger.stored(request.key)
            if stored is None and not running:
                raise ProgrammeError("the programme is over: it only finds what was asked under it, with as_of")
            if stored is None:
                raise InvalidQueryError("not asked in that epoch, which is over: leave as_of out to ask now")
            answer = unpack_release(stored)
            return self._retained(answer, answer.time)
        with self._guard:
            asking = self._asking.setdefault(request.key, OneAsker())
        asked = Asked(self._pool, self._registry, self._lists)
        with asking.lock:
            data = monitor.release(
                request, authorise=self._authorise, ledger=self._ledger, pool=asked, engine=self._engine,
                record=lambda r, noised: record_release(r, noised, str(self.id), now, asked.status),
            )  # fmt: skip
        self._anchor()
        answer = unpack_release(data)
        return self._retained(answer, answer.time)

    def follow(
        self, series: Series, *, loss: Loss, purpose: str, programme: bytes | str | None = None
    ) -> SeriesRelease:
        """Open a series, or continue it: the steps that are over are counted, noised and released, each once.

        Args:
            loss: what the whole horizon costs: the city's budget at the opening, and at most each resident, as they
                take part. Asked again, the same series with the same loss and purpose goes on where it was.
            programme: as in :meth:`release`. A series goes on under the programme under which it was opened; when that
                is over, no further step is counted.

        Raises:
            As :meth:`release`.
        """
        plan = compile_series(series)
        plan.losses(series.paid(loss))
        check_made(series)
        self.tick()
        now = int(self._clock())
        request = Request(plan, loss, purpose, self.trust, 0, purses=(self._allowed,), series=series, time=now)
        request, running = self._under(request, programme, now)
        over = series.over(now) if running else self._counted(request.key, series)
        with self._guard:
            asking = self._asking.setdefault(request.key, OneAsker())
        asked = Asked(self._pool, self._registry, self._lists)
        with asking.lock:
            bodies = monitor_series.follow(
                request, series, over, authorise=self._authorise if running else self._declared,
                ledger=self._ledger, pool=asked, engine=self._engine,
                record=lambda noised, step: record_step(request, noised, step, str(self.id), now, asked.status),
            )  # fmt: skip
        self._anchor()
        found = unpack_series(bodies)
        return self._retained(found, found.times[-1] if found.times else found.time)

    def _declared(self, request: Request) -> None:
        if request.purpose not in self.purposes:
            raise ConsentError("a purpose that this city does not declare: see city.purposes")

    def _authorise(self, request: Request) -> None:
        self._declared(request)
        self._governing.state().check(request, int(self._clock()) if request.time is None else request.time)

    def _under(self, request: Request, programme: bytes | str | None, now: int) -> tuple[Request, bool]:
        """The request under its programme, and whether that runs."""
        self._declared(request)
        return self._governing.under(request, programme, now, self._ledger.stored)

    def _counted(self, key: bytes, series: Series) -> int:
        """How many steps of a series are stored."""
        if self._ledger.stored(key) is None:
            raise ProgrammeError("the programme is over: no series is opened under it")
        steps = (step for step in range(series.steps) if self._ledger.stored(digest([key.hex(), step])) is None)
        return next(steps, series.steps)

    def _retained(self, release: Answer, time: int) -> Answer:
        if not self._governing.state().retained(release.programme, time, int(self._clock())):
            raise ProgrammeError("the programme's days of retention are over for this release: ask anew")
        return release

    def releases(self) -> list[Release]:
        """All that was released and may still be kept, in order, but for the steps of series."""
        bodies = (body[KEY:] for body in self._store.read("releases"))
        found = [unpack_release(body) for body in bodies if not is_series(body)]
        now, state = int(self._clock()), self._governing.state()
        return [r for r in found if state.retained(r.programme, r.time, now)]

    def standing(self) -> list[SeriesRelease]:
        """The series that were opened and may be kept, in order, with the steps that were released; it counts none."""
        keys, bodies, openings = dict[bytes, bytes](), list[bytes](), list[bytes]()
        for stored in self._store.read("releases"):
            key, body = stored[:KEY], stored[KEY:]
            keys[key] = body
            if is_opening(body):
                openings.append(key)
        now, state, found = int(self._clock()), self._governing.state(), list[SeriesRelease]()
        for key in openings:
            bodies = [keys[key]]
            while (step := digest([key.hex(), len(bodies) - 1])) in keys:
                bodies.append(keys[step])
            series = unpack_series(bodies)
            if state.retained(series.programme, series.times[-1] if series.times else series.time, now):
                found.append(series)
        return found


def check_made(question: Query | Series) -> None:
    """Raise InvalidQueryError unless a stored answer to the question could be read again: before anything is spent."""
    query = question.query if isinstance(question, Series) else question
    schemas = {s.digest: s for s in (query.schema, *query.profiles)}
    read = series_from_document if isinstance(question, Series) else query_from_document
    if read(question.document(), schemas) != question:
        raise InvalidQueryError(
            "a question is made step by step, with ds.query(schema), ds.sql or ds.series: this one was not"
        )
