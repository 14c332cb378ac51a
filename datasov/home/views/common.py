"""Consents as the page shows them, and days that people type."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datasov.errors import DatasovError
from datasov.home import plain
from datasov.home.seen import Seen
from datasov.home.shared import NotFoundError, SaidError
from datasov.model.columns import Column
from datasov.model.consent import CityId, Claims, Consent
from datasov.model.derived import Exists
from datasov.model.privacy import Loss
from datasov.model.purposes import Purpose
from datasov.model.schema import Schema
from datasov.resident import Resident


@dataclass(frozen=True, slots=True)
class Covered:
    """One table of a consent. `sent`: its rows travel; else they only serve to compute other columns here."""

    table: str
    schema: Schema | None
    columns: tuple[str, ...]
    special: tuple[str, ...]
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Card:
    """A consent as it is shown.

    Attributes:
        told: what the city's verified log tells of it: "admitted" or "ended"; "waiting" where it does not yet; ""
            where no log was read, or there is nothing to tell.
    """

    name: str
    city: str
    purpose: Purpose
    until: int
    covered: tuple[Covered, ...]
    loss: Loss
    right: int
    delegated: bool
    over: bool
    asked: int = 0
    used: float = 0.0
    told: str = ""


def find(consents: Iterable[Consent], name: str) -> Consent:
    """The consent with this identity, in hexadecimal; NotFoundError where there is none."""
    for consent in consents:
        if consent.digest.hex() == name:
            return consent
    raise NotFoundError(name)


def card(resident: Resident, consent: Consent, seen: Sequence[Seen] = ()) -> Card:
    """A consent with what it covers, and what verified receipts say was asked under it."""
    claims, tables = consent.claims, resident.tables()
    asked = [r for s in seen if s.operators is not None and s.operators.known(CityId.parse(claims.audience))
             for r in s.verified() if _drew(r.purpose, r.release.tables[0][:2], claims)]  # fmt: skip
    spent = sum((r.loss.concentrated for r in asked), Loss(0))
    return Card(
        consent.digest.hex(), CityId.parse(claims.audience).name, called(resident, consent), claims.expires,
        tuple(_covered(claims, tables)), claims.loss, plain.right(claims.loss), bool(consent.chain),
        claims.expires <= time.time(), len(asked), plain.share(spent, claims.loss.concentrated) or 0.0,
        _told(consent, seen),
    )  # fmt: skip


def _told(consent: Consent, seen: Sequence[Seen]) -> str:
    city = CityId.parse(consent.claims.audience)
    logs = [s for s in seen if s.operators is not None and s.operators.known(city)]
    if not logs or consent.claims.trust.name != "central":
        return ""
    if any(consent.digest == c.digest for s in logs for c in s.ended):
        return "ended"
    newest = [s.admitted for log in logs for s in log.sent if s.consent.digest == consent.digest][-1:]
    return "" if not newest else "admitted" if newest[0] else "waiting"


def _drew(purpose: str, base: tuple[str, bytes], claims: Claims) -> bool:
    return purpose == claims.purpose and base == (claims.coverage[0].table, claims.coverage[0].schema_digest)


def _covered(claims: Claims, tables: dict[str, Schema]) -> Iterable[Covered]:
    read = {
        column.table
        for c in claims.coverage if c.table in tables
        for column in (_column(tables[c.table], name) for name in c.columns) if isinstance(column, Exists)
    }  # fmt: skip
    for place, c in enumerate(claims.coverage):
        special = tuple(n for n in c.columns if f"{c.table}.{n}" in claims.special)
        yield Covered(c.table, tables.get(c.table), c.columns, special, place == 0 or c.table not in read)


def _column(schema: Schema, name: str) -> Column | Exists | None:
    return dict(schema.items).get(name)


def called(resident: Resident, consent: Consent) -> Purpose:
    """The purpose of a consent, with what it is called in the record that was signed; its name where there is none."""
    try:
        told = resident.record(consent).document["purpose"]
    except DatasovError:
        return Purpose(consent.claims.purpose)
    return Purpose(told["name"], told["within"], told["ja"], told["en"])


def coming(text: str) -> str:
    """A day that was typed, once it is one that is still to come; SaidError otherwise."""
    try:
        found = dt.date.fromisoformat(text)
    except ValueError:
        raise SaidError("consents.bad_day") from None
    if found <= dt.date.today():
        raise SaidError("consents.bad_day")
    return found.isoformat()


def next_year(until: int) -> str:
    """The day a year after a consent's, or after today: what the form for a renewal proposes."""
    after = max(dt.datetime.fromtimestamp(until).date(), dt.date.today())
    return (after + dt.timedelta(days=365)).isoformat()
