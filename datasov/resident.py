"""What a resident does, on their own device: keep, grant, contribute, revoke, and check what was done."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import polars as pl

from datasov import portability, receipts
from datasov.authority import held, messages, token
from datasov.authority.admission import pack_table
from datasov.authority.coverage import agreed, check_class, to_send
from datasov.authority.held import Record, day, granted
from datasov.authority.pseudonym import pseudonym
from datasov.authority.record import ConsentRecord, check_record, make_record
from datasov.crypto.kdf import random
from datasov.crypto.sign import SigningKey
from datasov.delegating import Delegating, account_key, end, ending, find, followed
from datasov.erased import Erasure, erased
from datasov.errors import ConsentError, InvalidDataError, InvalidQueryError, ProofError, StoreError
from datasov.model import evolution, frames
from datasov.model.consent import CityId, Claims, Consent, Coverage
from datasov.model.instants import instant
from datasov.model.privacy import Loss, Trust, central, check_loss
from datasov.model.purposes import Purpose, as_purpose
from datasov.model.schema import Schema
from datasov.notices import Notice, read_notices
from datasov.portability import Form
from datasov.tlog.evidence import Evidence, compare_under
from datasov.tlog.log import LogReader
from datasov.tlog.note import peek_checkpoint
from datasov.tlog.operators import Appointed, Operators, decoded, follow
from datasov.tlog.receipt import Receipt
from datasov.tlog.whole import Whole
from datasov.vault import Anchor, Vault
from datasov.vault.keychain import Keys, NewSecrets
from datasov.vault.opening import New, Ways


class Resident(Delegating):
    """A resident with their vault. Make one with :meth:`create` or :meth:`open`; it is a context manager."""

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._vault, self._clock = vault, clock

    @classmethod
    def create(cls, path: str | Path, *, clock: Callable[[], float] = time.time, **new: Unpack[New]) -> Resident:
        """Make a vault in a new folder, opened by what :class:`datasov.vault.opening.New` names.

        That is a `passphrase`, a `device_key`, a `recovery_key`, or what a `device` makes and keeps.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or the disk refuses.
        """
        return cls(Vault.create(path, **new), clock)

    @classmethod
    def open(cls, path: str | Path, *, clock: Callable[[], float] = time.time, **ways: Unpack[Ways]) -> Resident:
        """Open a vault for reading and writing, one writer at a time: :class:`datasov.vault.opening.Ways`.

        Raises:
            StoreError: no vault, or another process writes to it, or it is older than an anchor says.
            DecryptionError: a wrong key, or damaged files: it does not say which.
        """
        return cls(Vault.open(path, **ways), clock)

    def put(self, schema: Schema, data: frames.Rows) -> int:
        """Validate rows and keep them, durably: all, or none. Returns how many.

        In an attribute table the one row put replaces the one before.

        Raises:
            InvalidDataError: by row and column, what does not fit the schema.
        """
        return self.put_all([(schema, data)])

    def put_all(self, tables: Iterable[tuple[Schema, frames.Rows]]) -> int:
        """Like :meth:`put`, for several tables at once: all of them, or none."""
        encoded = [(schema, frames.encode(schema, data)) for schema, data in tables]
        self._vault.put(encoded)
        return sum(codes.height for _, codes in encoded)

    def scan(self, schema: Schema, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """The rows of a table, as a Polars frame; no rows where none were put.

        Derived columns are computed where `columns` names them, and left out where it is None.
        """
        names = list(columns) if columns is not None else [n for n, _ in schema.stored]
        return frames.decode(schema, self._codes(schema, names))

    def _codes(self, schema: Schema, names: list[str]) -> pl.DataFrame:
        for name in names:
            schema.column(name)
        known = self._vault.tables().get(schema.name)
        if known is None:
            return frames.empty_codes(schema).select(names)
        if known.digest == schema.digest:
            return self._vault.scan(schema.name, names)
        if schema.digest not in {s.digest for s in self._vault.earlier(schema.name)}:
            raise InvalidDataError(f"table {schema.name!r} is kept under another schema: give the one it was put with")
        evolution.check_readable(schema, known, names)
        return evolution.taken_back(schema, self._vault.scan(schema.name, names))

    def tables(self) -> dict[str, Schema]:
        """The tables that the vault knows, by name, each under its newest schema."""
        return self._vault.tables()

    def evolve(self, schema: Schema, fill: Mapping[str, object] | None = None) -> None:
        """Let a schema follow the one that a table has. No row is written anew: docs/vault.md.

        Bounds may grow, a Category may grow at its end, nulls may become allowed, columns may be added, and those left
        out are retired: their values can no longer be read, and leave the disk once their segment is written anew.

        Args:
            fill: what rows put before hold in added columns, by name; null where nothing is given.

        Raises:
            InvalidDataError: the vault has no such table, or the schema cannot follow: the column, and what to do.
        """
        self._vault.evolve(schema, fill or {})

    def export(
        self,
        path: str | Path,
        *,
        form: Form = "parquet",
        passphrase: str | None = None,
        recipients: Sequence[str] = (),
    ) -> None:
        """Write all that the vault holds in open formats, in the clear, or wrapped with age: docs/vault.md.

        Args:
            path: a new folder, or a new file where it is wrapped.
            form: "parquet", "csv" or "json" (lines).
            passphrase, recipients: one of them wraps the export with age (extra `portability`).

        Raises:
            InvalidDataError: no such form, recipient or passphrase. StoreError: the path exists, or the disk refuses.
        """
        portability.export(self._vault, path, form=form, passphrase=passphrase, recipients=recipients)

    def import_(self, path: str | Path, *, passphrase: str | None = None, identities: Sequence[str] = ()) -> int:
        """Put all of an export into this vault, which must hold no rows of its tables: all, or none. The rows put.

        Raises:
            VerificationError: the export is not whole, or not as it was written.
            InvalidDataError: the vault holds rows of one of its tables, or knows one under another schema.
        """
        return portability.import_(self._vault, path, passphrase=passphrase, identities=identities)

    def enrol(self, path: str | Path, **new: Unpack[New]) -> None:
        """Make this vault once more, for another device of yours, which opens it by what is given here.

        Each of the two has ways of opening, keys and anchors of its own, and erases on its own: docs/vault.md.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or the disk refuses, or `device` keeps the key of this vault.
        """
        self._vault.enrol(path, **new)

    def merge(self, path: str | Path, **ways: Unpack[Ways]) -> bool:
        """Take in what only another device's vault holds, rows and consents; whether there was anything.

        The other vault is opened by what is given here, read, and stays as it is: merge there too, and both hold the
        same. Rows stand by the device that put them, each device's in the order of its puts; of an attribute table the
        row put last stands, by the devices' clocks. Every consent of both counts, and the smaller limit for life holds.
        Ways of opening and anchors are not taken over, and rows of a domain that was erased here are refused.

        An `anchor` is of the other vault, so that an older copy of it is noticed.

        Raises:
            StoreError: no vault there, one that is being written to, or rows that cannot be brought together.
            InvalidDataError: a vault of somebody else, a copy of this device's, or schemas of which none follows.
            DecryptionError: a wrong key, or damaged files. ProofError: a log showed each device another tree.
        """
        with Vault.open(path, **ways) as other:
            return portability.merge(self._vault, other)

    def grant(
        self,
        city: CityId | str,
        schema: Schema,
        *,
        purpose: str | Purpose,
        loss: Loss,
        until: str | dt.date | dt.datetime,
        columns: Iterable[str] | None = None,
        join: Iterable[Schema] | Mapping[Schema, Iterable[str]] = (),
        reads: Iterable[Schema] = (),
        special: Iterable[str] = (),
        trust: Trust | None = None,
        jurisdiction: str = "JP",
        processing: str = "",
        zone: str = "Asia/Tokyo",
    ) -> Consent:
        """Sign a consent, and reserve its whole loss in the vault's lifetime account.

        Args:
            city: to whom: `city.id`.
            schema: the table. `columns`: of it, those covered; all of the ordinary legal class where None. A derived
                column is covered only where it is named.
            special: the columns of the special class (要配慮個人情報) that are covered beside these, or among them, by
                name or as `table.column`: no such column is covered otherwise, also where a derived one reads it.
            purpose: for what, as the city declares it: its name, or `city.purpose(name)` with what it is called.
            loss: the most that all answers under this purpose may ever cost you, over every consent for it.
            until: the last day, to its end in `zone`, or the very instant.
            join: attribute tables whose columns the vault adds, or a mapping of each to its columns.
            reads: the tables that the named derived columns are computed from: all of them and no others. The consent
                covers what is read there; the rows stay in the vault.
            jurisdiction: under whose law. `processing`: within which place, where not all of the jurisdiction; ISO 3166
                codes, as "JP" or "JP-10".

        Raises:
            ConsentError: a column of the special class is covered and not named in `special`; the lifetime account does
                not hold the loss; the times are past; or `join` or `reads` are not what they should be.
        """
        parsed = city if isinstance(city, CityId) else CityId.parse(city)
        check_loss(loss)
        now = int(self._clock())
        expires = instant(until, zone)
        if expires <= now:
            raise ConsentError("that day is over: grant until a later one")
        join, reads = join if isinstance(join, Mapping) else tuple(join), tuple(reads)
        covered, scope = agreed(schema, columns, join, reads, special)
        given = {s.name: s for s in (schema, *join, *reads)}
        check_class([(given[c.table], c) for c in covered], self._vault.tables())
        named = as_purpose(purpose)
        key = self._signing_key(schema.domain, parsed)
        records = self._records()
        account = key.public, named.name, covered[0].schema_digest
        earlier = (r.consent.claims for r in records)
        issued = max(
            [
                day(now),
                *(c.issued + 1 for c in earlier if (c.account, c.purpose, c.coverage[0].schema_digest) == account),
            ]
        )
        claims = Claims(
            issuer=key.public, audience=str(parsed), token_id=random(16), issued=issued, not_before=issued,
            expires=expires, coverage=covered, purpose=named.name, trust=trust or central(), loss=loss,
            jurisdiction=jurisdiction, status=int.from_bytes(random(4), "big"), processing=processing, special=scope,
        )  # fmt: skip
        told = make_record(claims, named)
        consent = token.issue(replace(claims, record=told.digest), key)
        kept = [*records, Record(consent, random(32), schema.domain)]
        lifetime = self.lifetime
        if lifetime is not None and not granted(kept) <= lifetime:
            raise ConsentError("your lifetime account does not hold this loss: grant less, or raise resident.lifetime")
        self._vault.set_state({held.CONSENTS: held.pack(kept), **held.called(told.digest, named)})
        return consent

    def record(self, consent: Consent) -> ConsentRecord:
        """The human-readable record that a consent was signed with: `print(record.text("ja"))`, or "en".

        Raises:
            ConsentError: not a consent of this vault. VerificationError: it was signed with another record.
        """
        claims = find(self._vault, consent)[0].consent.claims
        called = held.purpose(self._vault.state(held.PURPOSE + claims.record.hex()), claims.purpose)
        return check_record(make_record(claims, called), claims)

    def contribute(self, consent: Consent) -> bytes:
        """What the consent covers, as it stands now: signed, and sealed to the city. It replaces what was sent before.

        Raises:
            ConsentError: the consent is not one of this vault's, or was revoked.
            InvalidDataError: a table that a derived column reads is kept under another schema.
        """
        mine = self._record(consent)
        if mine.revoked:
            raise ConsentError("you revoked this consent: grant a new one")
        city = CityId.parse(consent.claims.audience)
        noted = held.sequence_note(consent)
        sequence = held.next_sequence(self._vault.state(noted), self._clock())
        number = self._contributed(consent) + 1
        self._vault.set_state({noted: sequence.to_bytes(8, "big"), **_numbered(consent, number)})
        covered = consent.claims.coverage
        joined = to_send(covered, self._versions(covered))
        contribution = messages.Contribution(
            consent_digest=consent.digest, sequence=sequence,
            commitment=messages.salted(mine.salt, messages.admission_record(consent.digest, number)),
            rows=self._table(covered[0]), profiles=tuple((c.table, self._table(c)) for c in joined),
            erasure=messages.salted(mine.salt, messages.erasure_record(consent.digest, number)),
        )  # fmt: skip
        return messages.sign_contribution(
            contribution, self._signing_key(mine.domain, city, consent.claims.account), city
        )

    def revoke(self, consent: Consent) -> bytes:
        """End a consent: a revocation, signed and sealed to the city. What was answered already stays answered.

        One that you signed for somebody else can be ended by you and by them.
        The city takes it also before the consent: a contribution that is late on its way is then refused.
        """
        record, key = ending(self._vault, consent)
        today = day(self._clock())
        city = CityId.parse(consent.claims.audience)
        revocation = messages.Revocation(
            consent.digest, today, messages.salted(record.salt, messages.revocation_record(consent.digest, today))
        )
        signed = messages.sign_revocation(revocation, key)
        end(self._vault, [consent.digest])
        return messages.seal_revocation(signed, consent, city)

    def pseudonym(
        self, city: CityId | str, *, domain: str, programme: bytes | str, period: int, at: int | None = None
    ) -> bytes:
        """What you are called in one city, domain, programme and period: 32 bytes, in no way linked to any other.

        All your devices agree on it, and new keys of the vault do not change it. docs/identity.md

        Args:
            programme: the identity of the programme's notice (32 bytes), or a purpose.
            period: its length in seconds; periods are counted from 1970. at: Unix seconds in it, now where None.

        Raises:
            InvalidQueryError: no such domain, programme or period.
        """
        parsed = city if isinstance(city, CityId) else CityId.parse(city)
        return pseudonym(
            self._vault.derive, parsed, domain, programme, int(self._clock()) if at is None else at, period
        )

    @property
    def consents(self) -> list[Consent]:
        """The consents granted and not revoked, oldest first."""
        return [r.consent for r in self._records() if not r.revoked]

    @property
    def granted(self) -> Loss:
        """The loss reserved over all controllers, for life: for each city, table and purpose its largest consent.

        It does not shrink when a consent is revoked or expires, because what was answered stays answered.
        """
        return granted(self._records())

    @property
    def lifetime(self) -> Loss | None:
        """The most that `granted` may ever be, in zCDP; None where no limit was set."""
        return held.unpack_limit(self._vault.state(held.LIFETIME))

    @lifetime.setter
    def lifetime(self, limit: Loss) -> None:
        check_loss(limit)
        if limit.measure != "zcdp":
            raise InvalidQueryError("the lifetime account is in zCDP, which every loss implies: give ds.zcdp(rho=...)")
        self._vault.set_state({held.LIFETIME: held.pack_limit(limit)})

    def receipts(
        self, log: LogReader, *, accept_rollback: bool = False, appointed: Appointed | None = None
    ) -> list[Receipt]:
        """Every released question that one of this vault's consents covered when it was asked, from the whole log.

        A series is one of them where a consent covered it at its opening or later: its loss is that of all its steps.

        All leaves are read and filtered here, so that the log never learns which ones matter to whom. The checkpoint
        is compared with the one remembered from before, for each city: a log that forgot or rewrote anything, or is of
        no city that holds a consent, is a ProofError. Where the operator changed its key, the log must hold a statement
        that the key before it signed, or that `appointed` (of its bytes) says a charter made. A log that holds a
        contribution of this vault that the vault does not know of shows that it was put back to an older copy: a
        StoreError, unless you `accept_rollback`.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        self._not_rolled_back(whole, mine, accept_rollback)
        return receipts.covered(whole, mine)

    def erasures(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Erasure]:
        """The contributions of this vault of which the city's log says that their rows were erased, oldest first.

        The log and its checkpoint are treated as :meth:`receipts` does, and each notice found is proved to be in it.

        Raises:
            ProofError: as there.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        numbered = [(r, self._contributed(r.consent)) for r in mine]
        return erased(whole, numbered)

    def notices(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Notice]:
        """The charters, programmes and emergencies of a city in which this vault holds a consent, from its whole log.

        Each is checked to be signed as the charters before it demand, and every release to be covered by one of them:
        see :func:`datasov.notices.read_notices`.

        Raises:
            ProofError: the log forgot or rewrote something, is of no such city, or tells of what nobody approved.
        """
        if not self._records():
            raise ProofError("not the log of a city that you granted a consent to: ask that city for its log")
        whole, _ = self._whole(log, appointed)
        return read_notices(whole.leaves, whole.checkpoint, whole.operators.ids[-1])

    def operators(self, log: LogReader, *, appointed: Appointed | None = None) -> Operators:
        """Who has run a city in which this vault holds a consent, from its whole log: its ids, and its restorations.

        A restoration went on from an older copy: what the city spent after that could be spent once more.

        Raises:
            ProofError: as :meth:`notices`.
        """
        if not self._records():
            raise ProofError("not the log of a city that you granted a consent to: ask that city for its log")
        return self._whole(log, appointed)[0].operators

    def checkpoints(self) -> dict[str, bytes]:
        """The signed note of each city's log that was last seen, by the city's id: to show to others who compare."""
        cities = dict.fromkeys(r.consent.claims.audience for r in self._records())
        notes = {city: self._vault.state(held.log_note(city)) for city in cities}
        return {city: note for city, note in notes.items() if note is not None}

    def compare(self, note: bytes, log: LogReader | None = None) -> Evidence | None:
        """Another person's checkpoint beside the one last seen of that log: None, or evidence that the log forked.

        Args:
            note: what they saw, as :meth:`checkpoints` gives it.
            log: a reader of the larger of the two trees, where their sizes differ.

        Raises:
            ProofError: of no city whose log this vault has seen, not signed by it, or nothing is shown either way.
        """
        origin = peek_checkpoint(note).origin
        seen = next((n for n in self.checkpoints().values() if peek_checkpoint(n).origin == origin), None)
        if seen is None:
            raise ProofError(
                "not a checkpoint of a log that this vault has seen: ask that city for your receipts first"
            )
        said = held.unpack_statements(self._vault.state(held.operators_note(origin)))
        cities = map(CityId.parse, self.checkpoints())
        # What the vault keeps was accepted when it was read, also where a charter appointed an operator.
        operators = follow(decoded(said), origin, cities, appointed=lambda _: True)
        return compare_under(seen, note, [c.verify_key for c in operators.ids], log, origin)

    def bundle(self, log: LogReader, *, consents: bool = False, appointed: Appointed | None = None) -> bytes:
        """The receipts in one file, for :func:`datasov.tlog.bundle.verify_bundle`: whoever has it needs no log.

        Args:
            consents: also name the consents that covered them, by their identities.

        Raises:
            ProofError: as :meth:`receipts`, or a release names an approval that the log does not hold.
        """
        if not self._records():
            raise ProofError("no consent was granted, so there are no receipts")
        whole, mine = self._whole(log, appointed)
        return receipts.bundle(whole, mine, consents=consents)

    def _whole(self, log: LogReader, appointed: Appointed | None) -> tuple[Whole, list[Record]]:
        """The whole log, verified and remembered, and the consents to its city."""
        records = self._records()
        whole = receipts.whole_log(log, records, appointed)
        mine = receipts.of_city(whole, records)
        self._remember(whole, mine)
        return whole, mine

    def _remember(self, whole: Whole, mine: Iterable[Record]) -> None:
        """Check that the log only grew since it was last seen, and keep the new checkpoint."""
        names = [held.log_note(str(c)) for c in receipts.cities(mine)]
        seen = [self._vault.state(name) for name in names]
        receipts.continues(whole, seen)
        note, told = whole.checkpoint.note, followed(self._vault, whole)
        if told or any(old != note for old in seen):
            self._vault.set_state({**dict.fromkeys(names, note), **told})

    def _not_rolled_back(self, whole: Whole, mine: Iterable[Record], accept: bool) -> None:
        newest = receipts.newest(whole, ((r, self._contributed(r.consent)) for r in mine))
        if newest and not accept:
            raise StoreError(
                "the log holds a contribution that this vault does not know of: another device of yours sent it, or an"
                " older copy of the vault was put in its place. Merge the other device's vault, or restore the newest"
                " copy; or pass accept_rollback=True, and lose what came after"
            )
        for record in mine:
            if record.consent.digest in newest:
                self._vault.set_state(_numbered(record.consent, newest[record.consent.digest]))

    def _contributed(self, consent: Consent) -> int:
        return int.from_bytes(self._vault.state(held.NUMBER + consent.digest.hex()) or b"", "big")

    def _table(self, coverage: Coverage) -> bytes:
        schema = self._versions([coverage]).get(coverage.table)
        if schema is None:
            raise ConsentError(f"put rows of table {coverage.table!r} first, under the schema that the consent names")
        if self._vault.tables()[schema.name] == schema:
            return pack_table(schema, self._vault.scan(schema.name, list(coverage.columns)))
        check_class([(schema, coverage)], self._vault.tables())
        try:
            return pack_table(schema, self._codes(schema, list(coverage.columns)))
        except InvalidDataError as why:
            raise ConsentError(
                f"the consent names an earlier schema of table {coverage.table!r}, under which it can no longer be "
                f"contributed ({why}): grant a new one"
            ) from None

    def _versions(self, covered: Iterable[Coverage]) -> dict[str, Schema]:
        """The schemas that a consent names, present or earlier ones, of the tables that the vault holds under them."""
        known = self._vault.tables()
        found = ((c, s) for c in covered if c.table in known for s in (known[c.table], *self._vault.earlier(c.table)))
        return {c.table: schema for c, schema in found if schema.digest == c.schema_digest}

    def _signing_key(self, domain: str, city: CityId, public: bytes | None = None) -> SigningKey:
        """A key of its own for each domain and controller: no two of them can be linked by it."""
        return account_key(self._vault, domain, city, public)

    def _record(self, consent: Consent) -> Record:
        for record in self._records():
            if record.consent.digest == consent.digest:
                return record
        raise ConsentError("not a consent of this vault: grant one first")

    def _records(self) -> list[Record]:
        return held.unpack(self._vault.state(held.CONSENTS))

    def _save(self, records: list[Record]) -> None:
        self._vault.set_state({held.CONSENTS: held.pack(records)})

    @property
    def keys(self) -> Keys:
        """The ways of opening the vault: to list, add, remove and replace them."""
        return self._vault.keys

    def anchor(self, name: str) -> Anchor:
        """Where the vault stands now, to be left with somebody else: :meth:`datasov.vault.Vault.anchor`."""
        return self._vault.anchor(name)

    def erase_domain(self, domain: str, **new: Unpack[NewSecrets]) -> None:
        """Erase every table of a domain, for good, and replace every key: :meth:`datasov.vault.Vault.erase_domain`.

        Consents stay: they are your account of what was agreed to, and what revoking them needs.
        """
        self._vault.erase_domain(domain, **new)

    def erase(self) -> None:
        """Erase the whole vault, consents included: :meth:`datasov.vault.Vault.erase`. Revoke what is to end first."""
        self._vault.erase()

    def compact(self) -> None:
        """Gather the vault's small appends into segments."""
        self._vault.compact()

    def close(self) -> None:
        """Close the vault and let another writer in."""
        self._vault.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Resident>"


def _numbered(consent: Consent, number: int) -> dict[str, bytes | None]:
    return {held.NUMBER + consent.digest.hex(): number.to_bytes(8, "big")}
