"""A city whose page is worth a look, simulated and seeded: for tests, and for the pictures in the docs.

``python -m tests.city_page docs/images`` makes the pictures anew, with a headless Chromium.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasov as ds
from datasov import catalogue
from datasov.model.charter import DAY, Group, Member
from datasov.model.consent import Coverage
from datasov.model.programme import Programme
from datasov.model.template import Allowed, Template
from tests.governing import COUNCIL, ORDINARY, URGENT, charter_for, members, signed
from tests.helpers import NOW, Clock, enrol, few_lists

NAMES = ("佐藤 花", "鈴木 一郎", "高橋 みどり", "田中 健", "渡辺 直子", "伊藤 正", "山本 結")
TRIPS = catalogue.schema("trips")
MODES = {"walk": 0.2, "bicycle": 0.14, "bus": 0.17, "rail": 0.13, "taxi": 0.03, "on-demand": 0.05, "car-driver": 0.28}
AIMS = {"work": 0.34, "school": 0.14, "shopping": 0.27, "leisure": 0.1, "errand": 0.15}
PURPOSES = [
    ds.Purpose("bus-planning", within="dpv:ImproveTransportMobility", ja="バス路線の計画", en="Planning of bus lines"),
    ds.Purpose("flood-relief", within="dpv:ImprovePublicServices", ja="水害時の支援", en="Relief after the flood"),
]
RESIDENTS = 1_200


def _rows(name: object) -> list[dict[str, object]]:
    random = np.random.default_rng(int(str(name).rsplit(" ", 1)[1]))
    found = []
    for _ in range(3):
        hour = int(np.clip(random.choice([8, 17]) + random.normal(0, 2.2), 0, 23))
        minutes = int(np.clip(random.gamma(4, 6), 1, 120))
        mode, aim = (str(random.choice([*shares], p=[*shares.values()])) for shares in (MODES, AIMS))
        at = f"2027-01-{1 + random.integers(14):02d}T{hour:02d}:30"
        found.append({"at": at, "mode": mode, "purpose": aim, "minutes": minutes, "km": minutes // 4, "fare": 0})
    return found


def build(folder: Path, clock: Clock, residents: int = RESIDENTS) -> ds.City:
    """The city of Lakeside, under a charter, with three programmes and eight answers."""
    city = ds.City.open(
        folder / "lakeside.city", name="Lakeside", clock=clock, budget=ds.zcdp(rho=1), purposes=PURPOSES,
        processing="JP-25", allowance=ds.zcdp(rho="0.25"), period=90 * DAY,
    )  # fmt: skip
    assembly = tuple(
        Member(name, m.key) for name, m in zip(NAMES, members(f"resident {n}" for n in range(7)), strict=True)
    )
    council = tuple(Member(f"議員 {i + 1}", m.key) for i, m in enumerate(members(COUNCIL)))
    city.adopt(signed(charter_for(
        city, council=Group(council, 3, 4), assembly=Group(assembly, 4, 6),
        operators=(Member("operator", city.id.verify_key),), open=(("bus-planning", ds.zcdp(rho="0.002")),),
    )))  # fmt: skip
    city.approve(signed(_programme(city, "バス時刻表 Bus timetable 2027", "bus-planning"), ORDINARY))
    with pytest.MonkeyPatch.context() as patch:
        few_lists(patch)
        for purpose, many in (("bus-planning", residents), ("flood-relief", residents // 4)):
            names = [f"{purpose} {n}" for n in range(many)]
            given = {"schema": TRIPS, "purpose": purpose, "loss": ds.zcdp(rho="0.5"), "expires": NOW + 3_000 * DAY}
            enrol(city, names, _rows, **given)  # type: ignore[arg-type]
        base = ds.query(TRIPS).bound(rows=3, keys=3)
        modes, hours = base.keys("mode"), base.keys(ds.hour("at"))
        asked = (
            (5, modes.count(), "0.01"),
            (19, hours.count(), "0.02"),
            (26, modes.sum("minutes", low=0, high=120), "0.015"),
            (40, base.keys("purpose").distinct(), "0.01"),
            (61, modes.mean("minutes", low=0, high=120), "0.02"),
            (75, hours.count(), "0.02"),
        )
        for day, query, rho in asked:
            clock.now = NOW + day * DAY
            city.release(query, loss=ds.zcdp(rho=rho), purpose="bus-planning")
        clock.now = NOW + 80 * DAY
        urgent = _programme(
            city, "バスによる避難 Evacuation by bus", "flood-relief", emergency=True, expires=NOW + 85 * DAY
        )
        city.approve(signed(urgent, URGENT))
        city.release(modes.count(), loss=ds.zcdp(rho="0.02"), purpose="flood-relief")
        clock.now = NOW + 90 * DAY
        city.approve(
            signed(_programme(city, "夜行バス Night buses 2028", "bus-planning", not_before=NOW + 100 * DAY), ORDINARY)
        )
        city.release(modes.count(), loss=ds.zcdp(rho="0.02"), purpose="bus-planning")
    return city


def _programme(city: ds.City, name: str, purpose: str, **changed: Any) -> Programme:
    template = Template(
        keys=(ds.Key("mode"), ds.Key("purpose"), ds.hour("at")),
        aggregates=(Allowed("count"), Allowed("distinct"), Allowed("sum", "minutes"), Allowed("mean", "minutes")),
        where=("minutes",), derived=(), rows=3, bound_keys=3,
    )  # fmt: skip
    values: dict[str, Any] = {
        "city": str(city.id), "charter": 1, "name": name, "version": 1, "purpose": purpose, "issued": NOW - 5,
        "not_before": NOW, "expires": NOW + 365 * DAY, "emergency": False,
        "tables": (Coverage("trips", TRIPS.digest, ("at", "mode", "purpose", "minutes")),), "question": None,
        "template": template, "mechanisms": ("discrete Gaussian",), "trust": ("central",),
        "largest": ds.zcdp(rho="0.02"), "total": ds.zcdp(rho="0.3"), "period_days": 0, "period": None, "cohort": 0,
        "processing": "JP", "retention_days": 3650,
    }  # fmt: skip
    return Programme(**{**values, **changed})


@contextmanager
def served(city: ds.City, clock: Clock) -> Iterator[str]:
    """The city's gateway on a free port of this machine; its address."""
    from tests.gateway_ports import serving

    with serving(city, {n: catalogue.schema(n) for n in catalogue.names(domain="mobility")}, clock) as address:
        yield address


def main(folder: Path) -> None:
    """Make the pictures."""
    from playwright.sync_api import sync_playwright

    from tests.browser import _FLAGS, _SIZES, chromium_path

    clock = Clock()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, build(Path(place), clock) as city, served(city, clock) as address:
        identifier = city.releases()[1].identifier.hex()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(_FLAGS))
            for name, phone, path, part in (
                ("city-page-en", False, "/?lang=en", ""), ("city-page-ja-phone", True, "/?lang=ja", ""),
                ("city-page-budget-en", False, "/?lang=en", "#budget"),
                ("city-page-programmes-ja", False, "/?lang=ja", "#programmes"),
                ("city-page-log-ja-phone", True, "/?lang=ja", "#log"),
                ("city-page-answer-ja-phone", True, f"/answers/{identifier}?lang=ja", ""),
            ):  # fmt: skip
                page = browser.new_page(viewport=_SIZES[phone])
                page.goto(address + path)
                shown = folder / f"{name}.png"
                if part:
                    page.locator(part).screenshot(path=shown)
                else:
                    width = _SIZES[phone]["width"]
                    page.screenshot(path=shown, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": 1500})
                page.close()
            browser.close()


if __name__ == "__main__":
    began = dt.datetime.now()
    main(Path(sys.argv[1]))
    print(f"made in {(dt.datetime.now() - began).seconds} s")
