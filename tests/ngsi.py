"""A small city with Japanese names and awkward labels, and its releases as pieces to publish."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import datasov as ds
from datasov.model.release import Release
from datasov.ngsi.publishing import Piece, pieces
from datasov.ngsi.receipts import Proof
from datasov.ngsi.statistic import of_release
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
