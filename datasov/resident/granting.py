"""What a resident signs: consents, contributions and revocations, and what they reserve."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import replace

import polars as pl

from datasov.authority import held, letters, messages, token
from datasov.authority.admission import pack_table
from datasov.authority.coverage import agreed, check_class, to_send
from datasov.authority.held import Record, day, granted
from datasov.authority.pseudonym import pseudonym
from datasov.authority.record import ConsentRecord, check_record, make_record
from datasov.crypto.kdf import random
from datasov.delegating import end, ending, find
from datasov.errors import ConsentError, InvalidDataError, InvalidQueryError
from datasov.model.consent import CityId, Claims, Consent, Coverage
from datasov.model.instants import instant
from datasov.model.privacy import Loss, Trust, check_loss, single
from datasov.model.purposes import Purpose, as_purpose
from datasov.model.schema import Schema
from datasov.resident.state import State, numbered


class Granting(State):
    """The part of :class:`datasov.Resident` that signs."""

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
            expires=expires, coverage=covered, purpose=named.name, trust=single(trust), loss=loss,
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

    def renew(self, consent: Consent, *, until: str | dt.date | dt.datetime, zone: str = "Asia/Tokyo") -> Consent:
        """Sign a consent of your own once more, word for word, until another day. It reserves nothing more.

        Raises:
            ConsentError: it was revoked, was signed for you by somebody else, or names a schema that the vault no
                longer holds; or as :meth:`grant`.
        """
        mine, claims = self._record(consent), consent.claims
        if mine.revoked:
            raise ConsentError("you revoked this consent: grant a new one")
        if mine.consent.chain:
            raise ConsentError("somebody signed this consent for you: have it signed again, or grant one of your own")
        tables = self._versions(claims.coverage)
        base, *others = claims.coverage
        if any(c.table not in tables for c in claims.coverage):
            raise ConsentError("the vault has no table as the consent names it: grant a new one")
        joined = to_send(claims.coverage, tables)
        named = held.purpose(self._vault.state(held.PURPOSE + claims.record.hex()), claims.purpose)
        return self.grant(
            claims.audience, tables[base.table], purpose=named, loss=claims.loss, until=until, zone=zone,
            columns=base.columns, join={tables[c.table]: c.columns for c in joined},
            reads=[tables[c.table] for c in others if c not in joined], special=claims.special, trust=claims.trust,
            jurisdiction=claims.jurisdiction, processing=claims.processing,
        )  # fmt: skip

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
        if consent.claims.trust.name != "central":
            raise ConsentError("under this consent no row leaves the vault: answer the city's tasks")
        if mine.revoked:
            raise ConsentError("you revoked this consent: grant a new one")
        city = CityId.parse(consent.claims.audience)
        noted = held.sequence_note(consent)
        sequence = held.next_sequence(self._vault.state(noted), self._clock())
        number = self._contributed(consent) + 1
        self._vault.set_state({noted: sequence.to_bytes(8, "big"), **numbered(consent, number)})
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
        Under other than central trust there is nothing to send, and the bytes are empty: the city never had the
        consent, and from now on the vault gives null reports.
        """
        record, key = ending(self._vault, consent)
        if consent.claims.trust.name != "central":
            end(self._vault, [consent.digest])
            return b""
        today = day(self._clock())
        city = CityId.parse(consent.claims.audience)
        revocation = messages.Revocation(
            consent.digest, today, messages.salted(record.salt, messages.revocation_record(consent.digest, today))
        )
        signed = messages.sign_revocation(revocation, key)
        end(self._vault, [consent.digest])
        return messages.seal_revocation(signed, consent, city)

    def letter(self, consent: Consent) -> bytes:
        """What :meth:`contribute` gives, with the consent, sealed and padded: to send to the city over a network.

        Whoever carries it sees its padded size alone. :meth:`sent` finds in the city's log what became of it.

        Raises:
            ConsentError, InvalidDataError: as :meth:`contribute`, or more than 8 MiB.
        """
        city = CityId.parse(consent.claims.audience)
        return letters.seal_admission(consent, self.contribute(consent), city)

    def revocation_letter(self, consent: Consent) -> bytes:
        """What :meth:`revoke` gives, as a letter like any other: who carries it does not see that a consent ends."""
        return letters.seal_ending(self.revoke(consent), CityId.parse(consent.claims.audience))

    def _table(self, coverage: Coverage) -> bytes:
        return pack_table(*self._covered(coverage))

    def _covered(self, coverage: Coverage) -> tuple[Schema, pl.DataFrame]:
        """The schema that a consent names, and the covered columns' codes under it."""
        schema = self._versions([coverage]).get(coverage.table)
        if schema is None:
            raise ConsentError(f"put rows of table {coverage.table!r} first, under the schema that the consent names")
        if self._vault.tables()[schema.name] == schema:
            return schema, self._vault.scan(schema.name, list(coverage.columns))
        check_class([(schema, coverage)], self._vault.tables())
        try:
            return schema, self._codes(schema, list(coverage.columns))
        except InvalidDataError as why:
            raise ConsentError(
                f"the consent names an earlier schema of table {coverage.table!r}, under which it can no longer be "
                f"contributed ({why}): grant a new one"
            ) from None

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
    def revoked(self) -> list[Consent]:
        """The consents that were revoked, oldest first: :meth:`revoke` makes their revocations once more."""
        return [r.consent for r in self._records() if r.revoked]

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
