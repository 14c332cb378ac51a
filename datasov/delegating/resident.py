"""What a resident does for and through others, as methods of :class:`datasov.Resident`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasov.authority import delegation, held, messages, token
from datasov.authority.coverage import agreed, coverage_of, qualified, scope_of
from datasov.authority.held import DAY, HeldDelegation, Record, day, granted
from datasov.authority.record import ConsentRecord, make_record
from datasov.authority.reserved import check_handover
from datasov.crypto.kdf import random
from datasov.delegating import keeping
from datasov.errors import ConsentError, InvalidQueryError
from datasov.model.consent import CityId, Claims, Consent
from datasov.model.delegation import Delegation, Kind, check_losses, check_narrower
from datasov.model.instants import instant
from datasov.model.privacy import Loss, Trust, check_loss, single
from datasov.model.purposes import Purpose, as_purpose
from datasov.model.schema import Schema
from datasov.vault import Vault

Until = str | dt.date | dt.datetime
Tables = Schema | Iterable[Schema] | Mapping[Schema, Iterable[str] | None]
Chain = bytes | Sequence[bytes]


class Delegating:
    """The part of :class:`datasov.Resident` that is about signing for one another."""

    _vault: Vault
    _clock: Callable[[], float]

    def delegate_key(self, city: CityId | str, domain: str, *, whom: str = "") -> bytes:
        """The public key (32 bytes) under which you sign for somebody else: give it to who delegates to you.

        Args:
            whom: a name of your own for that person. With one for each, nobody sees that two of them have one delegate.
        """
        return keeping.delegate_key(self._vault, domain, _city(city), whom).public

    def delegate(
        self, city: CityId | str, tables: Tables, *, to: bytes, kind: Kind, purposes: Iterable[str | Purpose],
        loss: Loss, until: Until, special: Iterable[str] = (), handover: Until | None = None, depth: int = 0,
        jurisdiction: str = "JP", processing: str = "", zone: str = "Asia/Tokyo",
    ) -> bytes:  # fmt: skip
        """Let somebody else sign consents on your account in one domain of one city: a delegation, to be given to them.

        It spends nothing: a consent under it counts when you :meth:`accept` it, and only your own vault sends rows.

        Args:
            tables: what may be covered: schemas, or a mapping of each to its columns (None: all of the ordinary legal
                class). The first one's domain is that of the account.
            special: the columns of the special class among these or beside them, as `table.column`, or of the first
                table by their names alone.
            to: the key that the other one's :meth:`delegate_key` shows.
            kind: "parental", "guardian", or "carer", who acts in one domain.
            loss: the most that all consents under it may reserve together.
            until: the last day, or the very instant. handover: from then on nobody but you signs; a parental one is at
                majority at the latest, stands once it was given, and can only come earlier. `until` where None. Cities
                see it: a birthday would link the child's accounts, the first day of that year does not.
            depth: how many more delegations may follow below it, 0 to 3.

        Raises:
            ConsentError: the times are past or out of order, no hand-over, a key that cannot be a delegate's, or a
                column of the special class that `special` does not name.
        """
        if kind == "parental" and handover is None:
            raise ConsentError("a parental delegation ends at majority: name that day as `handover`")
        parsed, now, grown = _city(city), int(self._clock()), keeping.majority(self._vault)
        issued = day(now) if grown is None or now < grown else max(day(now), grown)
        schemas = _schemas(tables)
        key = keeping.account_key(self._vault, next(iter(schemas)).domain, parsed)
        expires = instant(until, zone)
        claims = Delegation(
            delegator=key.public, delegate=to, subject=key.public, token_id=random(16), kind=kind, audience=str(parsed),
            **_reach(schemas, special), purposes=_names(purposes), loss=_checked(loss), jurisdiction=jurisdiction,
            processing=processing, issued=issued, not_before=issued, expires=expires,
            handover=expires if handover is None else instant(handover, zone), depth=depth,
        )  # fmt: skip
        check_handover(issued, claims.handover, grown)
        return keeping.give(self._vault, (), claims, key, now)[-1]

    def redelegate(
        self, chain: Chain, *, to: bytes, tables: Tables | None = None, special: Iterable[str] = (),
        purposes: Iterable[str | Purpose] | None = None, loss: Loss | None = None, until: Until | None = None,
        depth: int = 0, jurisdiction: str | None = None, processing: str | None = None, zone: str = "Asia/Tokyo",
    ) -> tuple[bytes, ...]:  # fmt: skip
        """Pass on what was delegated to you, or less: the whole chain, for :meth:`grant_for` of the next one.

        Args:
            tables: with `special`, as in :meth:`delegate`; all that the last delegation names where None.

        Raises:
            ConsentError: the chain does not end with a delegation to you, is over, or would be widened.
        """
        now = int(self._clock())
        links, key, _ = keeping.received(self._vault, _chain(chain), now)
        above = links[-1]
        reach = {} if tables is None else _reach(_schemas(tables), special)
        claims = replace(
            above.claims, delegator=key.public, delegate=to, token_id=random(16), parent=above.digest, depth=depth,
            issued=max(day(now), above.claims.issued), not_before=max(day(now), above.claims.not_before), **reach,
            purposes=above.claims.purposes if purposes is None else _names(purposes),
            loss=above.claims.loss if loss is None else _checked(loss),
            expires=above.claims.expires if until is None else instant(until, zone),
            jurisdiction=above.claims.jurisdiction if jurisdiction is None else jurisdiction,
            processing=above.claims.processing if processing is None else processing,
        )  # fmt: skip
        check_narrower(claims, above.claims)
        return keeping.give(self._vault, tuple(link.token for link in links), claims, key, now)

    def receive(self, chain: Chain, *, whom: str = "") -> None:
        """Keep a chain that ends with a delegation to a key of yours.

        Args:
            whom: as it was given to :meth:`delegate_key`.

        Raises:
            ConsentError: it is to somebody else, or over. VerificationError: it does not verify.
        """
        keeping.received(self._vault, _chain(chain), int(self._clock()), whom)

    def grant_for(
        self, chain: Chain, schema: Schema, *, purpose: str | Purpose, loss: Loss, until: Until | None = None,
        columns: Iterable[str] | None = None, join: Iterable[Schema] | Mapping[Schema, Iterable[str]] = (),
        reads: Iterable[Schema] = (), special: Iterable[str] = (), trust: Trust | None = None,
        jurisdiction: str | None = None, processing: str | None = None, zone: str = "Asia/Tokyo",
    ) -> Consent:  # fmt: skip
        """Sign a consent on somebody else's account, for them to :meth:`accept` and contribute under.

        Args:
            chain: the delegations from the person to you. Others as in :meth:`datasov.Resident.grant`; what is left out
                is as the last delegation says.

        Raises:
            ConsentError: the chain is not to you, is over, or does not allow it.
        """
        now = int(self._clock())
        links, key, domain = keeping.received(self._vault, _chain(chain), now)
        last = links[-1].claims
        join, reads = join if isinstance(join, Mapping) else tuple(join), tuple(reads)
        covered, scope = agreed(schema, columns, join, reads, special)
        named = as_purpose(purpose)
        known = {s.name: s for s in (schema, *join, *reads)}
        signed = held.unpack(self._vault.state(held.SIGNED))
        earlier = [r.consent.claims.issued + 1 for r in signed if r.consent.claims.subject == last.subject]
        issued = max([day(now), last.issued, last.not_before, *earlier])
        place = last.jurisdiction if jurisdiction is None else jurisdiction
        claims = Claims(
            issuer=key.public, audience=last.audience, token_id=random(16), issued=issued, not_before=issued,
            expires=min(last.expires, last.handover) if until is None else instant(until, zone), coverage=covered,
            purpose=named.name, trust=single(trust), loss=_checked(loss), jurisdiction=place,
            processing=last.processing if processing is None else processing,
            status=int.from_bytes(random(4), "big"), special=scope, subject=last.subject,
            parent=links[-1].digest,
        )  # fmt: skip
        told = make_record(claims, named)
        consent = replace(
            token.issue(replace(claims, record=told.digest), key), chain=tuple(link.token for link in links)
        )
        delegation.verify_chain(consent.chain, consent, now)
        delegation.check_tables(last, [(known[c.table], c) for c in covered])
        check_losses(links, held.account(consent.claims), loss, held.under(signed))
        kept = held.pack([*signed, Record(consent, random(32), domain)])
        self._vault.set_state({held.SIGNED: kept, **held.called(told.digest, named)})
        return consent

    def accept(self, consent: Consent | bytes, record: ConsentRecord | bytes | None = None) -> Consent:
        """Take in a consent that was signed for you, and reserve its loss in your lifetime account.

        From then on it is like one of your own: contribute under it, revoke it, find it in your receipts.

        Args:
            record: the one that it was signed with, from the delegate's :meth:`datasov.Resident.record`, to be read
                before; without it, the consent must be for a purpose whose name says it all.

        Raises:
            ConsentError: it is not on an account of this vault, is dated later than today, goes beyond its chain or the
                sum under it, a delegation was revoked or is over, or the lifetime account does not hold the loss.
            VerificationError: it does not verify, or was signed with another record.
        """
        found = delegation.unbundle(consent)
        links = delegation.verified(found, int(self._clock()))
        if not links:
            raise ConsentError("nobody signed this consent for you: your own are granted, not accepted")
        domain = keeping.account_domain(self._vault, links[-1].claims)
        check_handover(links[0].claims.issued, found.claims.expires, keeping.majority(self._vault))
        if found.claims.not_before >= self._clock() + DAY:
            raise ConsentError("the consent is dated later than today, and would bar newer ones: have it signed again")
        records = held.unpack(self._vault.state(held.CONSENTS))
        ended = {d.digest for d in self.delegations if d.revoked}
        if any(link.digest in ended for link in links):
            raise ConsentError("you revoked a delegation that this consent needs: delegate anew")
        for one in records:
            if one.digest == found.digest:
                if one.revoked:
                    raise ConsentError("this consent was revoked: have a new one signed")
                return one.consent
        called = keeping.told(found.claims, record)
        keeping.check_known(self._vault, found.claims, links[-1].claims, domain)
        account = held.account(found.claims)
        others = [r.consent.claims for r in records if held.account(r.consent.claims) == account]
        if any(claims.issued >= found.claims.issued for claims in others):
            raise ConsentError("you hold a newer consent for this table and purpose: have this one signed again")
        check_losses(links, account, found.claims.loss, held.under(records))
        kept = [*records, Record(found, random(32), domain)]
        lifetime = held.unpack_limit(self._vault.state(held.LIFETIME))
        if lifetime is not None and not granted(kept) <= lifetime:
            raise ConsentError("your lifetime account does not hold this loss: have less granted, or raise the limit")
        self._vault.set_state({held.CONSENTS: held.pack(kept), **called})
        return found

    def revoke_delegation(self, given: Chain) -> bytes:
        """End a delegation with every consent under it: a revocation, signed and sealed to the city.

        Whose account it is can end every delegation of a chain, and who passed one on can end that one.

        Args:
            given: the delegation, or a chain that ends with it.

        Raises:
            ConsentError: it is neither on an account of this vault nor given by it.
        """
        ended = delegation.read(_chain(given)[-1])
        known = {d.digest: d for d in self.delegations}
        one = known.get(ended.digest) or HeldDelegation(_chain(given), True, random(32))
        city, today = CityId.parse(ended.claims.audience), day(self._clock())
        key = keeping.revoking_key(self._vault, ended.claims)
        commitment = messages.salted(one.salt, messages.revocation_record(ended.digest, today))
        revocation = messages.Revocation(ended.digest, today, commitment)
        signed = messages.sign_revocation(revocation, key, messages.DELEGATION_REVOCATION)
        keeping.keep(self._vault, replace(one, revoked=True))
        keeping.end_under(self._vault, ended.digest)
        return messages.seal_revocation(signed, ended, city)

    @property
    def delegations(self) -> list[HeldDelegation]:
        """The delegations given and received, oldest first, revoked ones too."""
        return keeping.kept(self._vault)


def _city(city: CityId | str) -> CityId:
    return city if isinstance(city, CityId) else CityId.parse(city)


def _chain(chain: Chain) -> tuple[bytes, ...]:
    return (chain,) if isinstance(chain, bytes) else tuple(chain)


def _checked(loss: Loss) -> Loss:
    check_loss(loss)
    return loss


def _names(purposes: Iterable[str | Purpose]) -> tuple[str, ...]:
    if isinstance(purposes, str):
        raise InvalidQueryError("purposes is a list: write it like purposes=['bus-planning']")
    return tuple(sorted({as_purpose(purpose).name for purpose in purposes}))


def _schemas(tables: Tables) -> dict[Schema, Iterable[str] | None]:
    if isinstance(tables, Schema):
        return {tables: None}
    found = dict(tables) if isinstance(tables, Mapping) else dict.fromkeys(tables)
    if not found:
        raise ConsentError("a delegation names at least one table: give its schema")
    return found


def _reach(tables: Mapping[Schema, Iterable[str] | None], special: Iterable[str]) -> dict[str, Any]:
    """The domains, columns and special columns of tables, as a delegation names them."""
    scope = qualified(next(iter(tables)), special)
    listed = [(schema, coverage_of(schema, names, scope)) for schema, names in tables.items()]
    return {
        "domains": tuple(sorted({schema.domain for schema in tables})),
        "columns": tuple(sorted(f"{c.table}.{name}" for _, c in listed for name in c.columns)),
        "special": scope_of(listed, scope),
    }
