"""What a resident's device answers to two servers: one report a task, with their bounded rows or with nothing."""

from __future__ import annotations

import numpy as np
import polars as pl

from datasov.aggregator.client import over_http
from datasov.aggregator.messages import Post
from datasov.authority import held
from datasov.authority.coverage import to_send
from datasov.authority.held import Record
from datasov.crypto.kdf import sha256
from datasov.errors import ConsentError, InvalidDataError
from datasov.kernel.contribute import contribute, shares
from datasov.model.charges import amounts
from datasov.model.privacy import Loss
from datasov.model.shard import RESIDENT, Integers, Shard
from datasov.mpc.prio3 import NONCE_SIZE
from datasov.mpc.report import make_reports
from datasov.mpc.task import Task, check_open, read_task
from datasov.pool.ranks import physical_order, ranked
from datasov.resident.enrolling import tokens
from datasov.resident.granting import Granting

ANSWER, SPENT = held.ANSWER, held.SPENT


class Answering(Granting):
    """The part of :class:`datasov.Resident` that answers tasks."""

    def answer(self, task: bytes, *, refuse: bool = False, post: Post = over_http) -> bytes:
        """The report to a task, for its leader: the same bytes whenever it is asked for again.

        Where a consent covers the question under this very trust, and its account holds the price, the report carries
        what the owner's rows come to under the question's bounds, and the account is charged, once, before the report
        leaves. Otherwise it is a null report, which no server can tell from another one: it has the same size and
        shape, and counts for nothing. Send it at a time that does not follow from when it was made.

        Where the aggregators ask for enrolment tokens, one of each is fetched first, for a null report too: that it was
        fetched tells nothing. So call this for every task, at a time that does not depend on what you would answer.

        Args:
            refuse: give a null report, whatever the consents say.
            post: how the aggregators are reached for tokens.

        Raises:
            VerificationError: not a task that its city signed. InvalidDataError: it is over.
            ConsentError: an aggregator issues no token to this resident: enrol with it (:meth:`enrolment_key`).
            ProofError: an aggregator answered under another key than the task names. PeerError: it does not answer.
            StoreError: the vault cannot keep the report; nothing may be sent then.
        """
        read = read_task(task)
        note = ANSWER + read.id.hex()
        kept = self._vault.state(note)
        if kept is not None:
            return kept[8:]
        now = int(self._clock())
        check_open(read, now)
        held_tokens = tokens(self._vault.derive, read, post)
        found = None if refuse else self._paid(read, now)
        vectors, charge = found or ([np.zeros(f.entries, dtype=np.int64) for f in read.fits], {})
        nonce = self._vault.derive(b"datasov report nonce v1 " + read.id)[:NONCE_SIZE]
        (report,) = make_reports(read, [vectors], [held_tokens], [nonce])
        over: dict[str, bytes | None] = {
            name: None
            for name, value in self._vault.states().items()
            if name.startswith(ANSWER) and int.from_bytes(value[:8], "big") <= now
        }
        self._vault.set_state({**over, **charge, note: read.until.to_bytes(8, "big") + report})
        return report

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

    def _covering(self, task: Task, now: int) -> Record | None:
        """The newest consent for the task's city, purpose and table, where it is live and covers the question."""
        tables = task.query.tables()
        same = [
            r for r in self._records()
            if (c := r.consent.claims).audience == task.city and c.purpose == task.purpose
            and (c.coverage[0].table, c.coverage[0].schema_digest) == tables[0][:2]
        ]  # fmt: skip
        newest = max(same, key=lambda r: r.consent.claims.issued, default=None)
        if newest is None or newest.revoked:
            return None
        claims = newest.consent.claims
        fits = claims.trust == task.trust and claims.loss.measure == task.loss.measure
        return newest if fits and held.covers(claims, task.purpose, now, tables) else None

    def _paid(self, task: Task, now: int) -> tuple[list[Integers], dict[str, bytes | None]] | None:
        """The owner's vectors and the note of what they cost; None where a null report is to be given."""
        record = self._covering(task, now)
        if record is None:
            return None
        try:
            shard = self._shard(record)
        except (ConsentError, InvalidDataError):
            return None
        part = contribute(task.plan, shard, np.ones(1, dtype=np.bool_))
        share = shares(task.plan, part, task.loss)
        note = self._account(task, task.loss.measure)
        nano, delta = self._spent(note)
        nano, delta = nano + int(amounts(share, task.loss.nano)[0]), delta + int(amounts(share, task.loss.delta)[0])
        cap = record.consent.claims.loss
        if nano > cap.nano or delta > cap.delta:
            return None
        vectors = []
        for vector, statistic in zip(part.vectors, task.plan.statistics, strict=True):
            dense = np.zeros(statistic.size(task.plan.cells), dtype=np.int64)
            np.add.at(dense, vector.entry.astype(np.int64), vector.value)
            vectors.append(dense)
        return vectors, self._spending(note, nano, delta)

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
