"""A process that follows a series, to be killed by tests: python -m tests.adversary.following PATH POINT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import datasov as ds
from tests.adversary.asking import die_at
from tests.helpers import PURPOSE, enrol, few_lists

DAY, BEGIN = 86_400, 1_798_761_600  # 2027-01-01 UTC
LOSS = ds.zcdp(rho="0.01")
RIDES = ds.Schema(
    "rides", domain="mobility",
    columns={"ward": ds.Category(["a", "b"]), "at": ds.Timestamp("2027-01-01", "2027-01-31", zone="UTC")},
)  # fmt: skip
SERIES = ds.series(ds.query(RIDES).keys("ward").count(), every="1d", rows=3, steps=4)
COUNTED = [[6, 0], [12, 0], [18, 0], [18, 0]]
"""Exact totals after each step of six residents with a ride a day, of whom three rides count."""


def now() -> float:
    return BEGIN + 30 * DAY


def rides(_: object) -> list[dict[str, object]]:
    return [{"ward": "a", "at": f"2027-01-{d:02}T12:00"} for d in range(1, 6)]


def found(folder: Path) -> Path:
    path = folder / "lake.city"
    with ds.City.open(path, budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=now) as city:
        enrol(city, range(6), rides, schema=RIDES, issued=BEGIN - 10, loss=LOSS)
    return path


def follow(city: ds.City) -> str:
    found = city.follow(SERIES, loss=LOSS, purpose=PURPOSE)
    return found.identifier.hex() + ":" + ",".join(found.step_digest(i).hex() for i in range(len(found.outputs)))


if __name__ == "__main__":
    few_lists(pytest.MonkeyPatch())
    with ds.City.open(sys.argv[1], clock=now) as city:
        die_at(sys.argv[2])
        print(follow(city), flush=True)
        os._exit(0)
