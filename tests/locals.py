"""Cities and residents under local trust, and under several trust models at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov.mpc import local, noised
from datasov.mpc.task import read_task
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.servers import TRUST, Servers, grant, resident

PURE = ds.pure(epsilon=1)
LARGE = ds.pure(epsilon=16)
COUNT = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
MEAN = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).mean("km")
ALL = (ds.central(), TRUST, ds.local())


def city_of(folder: Path, clock: Clock, trust: Any, **given: Any) -> tuple[ds.City, Servers]:
    """A city under one trust model or several, and the aggregators that it would know."""
    made: list[Servers] = []
    city = ds.City.open(
        folder / "l.city", clock=clock, post=lambda *a: made[0].post(*a), trust=trust,
        **{"budget": ds.pure(epsilon=100), "purposes": [PURPOSE], **given},
    )  # fmt: skip
    made.append(Servers(clock, str(city.id), budgets=(ds.pure(epsilon=100), ds.pure(epsilon=100))))
    return city, made[0]


def person(
    folder: Path, clock: Clock, name: object, city: ds.City, district: str | None, trust: ds.Trust, km: int = 7,
    **given: Any,
) -> ds.Resident:  # fmt: skip
    """Somebody with one row, or none, who consents under this trust; contributes, where it is central."""
    rows = [] if district is None else [{"district": district, "km": km}]
    who = resident(folder, clock, name, {TRIPS: rows})
    consent = grant(who, city, **{"loss": ds.pure(epsilon=1000), "trust": trust, **given})
    if trust.name == "central":
        city.admit(consent, who.contribute(consent))
    return who


def send(city: ds.City, servers: Servers, people: Sequence[ds.Resident], task: bytes) -> None:
    """Everybody's answer, to whom it is for."""
    for who in people:
        part, report = who.part(task).name, who.answer(task)
        if part == "local":
            city.take(report)
        elif part == "two_server":
            servers.upload([report])
        else:
            assert report == b""


@dataclass
class Way:
    """How a device reaches a city and its aggregators; `said` is all that went over it to the city."""

    city: ds.City
    servers: Servers | None = None
    said: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def __call__(self, to: Any, path: str, body: bytes) -> bytes:
        if not isinstance(to, ds.CityId):
            assert self.servers is not None
            return self.servers.post(to, path, body)
        assert (to, path) == (self.city.id, "tokens")
        answer = self.city.tokens(body)
        self.said.append((path, body, answer))
        return answer


def forget(who: ds.Resident, *prefixes: str) -> None:
    """Take notes out of a vault, as in a copy from before."""
    who._vault.set_state({n: None for n in who._vault.states() if n.startswith(prefixes)})


def certain(patch: pytest.MonkeyPatch) -> None:
    """Devices whose noise flips nothing, and which always say their own category."""
    patch.setattr(
        local, "respond", lambda data, chance, _: bytes(b"\x01" * len(data)) if chance == 0.5 else bytes(data)
    )


__all__ = [
    "ALL", "COUNT", "LARGE", "MEAN", "PURE", "Way", "certain", "city_of", "forget", "noised", "person", "read_task",
    "send",
]  # fmt: skip
