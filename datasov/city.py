"""What a city does: it admits consents, answers bounded questions with noise, and keeps the public log."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from datasov.authority import messages, signers
from datasov.authority.admission import Admission, admit
from datasov.authority.approval import Signed
from datasov.authority.ending import endings
from datasov.authority.lists import StatusLists
from datasov.authority.programme import Approved
from datasov.authority.registry import Registry
from datasov.crypto.certificate import certified
from datasov.engine.local import threads
from datasov.errors import ConflictError, ConsentError, DatasovError, InvalidQueryError, ProgrammeError, StoreError
from datasov.founding import DEFAULT_PLACE, found
from datasov.governing import Governing, check_founding
from datasov.kernel import monitor
from datasov.kernel import series as monitor_series
from datasov.kernel.ledger import KEY, Ledger
from datasov.kernel.plan import compile
from datasov.kernel.series import compile_series
from datasov.model.charter import Charter
from datasov.model.consent import CityId, Consent
from datasov.model.document import digest
from datasov.model.plan import Request
from datasov.model.preview import Preview, least_loss, preview, preview_series
from datasov.model.privacy import Loss, Trust, central
from datasov.model.purposes import Purpose, named
from datasov.model.query import Query, query_from_document
from datasov.model.release import Release
from datasov.model.schema import Schema
from datasov.model.series import Series, SeriesRelease, series_from_document
from datasov.model.suggest import Bounds, suggest
from datasov.pool.asked import Asked
from datasov.pool.draft import Draft, admit_all
from datasov.pool.mixing import mixed
from datasov.pool.pool import Pool
from datasov.pool.rounds import Public, keep
from datasov.pool.sealed import SealedAccounts
from datasov.store import anchor, place, settings
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.log import Log
from datasov.tlog.record import is_series, record_release, record_step, unpack_release, unpack_series
from datasov.tlog.ticks import REVOCATION, waiting
from datasov.upkeep import exchange
from datasov.upkeep.backup import backup, note_restoration, restore
from datasov.upkeep.identity import identity
from datasov.upkeep.migrate import migrate
from datasov.upkeep.rotate import GRACE, rotate

_ADMIT_AT_ONCE = 512
Answer = TypeVar("Answer", Release, SeriesRelease)
DAY, HOUR = 86_400, 3_600


class _Asking:
    """A lock for one question: its second asker waits and gets the first one's answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class City:
    """A city's side. Open it with :meth:`open`; it is a context manager, and any number of threads may use it."""

    def __init__(
        self, path: Path, store: SQLiteStore, key: bytes, clock: Callable[[], float], engine: monitor.Engine
    ) -> None:
        """Use :meth:`open`."""
        self._path, self._store, self._clock, self._engine = path, store, clock, engine
        self._settings = settings.read(store)
        self._who, self._operator = identity(self._settings, key), key
        settings.check_version(self._settings)
        self.id: CityId = self._who.id
        self._key, self._opening = self._who.signing, self._who.opening
        store.verify()
        self.trust = Trust(self._settings["trust"])
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
        self._anchored: int | None = None
        self._asking: weakref.WeakValueDictionary[bytes, _Asking] = weakref.WeakValueDictionary()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        budget: Loss | None = None,
        purposes: Sequence[str | Purpose] | None = None,
        trust: Trust | None = None,
        processing: str | None = None,
        name: str | None = None,
        epoch: int = DAY,
        tick: int = HOUR,
        allowance: Loss | None = None,
        period: int = 365 * DAY,
        erase_within: int = 30 * DAY,
        charter: Signed | bytes | None = None,
        operator_key: bytes | None = None,
        authorities: Sequence[bytes] = (),
        reanchor: bool = False,
        clock: Callable[[], float] = time.time,
        engine: monitor.Engine | None = None,
    ) -> City:
        """Open the city at a path, or found it where there is nothing.

        Args:
            path: the city's folder. Its key and its anchor lie beside it, as `PATH.key` and `PATH.anchor`.
            budget: the loss that all answers may ever cost together; fixed when the city is founded.
            purposes: what may be asked for; fixed then too. A name of your own, a term of the Data Privacy Vocabulary
                like "dpv:ImproveTransportMobility", or a :class:`datasov.Purpose`.
            trust: the trust model; :func:`datasov.central` is the only one so far.
            processing: where the city processes, an ISO 3166 code like "JP-10"; fixed then too. None: "JP".
            epoch, tick: seconds of a data epoch and of a tick of the log; a new city's, fixed then.
            allowance: of the budget, the most that may be spent in any one period of `period` seconds (counted from
                1970); fixed then too. None: all of it. What one period leaves does not add to the next, and the budget
                stays the most that all periods may ever cost together.
            erase_within: seconds within which the rows of a consent that was revoked, expired or renewed are gone from
                the pool, as long as somebody asks or calls :meth:`tick` twice in them; fixed then too.
            charter: the first one, signed, as :meth:`adopt` takes it. A new city is founded under it or not at all, for
                which its key must be there before; an existing one must have been.
            operator_key: 32 bytes, for instance from a key manager, instead of the key file.
            authorities: certificates (X.509, DER) of those who accredit signers: :meth:`enrol_certificate`.
            reanchor: accept this copy as the newest, where the anchor was lost for good.
            clock: Unix seconds. engine: how shards are mapped (threads of this process where None).

        Raises:
            StoreError: no city, another budget or other purposes than it was founded with, the wrong key, or a copy
                that lies behind its anchor.
            InvalidQueryError: a new city without purposes.
        """
        path = Path(path)
        new = not path.exists()
        if new and place.anchor_path(path).exists():
            raise StoreError(
                f"{path.name} is missing, and its anchor is here: bring the folder back from a backup, "
                "or move the key and the anchor away to found another city"
            )
        if new and charter is not None:
            signing, opening = place.keys(place.operator_key(path, operator_key, create=False))
            known = CityId(path.stem if name is None else name, signing.public, opening.public)
            check_founding(charter, known, int(clock()))
        if new:
            found(
                path, operator_key, budget, allowance, period, purposes, trust or central(),
                path.stem if name is None else name, epoch, tick, erase_within, int(clock()),
                DEFAULT_PLACE if processing is None else processing,
            )  # fmt: skip
        exchange.settle(path, operator_key)
        store, key = place.open_store(path, operator_key)
        try:
            city = cls(path, store, key, clock, engine or threads())
            city._given, city._authorities = operator_key, tuple(authorities)
            if not new:
                city._check_same(budget, purposes, trust, allowance, processing)
            city._check_anchor(new, reanchor)
            if new and charter is not None:
                city.adopt(charter)
            elif charter is not None:
                city._governing.check_same(charter)
        except BaseException:
            store.close()
            raise
        return city

    def _check_same(
        self, budget: Loss | None, purposes: Sequence[str | Purpose] | None, trust: Trust | None,
        allowance: Loss | None, processing: str | None,
    ) -> None:  # fmt: skip
        if budget is not None and budget != self.budget:
            raise StoreError("the city keeps the budget that it was founded with: open it without naming one")
        if allowance is not None and allowance != self._ledger.allowance:
            raise StoreError("the city keeps the allowance that it was founded with: open it without naming one")
        if purposes is not None and not named(purposes, self._described):
            raise StoreError("the city keeps the purposes that it was founded with: open it without naming any")
        if trust is not None and trust != self.trust:
            raise StoreError("the city keeps the trust model that it was founded with: open it without naming one")
        if processing is not None and processing != self.processing:
            raise StoreError("the city keeps the place that it was founded with: open it without naming one")

    def _check_anchor(self, new: bool, reanchor: bool) -> None:
        try:
            if not new:
                exchange.check_anchor(self._store, self._path, self._key.public)
        except StoreError:
            if not reanchor:
                raise
            note_restoration(self._store, self._who, int(self._clock()))
        self._anchor()

    def _anchor(self) -> None:
        """Sign the store's position outside of it: done before any answer leaves."""
        if self._store.head()[0] != self._anchored:
            self._anchored = anchor.write(place.anchor_path(self._path), self._store.head, self._key)

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

    def enrol_certificate(self, certificate: bytes, chain: Sequence[bytes] = ()) -> bytes:
        """Let the key of a certificate sign consents, while it is valid. Returns the key's name, 32 bytes.

        Of the certificate only the key and its validity are kept. Enrolling a renewed one prolongs it.

        Args:
            certificate: X.509 in DER, for signing, with a key of P-256. `chain`: those between it and an authority.

        Raises:
            SignatureError: it is not valid under the authorities that the city was opened with, or its key may not
                sign so.
        """
        entry = certified(certificate, chain, self._authorities, int(self._clock()))
        while True:
            try:
                self._store.append({signers.STREAM: (self._signers.refresh(), [signers.pack(entry)])})
            except ConflictError:
                continue
            self._anchor()
            return entry.key.name

    @property
    def charter(self) -> Charter | None:
        """The present charter, or None: then every declared purpose may be asked for."""
        return self._governing.state().charter

    @property
    def programmes(self) -> tuple[Approved, ...]:
        """The programmes under which questions may be asked now."""
        now, state = int(self._clock()), self._governing.state()
        return tuple(state.running(now)) if state.charter is not None and now < state.charter.expires else ()

    def adopt(self, charter: Signed | bytes) -> Charter:
        """Take up a charter: the first one on trust, once, every other one as the successor of the one before.

        Raises:
            ProgrammeError, VerificationError: as :meth:`datasov.governing.Governing.adopt`.
        """
        found = self._governing.adopt(charter, int(self._clock()))
        self._anchor()
        return found

    def approve(self, programme: Signed | bytes) -> Approved:
        """Take up a programme that the council and the assembly signed; its identity is what `release` can name.

        Raises:
            ProgrammeError, VerificationError: as :meth:`datasov.governing.Governing.approve`.
        """
        found = self._governing.approve(programme, int(self._clock()), self.purposes, self.budget, self.processing)
        self._anchor()
        return found

    def remaining_under(self, programme: bytes) -> Loss:
        """What questions under a programme may still cost now: of its total, its period, and the city's budget."""
        now, approved = int(self._clock()), self._governing.state().programme(programme)
        return self._ledger.remaining([self._allowed, *approved.programme.purses(programme, now)])

    def admit(self, consent: Consent | bytes, contribution: bytes) -> None:
        """Verify a consent and what was contributed under it, and pool the covered columns, durably.

        A consent that was signed for somebody else brings its delegations, in `Consent.chain` or in the bytes that
        `datasov.authority.delegation.bundle` gives.

        Raises:
            ConsentError: for another city or purpose, expired, revoked, superseded, replayed, not covering what came.
            VerificationError, InvalidDataError: bytes or values that are not acceptable.
        """
        (refused,) = self.admit_many([(consent, contribution)])
        if refused is not None:
            raise refused

    def admit_many(
        self,
        pairs: Iterable[tuple[Consent | bytes, bytes]],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[DatasovError | None]:
        """Admit many; the result has, for each pair in order, None or why it was refused.

        They are admitted in a drawn order, 512 at a time, so that who came beside whom is not kept. Collect what
        arrives, and admit it together: one by one, the order of arrival stands in the registry (docs/identity.md).

        Args:
            progress: called with the number of pairs done so far.
        """
        results: list[DatasovError | None] = []
        batch: list[tuple[Consent | bytes, bytes]] = []
        with ThreadPoolExecutor() as executor:
            for pair in pairs:
                batch.append(pair)
                if len(batch) == _ADMIT_AT_ONCE:
                    results += self._admit_batch(batch, executor)
                    batch = []
                    if progress:
                        progress(len(results))
            results += self._admit_batch(batch, executor)
        if progress:
            progress(len(results))
        return results

    def _verified(self, pair: tuple[Consent | bytes, bytes]) -> Admission | DatasovError:
        consent, contribution = pair
        try:
            return self._who.take(
                lambda city, key: admit(
                    consent, contribution,
                    city=city, key=key, purposes=self.purposes, trusts=(self.trust.name,), now=int(self._clock()),
                    place=self.processing, directory=self._signers.at(int(self._clock())),
                ),
                int(self._clock()),
            )  # fmt: skip
        except DatasovError as refused:
            return refused

    def _admit_batch(
        self, batch: Sequence[tuple[Consent | bytes, bytes]], executor: ThreadPoolExecutor
    ) -> list[DatasovError | None]:
        self._signers.refresh()
        verified = list(executor.map(self._verified, batch))
        order = mixed(verified)
        with self._guard:
            done = admit_all(
                [verified[i] for i in order], lambda: Draft(self._registry, self._store, self._pool, self._tick_began)
            )
        if batch:
            self._anchor()
        results = dict(zip(order, done, strict=True))
        return [results[i] for i in range(len(batch))]

    @property
    def _tick_began(self) -> int:
        """When the present tick began: no finer time of an admission or a revocation is kept."""
        tick: int = self._settings["tick"]
        return int(self._clock()) // tick * tick

    def revoke(self, revocation: bytes) -> None:
        """End a consent, as its resident or its delegate signed, or a delegation with every consent under it.

        The rows are in no question from now on. No loss is given back.

        Raises:
            ConsentError: for another city, or of a consent that was revoked or superseded already.
            VerificationError: (or its subclasses) bytes that do not decrypt, verify or parse.
        """
        self._signers.refresh()
        directory = self._signers.at(None)
        ended, sent = self._who.take(lambda city, key: messages.open_revocation(revocation, key, city, directory))
        while True:
            with self._guard, self._registry.lock:
                now = self._tick_began
                ending = endings(self._registry, ended, now)
                entries, blobs = waiting(REVOCATION, now, [sent.commitment])
                batch = {**ending.streams, "commitments": (self._store.length("commitments"), entries)}
                try:
                    self._store.append(batch, {**blobs, **ending.blobs})
                except ConflictError:
                    continue
                break
        self._anchor()

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
        return preview(query, plan.statistics, plan.parts, plan.scales(loss), plan.cells, loss, confidence, notes)

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
        _check_made(query)
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
            asking = self._asking.setdefault(request.key, _Asking())
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
        _check_made(series)
        self.tick()
        now = int(self._clock())
        request = Request(plan, loss, purpose, self.trust, 0, purses=(self._allowed,), series=series, time=now)
        request, running = self._under(request, programme, now)
        over = series.over(now) if running else self._counted(request.key, series)
        with self._guard:
            asking = self._asking.setdefault(request.key, _Asking())
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

    def compact(self, schema: Schema, purpose: str) -> None:
        """Fold pending contributions into the pool's shards and erase the rows of revoked consents from them."""
        self._pool.fold(schema, purpose, compact=True)
        self._anchor()

    def tick(self) -> None:
        """Publish the admissions and revocations of the ticks that are over, in padded batches, and the status lists;
        and twice in `erase_within` erase what is to go from the pool, and tell the log of it.

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

    def backup(self, path: str | Path) -> None:
        """Write a backup of the city to a new file, sealed under the operator's key, while others go on writing.

        Raises:
            StoreError: the path exists, the city is damaged, or the disk refuses. No half backup is left.
        """
        backup(self._store, self._path / "pool", self._operator, Path(path), int(self._clock()))

    @classmethod
    def restore(
        cls,
        backup: str | Path,
        path: str | Path,
        *,
        operator_key: bytes | None = None,
        log_head: bytes | None = None,
        reanchor: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> City:
        """Put a city back from a backup, and open it. It must be the newest: see :func:`datasov.upkeep.backup.restore`.

        Raises:
            StoreError: as there: no budget is refilled by going back behind the anchor or a checkpoint.
        """
        restore(
            Path(backup), Path(path), operator_key=operator_key, log_head=log_head, reanchor=reanchor, now=int(clock())
        )
        return cls.open(path, operator_key=operator_key, clock=clock)

    def rotate(self, new_key: bytes | None = None, *, grace: int = GRACE) -> CityId:
        """Close the city, which nobody else may have open, and give it another operator's key; its new id.

        A new key file takes the place of the old one, where the key lies in a file. Where it was handed in, hand in the
        new one too, and keep both until this returns. Contributions that are sealed to the old id are taken for `grace`
        seconds more (0 after a theft), its revocations for good.

        Raises:
            StoreError: the city is open elsewhere, its charter does not name the new key among its operators, or the
                disk refuses: the city is then as it was.
        """
        operators = None if self.charter is None else {member.key for member in self.charter.operators}
        self.close()
        return rotate(
            self._path, operator_key=self._given, new_key=new_key, grace=grace, now=int(self._clock()),
            operators=operators,
        )  # fmt: skip

    @classmethod
    def migrate(
        cls, path: str | Path, *, operator_key: bytes | None = None, clock: Callable[[], float] = time.time
    ) -> Path | None:
        """Bring a city of an older version to this one, after a backup, whose path is returned; None where it is new.

        Raises:
            StoreError: it is newer than this version, open elsewhere or damaged, or the disk refuses.
        """
        return migrate(Path(path), operator_key=operator_key, now=int(clock()))

    def status(self) -> bytes:
        """The set of status lists in force, whose SHA-256 stands in the leaf of each answer that applied it.

        Its form is in docs/spec/status.md; it is empty until the first tick is over.
        """
        return self._lists.document()

    def status_list(self, number: int) -> bytes:
        """A signed Token Status List: who has the city's id alone can check it, with :mod:`datasov.authority.status`.

        Raises:
            StoreError: no list of this number (0 to 4095) was published yet.
        """
        return self._lists.signed(number)

    def close(self) -> None:
        """Close the city's files."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<City {self.id.name}, {self.remaining} of {self.budget} left>"


def _check_made(question: Query | Series) -> None:
    """Raise InvalidQueryError unless a stored answer to the question could be read again: before anything is spent."""
    query = question.query if isinstance(question, Series) else question
    schemas = {s.digest: s for s in (query.schema, *query.profiles)}
    read = series_from_document if isinstance(question, Series) else query_from_document
    if read(question.document(), schemas) != question:
        raise InvalidQueryError(
            "a question is made step by step, with ds.query(schema), ds.sql or ds.series: this one was not"
        )
