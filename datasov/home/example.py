"""A small simulated vault with a city that asked it things, so that the page can be seen within a minute.

Nothing in it is of anybody: rows are drawn at random from the catalogue's schemas, with a fixed seed.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from datasov import catalogue
from datasov.authority import approval
from datasov.authority.approval import Signed
from datasov.city import City
from datasov.crypto.kdf import random
from datasov.crypto.sign import SigningKey
from datasov.home import logs, sending
from datasov.home.desk import IDLE, Desk
from datasov.home.outbox import Outbox
from datasov.model.charter import CHARTER, Charter, Group, Member
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.consent import Coverage
from datasov.model.privacy import zcdp
from datasov.model.programme import PROGRAMME, Programme
from datasov.model.purposes import Purpose
from datasov.model.query import Query, query
from datasov.model.schema import Schema, hour, month
from datasov.resident import Resident

DAY = 86_400
PASSPHRASE = "simulated"  # noqa: S105  told to everybody: it opens a made-up vault
BUSES, CLINICS, POWER, SHOPS = (
    Purpose("bus-planning", "dpv:ImproveTransportMobility", "バス路線の見直し", "Planning bus routes"),
    Purpose("clinic-hours", "dpv:ImproveHealthcare", "診療時間の見直し", "Opening hours of clinics"),
    Purpose("power-saving", "dpv:PublicBenefit", "節電の呼びかけ", "Saving power at peak hours"),
    Purpose("shop-survey", "dpv:ImprovePublicServices", "商店街の調査", "Survey of shopping streets"),
)
_ROWS = {"trips": 260, "visits": 34, "purchases": 180, "electricity": 300, "learning": 12, "waste": 40, "procedures": 6}
_ALONE = ("resident_register", "preparedness", "dwelling")


@dataclass
class Clock:
    """Unix seconds: now, or so much before while the past is made up."""

    behind: float = 0.0

    def __call__(self) -> float:
        return time.time() - self.behind


@contextmanager
def example(folder: Path, *, idle: float = IDLE) -> Iterator[Desk]:
    """A desk with a simulated vault, whose city is open in this process and takes what is signed."""
    clock = Clock(150 * DAY)
    with City.open(
        folder / "lakeside.city", name="Lakeside (simulated)", budget=zcdp(rho=1), clock=clock,
        purposes=[BUSES, CLINICS, POWER, SHOPS],
    ) as city:  # fmt: skip
        path = folder / "resident.vault"
        Resident.create(path, passphrase=PASSPHRASE, clock=clock).close()
        resident = Resident.open(path, passphrase=PASSPHRASE, clock=clock)
        _live(resident, city, clock, folder)
        clock.behind = 0.0
        source = logs.Source("lakeside.city", lambda _: _held(city))
        box = Outbox(folder / "resident.vault-out", sending.open_city(city))
        desk = Desk(
            path, lambda given: Resident.open(path, passphrase=given, clock=clock), [source], box, idle, simulated=True
        )
        desk.take(resident)
        try:
            yield desk
        finally:
            desk.lock()


@contextmanager
def _held(city: City) -> Iterator[Any]:
    yield city.log


def _live(resident: Resident, city: City, clock: Clock, folder: Path) -> None:
    """A hundred and fifty days of it."""
    draw = Random(2026)  # noqa: S311
    schemas = {name: catalogue.schema(name) for name in (*_ROWS, *_ALONE)}
    for name, schema in schemas.items():
        resident.put(schema, [_row(schema, draw) for _ in range(_ROWS.get(name, 1))])
    resident.lifetime = zcdp(rho="0.5")
    # Made-up people, whose keys are forgotten at once.
    council, assembly = ([SigningKey(random(32)) for _ in range(3)] for _ in range(2))
    _govern(city, clock, council, assembly)
    trips, visits, power, shops = (schemas[n] for n in ("trips", "visits", "electricity", "purchases"))
    until = (dt.date.today() + dt.timedelta(days=240)).isoformat()
    clinics = ["at", "form", "kept"]
    given = [
        resident.grant(city.id, trips, purpose=BUSES, loss=zcdp(rho="0.05"), until=until),
        resident.grant(city.id, visits, purpose=CLINICS, loss=zcdp(rho="0.02"), until=until, columns=clinics,
                       special=clinics),
        resident.grant(city.id, power, purpose=POWER, loss=zcdp(rho="0.01"), until=until),
        resident.grant(city.id, shops, purpose=SHOPS, loss=zcdp(rho="0.01"), until=until),
    ]  # fmt: skip
    for consent in given:
        city.admit(consent, resident.contribute(consent))
    asked: Sequence[tuple[int, Query, Purpose, str]] = (
        (120, query(trips).keys("mode").bound(rows=40, keys=4).count().sum("minutes"), BUSES, "0.01"),
        (96, query(shops).keys(month("at")).bound(rows=30, keys=3).count(), SHOPS, "0.005"),
        (61, query(visits).keys(hour("at")).bound(rows=10, keys=4).count(), CLINICS, "0.008"),
        (27, query(power).keys(hour("at")).bound(rows=48, keys=24).count(), POWER, "0.004"),
    )
    for days, question, purpose, rho in asked:
        clock.behind = days * DAY
        city.release(question, loss=zcdp(rho=rho), purpose=purpose.name)
    clock.behind = 20 * DAY
    city.revoke(resident.revoke(given[3]))
    clock.behind = 2 * DAY
    flood = query(trips).keys("mode").bound(rows=20, keys=3).count()
    approved = city.approve(_flood(city, clock, flood, trips, (*council, *assembly)))
    city.release(flood, loss=zcdp(rho="0.01"), purpose=BUSES.name, programme=approved.identity)
    _family(resident, city, clock, folder, visits, trips)


def _family(resident: Resident, city: City, clock: Clock, folder: Path, visits: Schema, trips: Schema) -> None:
    """A daughter may sign for clinics, and a child's vault lets this resident sign until majority."""
    until = (dt.date.today() + dt.timedelta(days=400)).isoformat()
    with (
        Resident.create(folder / "daughter.vault", device_key=bytes(32), clock=clock) as daughter,
        Resident.create(folder / "child.vault", device_key=bytes(32), clock=clock) as child,
    ):
        key = daughter.delegate_key(city.id, "health", whom="mother")
        resident.delegate(
            city.id,
            {visits: ()},
            special=["at", "form"],
            to=key,
            kind="carer",
            purposes=[CLINICS],
            loss=zcdp(rho="0.02"),
            until=until,
        )
        mine = resident.delegate_key(city.id, "mobility", whom="Sora")
        token = child.delegate(
            city.id, trips, to=mine, kind="parental", purposes=[BUSES], loss=zcdp(rho="0.02"), until=until,
            handover=f"{dt.date.today().year + 9}-01-01",
        )  # fmt: skip
        resident.receive(token, whom="Sora")


def _row(schema: Schema, draw: Random) -> dict[str, object]:
    return {name: _value(column, draw) for name, column in schema.stored}


def _value(column: Column, draw: Random) -> object:
    """A made-up value: small numbers more often than large ones, daytimes of the last year, listed values unevenly."""
    if column.nullable and draw.random() < 0.15:
        return None
    match column:
        case Category():
            return column.values[min(int(draw.expovariate(2.2 / len(column.values))), len(column.values) - 1)]
        case Boolean():
            return draw.random() < 0.7
        case Timestamp():
            day = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            daytime = draw.triangular(-2, 13, 1) * 3600
            when = day - dt.timedelta(days=draw.randrange(151, 520)) + dt.timedelta(seconds=int(daytime))
            return min(max(when, column.low), column.high)
        case Integer() | Decimal():
            low, high = column.range
            wide = high - low
            if wide >= 10_000:  # money
                return column.decode(min(low + int(draw.expovariate(1 / 1100)), high))
            return column.decode(low + int(wide * draw.betavariate(1.6, 1.6 if wide < 130 else 60)))


def _govern(city: City, clock: Clock, council: Sequence[SigningKey], assembly: Sequence[SigningKey]) -> None:
    """A charter: of each group two sign, three in an emergency; small questions need no programme."""
    now = int(clock())
    names = (("Mayor", "Clerk", "Auditor"), ("Aoi", "Ken", "Mei"))
    groups = [
        Group(tuple(Member(n, k.public) for n, k in zip(given, keys, strict=True)), 2, 3)
        for given, keys in zip(names, (council, assembly), strict=True)
    ]
    charter = Charter(
        city=str(city.id), version=1, issued=now - 60, expires=now + 1000 * DAY, council=groups[0], assembly=groups[1],
        emergency_days=7, notice_days=0, open=tuple((p.name, zcdp(rho="0.01")) for p in (BUSES, CLINICS, POWER, SHOPS)),
        operators=(Member("operator", city.id.verify_key),),
    )  # fmt: skip
    city.adopt(_signed(CHARTER, charter, (*council, *assembly)))


def _flood(city: City, clock: Clock, question: Query, schema: Schema, by: Iterable[SigningKey]) -> Signed:
    """An emergency programme of five days, for one question."""
    now = int(clock())
    reads = {name: columns for name, _, columns in question.tables()}
    return _signed(PROGRAMME, Programme(
        city=str(city.id), charter=1, name="flood", version=1, purpose=BUSES.name, issued=now, not_before=now,
        expires=now + 5 * DAY, emergency=True, tables=(Coverage(schema.name, schema.digest, reads[schema.name]),),
        question=question.document(), template=None, mechanisms=("discrete Gaussian",), trust=("central",),
        largest=zcdp(rho="0.01"), total=zcdp(rho="0.01"), period_days=0, period=None, cohort=0, processing="JP",
        retention_days=30,
    ), by)  # fmt: skip


def _signed(kind: str, what: Charter | Programme, keys: Iterable[SigningKey]) -> Signed:
    document = what.document()
    return approval.signed(kind, document, [approval.sign(kind, document, key) for key in keys])
