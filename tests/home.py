"""The resident's page, served to tests by a real server on a real socket; and a small world behind it."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

import datasov as ds
from datasov.crypto import kdf
from datasov.home import logs, sending
from datasov.home.app import app
from datasov.home.desk import Desk
from datasov.home.door import Door
from datasov.home.outbox import Outbox, Send
from tests.browser import Window
from tests.helpers import few_lists

PASSPHRASE = "correct horse"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'{{7*7}}"
TRIPS = ds.Schema(
    "trips", domain="mobility", keys=[("district",)],
    columns={
        "at": ds.Timestamp("2024-01-01T00:00:00+09:00", "2034-01-01T00:00:00+09:00"),
        "district": ds.Category(["N", "E", HOSTILE]), "km": ds.Integer(0, 50, unit="km"),
    },
)  # fmt: skip
VISITS = ds.Schema(
    "visits", domain="health", columns={"day": ds.Integer(0, 366), "reason": ds.Category(["a", "b"], legal="special")}
)
BUSES = ds.Purpose("bus-planning", "dpv:ImproveTransportMobility", "バス路線の見直し", "Planning bus routes")


@dataclass
class World:
    """A city and a resident whose consents it has asked under; `desk` shows the resident's side."""

    folder: Path
    city: ds.City
    desk: Desk
    door: Door

    def enter(self, window: Window) -> Window:
        """Let a window in by the address of the terminal."""
        window.page.goto(self.door.address)
        window.page.wait_for_url(self.door.origin + self.door.place + "/")
        return window

    def open(self, window: Window, place: str, language: str = "en") -> Window:
        """Go to a place below the session's path."""
        answer = window.page.goto(f"{self.door.origin}{self.door.place}{place}?lang={language}")
        assert answer is not None
        assert answer.status == 200
        return window


def until(days: int = 300) -> str:
    return (dt.date.today() + dt.timedelta(days=days)).isoformat()


@contextmanager
def served(desk: Desk) -> Iterator[Door]:
    """The page of a desk, behind a door of its own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        door = Door(listening.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(app(desk, door), log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield door
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def world(
    folder: Path, *, reaches: bool = True, name: str = "Lakeside", purpose: ds.Purpose = BUSES
) -> Iterator[World]:
    """A resident with rows in two domains, two consents and two questions asked; the city takes what they sign.

    Args:
        reaches: whether the page can send to the city.
    """
    with pytest.MonkeyPatch.context() as patch:
        few_lists(patch)
        patch.setattr(kdf, "ARGON2_DEFAULT", (1, 8 * 1024 * 1024))
        city = ds.City.open(
            folder / "lake.city", name=name, budget=ds.zcdp(rho=1), purposes=[purpose, "clinics"], processing="JP"
        )
        path = folder / "mine.vault"
        resident = ds.Resident.create(path, passphrase=PASSPHRASE)
        when = dt.datetime(2026, 3, 1, 8, tzinfo=dt.UTC)
        resident.put(TRIPS, [
            {"at": when + dt.timedelta(days=d), "district": ["N", "E", HOSTILE][d % 3], "km": d} for d in range(50)
        ])  # fmt: skip
        resident.put(VISITS, [{"day": 3, "reason": "a"}])
        resident.lifetime = ds.zcdp(rho="0.5")
        given = [
            resident.grant(city.id, TRIPS, purpose=purpose, loss=ds.zcdp(rho="0.05"), until=until(200)),
            resident.grant(city.id, VISITS, purpose="clinics", loss=ds.zcdp(rho="0.02"), until=until(200),
                           special=["reason"]),
        ]  # fmt: skip
        for consent in given:
            city.admit(consent, resident.contribute(consent))
        question = ds.query(TRIPS).keys("district").bound(rows=9, keys=2)
        for asked, rho in ((question.count(), "0.02"), (question.sum("km"), "0.01")):
            city.release(asked, loss=ds.zcdp(rho=rho), purpose=purpose.name)
        send: Send | None = sending.open_city(city) if reaches else None
        desk = Desk(
            path, lambda typed: ds.Resident.open(path, passphrase=typed),
            [logs.Source("lake.city", lambda _: _log(city))], Outbox(folder / "out", send),
        )  # fmt: skip
        desk.take(resident)
        with served(desk) as door:
            try:
                yield World(folder, city, desk, door)
            finally:
                desk.lock()
                city.close()


@contextmanager
def _log(city: ds.City) -> Iterator[logs.LogReader]:
    yield city.log
