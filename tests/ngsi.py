"""A small city with Japanese names and awkward labels, and its releases as pieces to publish."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

import datasov as ds
from datasov import catalogue
from datasov.model.release import Release
from datasov.ngsi.periods import Period
from datasov.ngsi.publishing import Piece, pieces
from datasov.ngsi.receipts import Proof
from datasov.ngsi.statistic import DPStatistic, Source, of_release
from tests.helpers import PURPOSE, Clock, enrol, found_city

BEGIN = 1_798_761_600  # 2027-01-01T00:00:00Z, nine in the morning in Tokyo
WALKS = ds.Schema(
    "walks", domain="mobility", keys=[("地区",), (ds.day("at"),), ("mesh",)],
    columns={
        "地区": ds.Category(["北(N)", "東=E", "南"]), "距離": ds.Integer(0, 50, unit="km"),
        "mesh": ds.Category(["53394526", "53394527"]), "at": ds.Timestamp("2027-01-01", "2027-01-05"),
    },
)  # fmt: skip
BY_AREA = ds.query(WALKS).keys("地区").bound(rows=2, keys=1).count().sum("距離").coverage()
BY_DAY = ds.query(WALKS).keys(ds.day("at")).bound(rows=2, keys=1).distinct()
BY_MESH = ds.query(WALKS).keys("mesh").bound(rows=2, keys=1).distinct()
BY_BIN = ds.query(WALKS).keys(ds.bin("距離", [10, 20])).bound(rows=2, keys=1).count()
LOSS = ds.zcdp(rho="0.02")
POWER = catalogue.schema("electricity")
T0, T1, T2, T3 = (f"2025-01-01T00:{m}:00.000Z" for m in ("00", "30", "45", "59"))
PROOF = Proof("lake.example", 7, "ab" * 32)


def walks(n: int) -> list[dict[str, object]]:
    return [
        {"地区": ["北(N)", "東=E", "南"][n % 3], "距離": n % 50, "mesh": ["53394526", "53394527"][n % 2],
         "at": f"2027-01-0{1 + n % 3}T08:00"}
    ]  # fmt: skip


def city_at(folder: Path, clock: Clock, people: int = 30) -> ds.City:
    city = found_city(folder, clock)
    enrol(city, range(people), walks, schema=WALKS, issued=clock.now - 100)
    return city


def asked(city: ds.City) -> list[Piece]:
    """The pieces of four releases."""
    for question in (BY_AREA, BY_DAY, BY_MESH, BY_BIN):
        city.release(question, loss=LOSS, purpose=PURPOSE)
    return pieces(city)


def later(release: Release, *, withheld: tuple[int, ...] = (), after: int = 60) -> Release:
    """A later answer to the same question, with other numbers, and cells that are withheld."""
    values = tuple(np.where(np.isin(np.arange(len(v)), withheld), 0, v + 1) for v in release.values)
    return dataclasses.replace(
        release, identifier=bytes([1 + after % 250]) * 16, time=release.time + after, values=values,
        cohort=5 if withheld else 0, withheld=withheld,
    )  # fmt: skip


def piece(release: Release) -> Piece:
    return Piece(tuple(of_release(release, PROOF)))


def meter(
    total: Any, at: str, unit: str | None = "KWH", kind: str = "Electricity", name: str = "urn:m:1"
) -> dict[str, Any]:
    """A SmartMeteringObservation in NGSIv2, normalized."""
    metadata = {"unitCode": {"type": "Text", "value": unit}} if unit else {}
    return {
        "id": name, "type": "SmartMeteringObservation",
        "totalConsumption": {"type": "Number", "value": total, "metadata": metadata},
        "meterType": {"type": "Text", "value": kind, "metadata": {}},
        "dateObserved": {"type": "DateTime", "value": at, "metadata": {}},
    }  # fmt: skip


def example() -> DPStatistic:
    """The number that docs/ngsi.md shows."""
    tokyo = ZoneInfo("Asia/Tokyo")
    source = Source(
        city="lake", release="6f1d0c1a8e5b4b0f9d3c2a1b0e9f8d7c", step=None, query="3b" * 32,
        standing="q1u6xRk0TnSxO3m0cZpV1A", table="walks", domain="mobility", purpose="bus-planning", programme="",
        loss=LOSS, trust="central", mechanism="discrete Gaussian", epoch=20_820, time=1_798_848_000, confidence=0.95,
        cohort=0, zone="Asia/Tokyo", proof=Proof("datasov.example/lake", 12, "5e" * 32),
    )  # fmt: skip
    keys = (("key_mesh", "mesh", "53394526"), ("key_at_day", "at_day", dt.date(2027, 1, 1)))
    period = Period(dt.datetime(2027, 1, 1, tzinfo=tokyo), dt.datetime(2027, 1, 2, tzinfo=tokyo))
    return DPStatistic(
        source, "residents", "distinct", "resident", 7.0710678118654755, 0, keys, -3, -17, 11, False, period, "53394526"
    )
