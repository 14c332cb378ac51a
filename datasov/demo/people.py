"""Every household becomes a resident with a vault of its own, signs consents, and contributes."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from datasov.crypto.kdf import random
from datasov.demo.memory import peak_bytes
from datasov.demo.questions import GRANTS, PURPOSE, Tables
from datasov.demo.source import Source, baskets, months, on_device
from datasov.engine.spawned import spread
from datasov.model.consent import CityId, Consent
from datasov.resident import Resident

JOINED = ("purchases", "baskets")
"""The tables whose consents let the vault join the household's profile."""

CONSENTS = 3
"""What each household grants: one consent for a table of events."""

WORKERS = os.cpu_count() or 1
FEW = 100
"""Below so many households the processes would take longer to start than to work."""


@dataclass(frozen=True, slots=True)
class Household:
    """What one household's device holds before it has a vault."""

    id: int
    purchases: pl.DataFrame
    profile: pl.DataFrame


def households(source: Source) -> Iterator[Household]:
    """The households, one after the other."""
    profiles = source.profiles.partition_by("household", as_dict=True, include_key=False)
    none = source.profiles.clear().drop("household")
    for (number,), own in source.purchases.partition_by("household", as_dict=True, maintain_order=True).items():
        yield Household(int(number), own, profiles.get((number,), none))


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A household's device key (32 bytes; nobody else has it) and what it sends to the city.

    Attributes:
        worker: the process that made it and the most bytes that one held so far.
    """

    id: int
    key: bytes
    sent: tuple[tuple[Consent, bytes], ...]
    worker: tuple[int, int]


def enrol(folder: Path, household: Household, tables: Tables, city: CityId) -> Enrolled:
    """One household: create the vault, put its rows, grant, contribute, close."""
    key = random(32)
    bought = on_device(household.purchases)
    with Resident.create(vault_path(folder, household.id), device_key=key) as resident:
        resident.put_all([
            (tables.purchases, _dollars(bought.select("department", "at", "spent", "quantity"))),
            (tables.baskets, _dollars(baskets(bought).select("items", "spent", "at"))),
            (tables.months, _dollars(months(bought).select("department", "month", "items", "spent"))),
            (tables.household, household.profile),
        ])  # fmt: skip
        sent = tuple(_granted(resident, number, tables, city) for number in range(CONSENTS))
    return Enrolled(household.id, key, sent, (os.getpid(), peak_bytes()))


def grant_again(folder: Path, household: Enrolled, number: int, tables: Tables, city: CityId) -> tuple[Consent, bytes]:
    """A household's consent of this number anew, as it must be where another's drew the same index for it."""
    with Resident.open(vault_path(folder, household.id), device_key=household.key) as resident:
        return _granted(resident, number, tables, city)


def _granted(resident: Resident, number: int, tables: Tables, city: CityId) -> tuple[Consent, bytes]:
    schema = (tables.months, tables.purchases, tables.baskets)[number]
    consent = resident.grant(
        city, schema, purpose=PURPOSE, loss=GRANTS[schema.name], until=datetime.now(UTC) + timedelta(days=30),
        jurisdiction="US", join=[tables.household] if schema.name in JOINED else [],
    )  # fmt: skip
    return consent, resident.contribute(consent)


def enrol_all(folder: Path, source: Source, tables: Tables, city: CityId) -> Iterator[Enrolled]:
    """All households, on as many processes as there are processors; each is handed on as soon as it is done."""
    job = functools.partial(enrol, folder, tables=tables, city=city)
    if len(source.households) < FEW:
        yield from map(job, households(source))
        return
    yield from spread(job, households(source), workers=WORKERS, chunk=4)


def vault_path(folder: Path, household: int) -> Path:
    return folder / f"household-{household}.vault"


def _dollars(rows: pl.DataFrame) -> pl.DataFrame:
    """Cents as dollars: the nearest doubles, which NumPy's division gives and Polars' does not always."""
    return rows.with_columns(pl.Series("spent", rows["spent"].to_numpy() / 100))
