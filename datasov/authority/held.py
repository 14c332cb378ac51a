"""The consents that a resident holds: what each covers, and what they reserve together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from datasov.authority import delegation, messages, token
from datasov.authority.registry import covered_columns, covered_tables
from datasov.crypto.kdf import sha256
from datasov.model.consent import Claims, Consent
from datasov.model.delegation import Delegation, larger
from datasov.model.document import canonical
from datasov.model.privacy import Loss
from datasov.model.purposes import Purpose
from datasov.wire import cbor, fields

CONSENTS, LIFETIME, SEQUENCE, LOG, NUMBER = "consents", "lifetime", "sequence/", "log/", "contributed/"
DELEGATIONS, SIGNED, PURPOSE = "delegations", "signed", "purpose/"
OPERATORS, ACCOUNT, ENDED = "operators/", "account/", "ended/"
ANSWER, SPENT, NOISED = "answer/", "spent/", "local/"
"""Names under which a vault keeps a resident's notes; after SEQUENCE comes an account's, after LOG and ACCOUNT the
city's, after NUMBER and ENDED a consent's digest, after PURPOSE that of its record, after OPERATORS a log's, after
ANSWER a task's identity, after SPENT an account that the vault charges and a device of the resident, after NOISED a
question under local trust. CONSENTS draw on the resident's own accounts, SIGNED on those of somebody else."""

DAY = 86_400


def day(now: float) -> int:
    """The first second of a time's day in UTC: what a city is told, since finer times would join two domains' pools."""
    return int(now) // DAY * DAY


def sequence_note(consent: Consent) -> str:
    """The name of the note that holds the last sequence number of the account that a consent draws on."""
    return SEQUENCE + sha256(consent.claims.account).hex()[:32]


def next_sequence(last: bytes | None, now: float) -> int:
    """Above the last one, and above all of the days before, whichever device sent them: no clock finer than a day.

    Args:
        last: what the account's note holds.
    """
    return max(int.from_bytes(last or b"", "big"), day(now) * 1_000_000) + 1


@dataclass(frozen=True, slots=True)
class Record:
    """A consent as its vault keeps it, with the salt (32 bytes) that links the log's hashes to it."""

    consent: Consent
    salt: bytes
    domain: str
    revoked: bool = False

    @property
    def digest(self) -> bytes:
        """The identity of the consent, 32 bytes."""
        return self.consent.digest

    @property
    def links(self) -> tuple[bytes, ...]:
        """The identities of the delegations that it was signed under."""
        return tuple(map(delegation.identity, self.consent.chain))

    def value(self) -> list[object]:
        """As canonical CBOR can hold it."""
        own = [self.consent.token, self.salt, self.domain, self.revoked]
        return [*own, list(self.consent.chain)] if self.consent.chain else own

    @staticmethod
    def read(value: object) -> Record:
        """The record of a value that :meth:`value` gave."""
        signed, salt, domain, revoked, *chain = fields.items(value, 4, 5)
        return Record(replace(token.reread(signed), chain=tuple(*chain)), salt, domain, revoked)


@dataclass(frozen=True, slots=True)
class HeldDelegation:
    """A delegation as a vault keeps it, the last of its chain.

    Attributes:
        chain: the tokens, the person's own first.
        given: by this vault's key, or else received by it.
        salt: 32 bytes, links the log's hash of its revocation to it.
        whom: the name under which its delegate keeps the person apart from others; empty where it was given.
    """

    chain: tuple[bytes, ...]
    given: bool
    salt: bytes
    whom: str = ""
    revoked: bool = False

    @property
    def claims(self) -> Delegation:
        """What it allows."""
        return delegation.read(self.chain[-1]).claims

    @property
    def digest(self) -> bytes:
        """Its identity, 32 bytes."""
        return delegation.identity(self.chain[-1])

    def value(self) -> list[object]:
        """As canonical CBOR can hold it."""
        return [list(self.chain), self.given, self.salt, self.whom, self.revoked]

    @staticmethod
    def read(value: object) -> HeldDelegation:
        """The delegation of a value that :meth:`value` gave."""
        chain, *others = fields.items(value, 5, 5)
        return HeldDelegation(tuple(chain), *others)


AHEAD = 64
"""So many contributions after the last one that the vault knows of are looked for in a log."""


def sent(record: Record, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The salted hashes under which contributions of these numbers stand in the city's log."""
    for number in numbers:
        yield number, messages.salted(record.salt, messages.admission_record(record.consent.digest, number))


def ended(record: Record, now: int) -> list[bytes]:
    """The salted hashes, one of which tells the end of a consent in the city's log: of each day since it began."""
    digest, first = record.consent.digest, day(record.consent.claims.issued)
    return [messages.salted(record.salt, messages.revocation_record(digest, d)) for d in range(first, now + DAY, DAY)]


def log_note(city: str) -> str:
    """The name of the note that holds the checkpoint last seen of a city's log."""
    return LOG + sha256(city.encode()).hex()[:32]


def account_note(city: str) -> str:
    """The name of the note that says under which earlier id of a city the resident's accounts there began."""
    return ACCOUNT + sha256(city.encode()).hex()[:32]


def operators_note(origin: str) -> str:
    """The name of the note that holds what a city's operators said in its log of this origin."""
    return OPERATORS + sha256(origin.encode()).hex()[:32]


def pack_statements(statements: Iterable[tuple[int, bytes]]) -> bytes:
    """Indices and bytes of the operators' leaves as the note of :func:`operators_note` holds them."""
    return cbor.encode([[index, leaf] for index, leaf in statements])


def unpack_statements(note: bytes | None) -> list[tuple[int, bytes]]:
    """What :func:`pack_statements` was given, nothing where there is no note."""
    items = [] if note is None else fields.items(cbor.decode(note), 0, 1_000_000)
    parts = (fields.items(item, 2, 2) for item in items)
    return [(fields.integer(index, 0, 2**63 - 1), fields.blob(leaf, 2**22)) for index, leaf in parts]


def called(digest: bytes, purpose: Purpose) -> dict[str, bytes | None]:
    """The note of what a purpose is called, for the record with this digest; none where its name says it all."""
    plain = purpose == Purpose(purpose.name)
    return {} if plain else {PURPOSE + digest.hex(): canonical(purpose.document())}


def purpose(note: bytes | None, name: str) -> Purpose:
    """The purpose of what :func:`called` gave, or that of this name where there is no note."""
    return Purpose(name) if note is None else Purpose(**json.loads(note))


def pack(records: Iterable[Record]) -> bytes:
    """Records as the note :data:`CONSENTS` holds them."""
    return cbor.encode([record.value() for record in records])


def unpack(note: bytes | None) -> list[Record]:
    """The records of what :func:`pack` gave, none where there is no note."""
    return [] if note is None else [Record.read(item) for item in fields.items(cbor.decode(note), 0, 1_000_000)]


def pack_delegations(delegations: Iterable[HeldDelegation]) -> bytes:
    """Delegations as the note :data:`DELEGATIONS` holds them."""
    return cbor.encode([d.value() for d in delegations])


def unpack_delegations(note: bytes | None) -> list[HeldDelegation]:
    """The delegations of what :func:`pack_delegations` gave, none where there is no note."""
    items = [] if note is None else fields.items(cbor.decode(note), 0, 1_000_000)
    return [HeldDelegation.read(item) for item in items]


def account(claims: Claims) -> str:
    """A name for what a consent draws on: one for each city, table and purpose of a person."""
    return cbor.encode([claims.audience, claims.purpose, claims.coverage[0].schema_digest]).hex()


def under(records: Iterable[Record]) -> dict[bytes, dict[str, Loss]]:
    """What is reserved on each account under each delegation, by its identity."""
    found: dict[bytes, dict[str, Loss]] = {}
    for record in records:
        claims = record.consent.claims
        for link in record.links:
            losses = found.setdefault(link, {})
            losses[account(claims)] = larger(losses.get(account(claims)), claims.loss)
    return found


def pack_limit(limit: Loss) -> bytes:
    """A zCDP loss as the note :data:`LIFETIME` holds it."""
    return limit.nano.to_bytes(16, "big") + limit.delta.to_bytes(16, "big")


def unpack_limit(note: bytes | None) -> Loss | None:
    """The loss of what :func:`pack_limit` gave, None where there is no note."""
    return None if note is None else Loss(int.from_bytes(note[:16], "big"), delta=int.from_bytes(note[16:], "big"))


def granted(records: Iterable[Record]) -> Loss:
    """The zCDP loss reserved by all of them: for each city, purpose and table, that of the largest consent.

    Consents in pure epsilon have an account of their own there, and count with the zCDP loss that they imply. So have
    those under which rows travel, which the city charges, and those under which the vault answers and charges.
    """
    largest: dict[tuple[str, str, bytes, str, bool], Loss] = {}
    for record in records:
        claims = record.consent.claims
        here = claims.trust.name != "central"
        account = claims.audience, claims.purpose, claims.coverage[0].schema_digest, claims.loss.measure, here
        held, new = largest.get(account, Loss(0)), claims.loss.concentrated
        largest[account] = Loss(max(held.nano, new.nano), delta=max(held.delta, new.delta))
    return sum(largest.values(), Loss(0))


def covers(
    claims: Claims, purpose: str, time: int, asked: Sequence[tuple[str, bytes, tuple[str, ...]]], standing: bool = False
) -> bool:
    """Whether a question could have drawn on what the consent covers.

    Args:
        time: Unix seconds of the question.
        asked: name, schema digest and columns read of each table, the base table first.
        standing: a series, which draws from `time` on.
    """
    if purpose != claims.purpose or time >= claims.expires or (time < claims.not_before and not standing):
        return False
    tables, columns = covered_tables(claims), covered_columns(claims)
    for place, (name, schema, read) in enumerate(asked):
        if tables.get(name) != schema or not {f"{name}.{c}" if place else c for c in read} <= columns:
            return False
    return asked[0][0] == claims.coverage[0].table
