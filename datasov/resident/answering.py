"""What a resident's device answers to tasks: one report each, with their bounded rows or with nothing."""

from __future__ import annotations

import numpy as np
import polars as pl

from datasov.aggregator.client import over_http
from datasov.authority import held
from datasov.authority.coverage import to_send
from datasov.authority.held import Record
from datasov.crypto.kdf import sha256
from datasov.errors import ConsentError, InternalError, InvalidDataError
from datasov.kernel.contribute import contribute, shares
from datasov.model.charges import amounts
from datasov.model.consent import CityId
from datasov.model.privacy import Loss, Trust
from datasov.model.shard import RESIDENT, Integers, Shard
from datasov.mpc.noised import TAG, NoisedReport
from datasov.mpc.prio3 import NONCE_SIZE
from datasov.mpc.report import make_reports
from datasov.mpc.task import Task, check_open, read_task
from datasov.pool.ranks import physical_order, ranked
from datasov.resident.enrolling import Reach, tokens
from datasov.resident.granting import Granting

ANSWER, SPENT = held.ANSWER, held.SPENT
LATE = b"\xff" * 8


class Answering(Granting):
    """The part of :class:`datasov.Resident` that answers tasks."""

    def answer(self, task: bytes, *, refuse: bool = False, post: Reach = over_http) -> bytes:
        """The report to a task: the same bytes whenever it is asked for again.

        It is for the city (:meth:`datasov.City.take`) where :meth:`part` is local trust, and for the task's leader
        where it is two servers; where it is central trust nothing is to be sent, and the bytes are empty.

        Where a consent covers the question under this very trust, and its account holds the price, the report carries
        what the owner's rows come to under the question's bounds, and the account is charged, once, before the report
        leaves. Otherwise it is a null report, which nobody can tell from another one: it has the same size and
        shape, and counts for nothing. Send it at a time that does not follow from when it was made.

        Where the aggregators, or the city itself, ask for enrolment tokens, one of each of them is fetched first, for a
        null report too, and whichever of them the answer is for: that it was fetched tells nothing. So call this for
        every task, at a time that does not depend on what you would answer.

        Under local trust it is noised here, charged whole, and stands: the next task that asks the same gets the same
        noised answer, at no cost, until the city's next renewal, whatever changed: rows, consents, or a refusal.

        Args:
            refuse: give a null report, whatever the consents say.
            post: how the aggregators and the city are reached for tokens. Where a city issues them, hand one in that
                knows its address (:func:`datasov.aggregator.client.with_city`).

        Raises:
            VerificationError: not a task that its city signed. InvalidDataError: it is over.
            ConsentError: an issuer has no token for this resident: enrol with it (:meth:`enrolment_key`).
            ProofError: an issuer answered under another key than the task names. PeerError: it does not answer.
            StoreError: the vault cannot keep the report; nothing may be sent then.
        """
        read = read_task(task)
        note = ANSWER + read.id.hex()
        kept = self._vault.state(note)
        if kept is not None:
            return kept[8:]
        now = int(self._clock())
        check_open(read, now)
        issued = tokens(self._vault.derive, read, post)
        part = self._part(read)
        if part.name == "central":
            return b""
        if part.name == "local":
            report, beside = self._noised(read, now, part, refuse, issued.city)
        else:
            found = None if refuse else self._paid(read, now, part)
            vectors, beside = found or (
                [np.zeros(f.entries, dtype=np.int64) for f in read.fits],
                self._unpaid(read),
            )
            nonce = self._vault.derive(b"datasov report nonce v1 " + read.id)[:NONCE_SIZE]
            (report,) = make_reports(read, [vectors], [issued.servers], [nonce])
        over: dict[str, bytes | None] = {
            name: None
            for name, value in self._vault.states().items()
            if name.startswith(ANSWER) and int.from_bytes(value[:8], "big") <= now
        }
        self._vault.set_state({**over, **beside, note: read.until.to_bytes(8, "big") + report})
        return report

    def part(self, task: bytes) -> Trust:
        """Under which of the task's trust models this vault answers: that of its newest consent for the question.

        It is central trust, and nothing is to be sent, as long as the city may have counted rows that it was sent
        before: until that consent expires, or its end was seen in the city's log before the task was opened. Where
        there is no consent, or it names another model, it is two servers or else local trust: with a null report.

        Once a report was made it stays the one of that report.
        """
        read = read_task(task)
        kept = (self._vault.state(ANSWER + read.id.hex()) or b"")[8:]
        if not kept:
            return self._part(read)
        found = read.trust.part("local" if NoisedReport.is_one(kept, read) else "two_server")
        if found is None:
            raise InternalError("a report stands under a trust model that its task has not: please report it")
        return found

    def _part(self, task: Task) -> Trust:
        newest, pool = self._newest(task), task.trust.part("central")
        if pool is not None and self._pooled(task):
            return pool
        named = [t for t in task.trust.each if newest is not None and t == newest.consent.claims.trust]
        found = (*named, task.trust.part("two_server"), task.trust.part("local"))
        return next(t for t in found if t is not None)

    def _noised(
        self, task: Task, now: int, part: Trust, refuse: bool, token: bytes
    ) -> tuple[bytes, dict[str, bytes | None]]:
        """The report under local trust, and the notes of what it says and costs."""
        asked = task.asked
        if asked is None:
            raise InternalError("a task with a local part asks devices: please report it")
        kept = self._vault.state(asked.note)
        found = None if refuse or kept is not None else self._paid(task, now, part)
        answer, _ = asked.report(kept, None if found is None else found[0])
        beside = {} if kept is not None else self._unpaid(task) if found is None else found[1]
        tag = self._vault.derive(b"datasov local report v1 " + task.id)[:TAG]
        report = NoisedReport(task.id, tag, answer).with_token(CityId.parse(task.city), token)
        return report.to_bytes(), {**beside, asked.note: answer}

    def spent(self, consent_loss: Loss, task: bytes) -> Loss:
        """What answers have cost on the account that this task would draw on, in the measure of `consent_loss`."""
        read = read_task(task)
        nano, delta = self._spent(self._account(read, consent_loss.measure))
        return Loss(nano, consent_loss.measure, delta)

    def _account(self, task: Task, measure: str) -> str:
        """Of the task's city, also under an id that followed an earlier one, purpose and table."""
        city = self._vault.state(held.account_note(task.city)) or task.city.encode()
        parts = (city, task.purpose.encode(), task.query.tables()[0][1], measure.encode())
        return SPENT + sha256(*map(sha256, parts)).hex()[:32]

    def _spent(self, account: str) -> tuple[int, int]:
        """By all devices of the resident, as far as they merged. Each device counts up a note of its own."""
        kept = [value for name, value in self._vault.states().items() if name.startswith(account)]
        return sum(int.from_bytes(v[:16], "big") for v in kept), sum(int.from_bytes(v[16:], "big") for v in kept)

    def _spending(self, account: str, nano: int, delta: int) -> dict[str, bytes | None]:
        """This device's note, with which the account comes to so much."""
        name = f"{account}/{self._vault.device.hex()}"
        own, (all_nano, all_delta) = self._vault.state(name) or bytes(32), self._spent(account)
        nano += int.from_bytes(own[:16], "big") - all_nano
        delta += int.from_bytes(own[16:], "big") - all_delta
        return {name: nano.to_bytes(16, "big") + delta.to_bytes(16, "big")}

    def _unpaid(self, task: Task) -> dict[str, bytes | None]:
        """The account as it is, written once more: the files of the vault do not show whether it was charged."""
        account = self._account(task, task.loss.measure)
        return self._spending(account, *self._spent(account))

    def _same(self, task: Task) -> list[Record]:
        """The consents for the task's city, purpose and table, live or not."""
        tables = task.query.tables()
        return [
            r for r in self._records()
            if (c := r.consent.claims).audience == task.city and c.purpose == task.purpose
            and (c.coverage[0].table, c.coverage[0].schema_digest) == tables[0][:2]
        ]  # fmt: skip

    def _newest(self, task: Task) -> Record | None:
        return max(self._same(task), key=lambda r: r.consent.claims.issued, default=None)

    def _covering(self, task: Task, now: int, part: Trust) -> Record | None:
        """The newest one, where it is live and covers the question under this very trust."""
        newest = self._newest(task)
        if newest is None or newest.revoked:
            return None
        claims = newest.consent.claims
        fits = claims.trust == part and claims.loss.measure == task.loss.measure
        return newest if fits and held.covers(claims, task.purpose, now, task.query.tables()) else None

    def _paid(self, task: Task, now: int, part: Trust) -> tuple[list[Integers], dict[str, bytes | None]] | None:
        """The owner's vectors and the note of what they cost; None where a null report is to be given."""
        record = self._covering(task, now, part)
        if record is None:
            return None
        try:
            shard = self._shard(record)
        except (ConsentError, InvalidDataError):
            return None
        bounded = contribute(task.plan, shard, np.ones(1, dtype=np.bool_))
        share = shares(task.plan, bounded, task.loss)
        note = self._account(task, task.loss.measure)
        nano, delta = self._spent(note)
        # A noised answer tells of any row and of none alike, so it costs its whole loss.
        nano += task.loss.nano if part.name == "local" else int(amounts(share, task.loss.nano)[0])
        delta += int(amounts(share, task.loss.delta)[0])
        cap = record.consent.claims.loss
        if nano > cap.nano or delta > cap.delta:
            return None
        vectors = []
        for vector, statistic in zip(bounded.vectors, task.plan.statistics, strict=True):
            dense = np.zeros(statistic.size(task.plan.cells), dtype=np.int64)
            np.add.at(dense, vector.entry.astype(np.int64), vector.value)
            vectors.append(dense)
        return vectors, self._spending(note, nano, delta)

    def _pooled(self, task: Task) -> bool:
        """Whether the task's city may have counted this vault's rows in its pool when it opened the task.

        Not where they were never sent, the consent to that was over, or its end was seen in the city's log before.
        """
        return any(
            self._contributed(r.consent) and r.consent.claims.expires > task.opened
            and not int.from_bytes(self._vault.state(held.ENDED + r.consent.digest.hex()) or LATE, "big") < task.opened
            for r in self._same(task) if r.consent.claims.trust.name == "central"
        )  # fmt: skip

    def _shard(self, record: Record) -> Shard:
        """What a consent covers, as a city's pool would hold it of this resident alone."""
        base, *_ = covered = record.consent.claims.coverage
        schema, codes = self._covered(base)
        columns: dict[str, pl.Series] = {}
        for coverage in to_send(covered, self._versions(covered)):
            _, profile = self._covered(coverage)
            if profile.height:
                columns |= {f"{coverage.table}.{name}": profile[name] for name in profile.columns}
        rows = codes.with_columns(pl.lit(0, dtype=pl.UInt32).alias(RESIDENT))
        laid = ranked(rows, schema, self._ranks(schema.digest), _SELF)
        profiles = pl.DataFrame(columns) if columns else None
        return Shard(0, 1, laid, profiles, physical_order(schema, codes.columns))

    def _ranks(self, schema: bytes) -> bytes:
        """The secret by which rows beyond a bound are chosen: the same for every question about a table."""
        return self._vault.derive(b"datasov rank secret v1 " + schema)


_SELF = np.zeros(1, dtype=np.uint64)
