"""Two devices of one resident that both answer: one report counts, and one cap holds. docs/proofs/two-server.md"""

from __future__ import annotations

import hashlib

import pytest

import datasov as ds
from datasov.authority import held
from datasov.errors import StoreError
from datasov.mpc.report import Report
from datasov.mpc.task import read_task
from datasov.portability import notes
from tests.helpers import PURPOSE, TRIPS
from tests.servers import LONG, grant, made_task, opened, resident, silent, two_server_city

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
PHONE = hashlib.sha256(b"phone").digest()
RHO = ds.zcdp(rho="0.05")


@pytest.fixture
def pair(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    yield city, servers
    city.close()


@pytest.fixture
def devices(tmp_path, clock, pair):
    """Two of one resident, with the same row and the same consent, for two answers and no more."""
    home = resident(tmp_path, clock, "home", {TRIPS: [{"district": "N", "km": 5}]})
    grant(home, pair[0], loss=ds.Loss(2 * RHO.nano))
    home.enrol(tmp_path / "phone.vault", device_key=PHONE)
    phone = ds.Resident.open(tmp_path / "phone.vault", device_key=PHONE, clock=clock)
    yield home, phone
    home.close()
    phone.close()


def merged(home, phone, tmp_path):
    """Each takes in the other."""
    key = hashlib.sha256(repr("home").encode()).digest()
    phone._vault.close()
    home.merge(tmp_path / "phone.vault", device_key=PHONE)
    clock = home._clock
    home._vault.close()
    phone = ds.Resident.open(tmp_path / "phone.vault", device_key=PHONE, clock=clock)
    phone.merge(tmp_path / "home.vault", device_key=key)
    return ds.Resident.open(tmp_path / "home.vault", device_key=key, clock=clock), phone


def tasks(city, clock, count):
    return [opened(city, CELL.where(ds.col("km") > n), clock, RHO) for n in range(count)]


def sums(city, servers, clock, reports, count):
    for report in reports:
        servers.upload([report])
    clock.now += LONG
    return [
        int(city.release(CELL.where(ds.col("km") > n), loss=RHO, purpose=PURPOSE).values[0].sum()) for n in range(count)
    ]


def test_a_task_that_both_devices_answer_counts_the_resident_once(pair, devices, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    (task,) = tasks(city, clock, 1)
    reports = [d.answer(task) for d in devices]
    assert reports[0] != reports[1]
    assert len({Report.from_bytes(r).nonce for r in reports}) == 1
    assert sums(city, servers, clock, reports, 1) == [1]


def test_what_each_device_spent_is_added_when_they_merge(pair, devices, tmp_path, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    home, phone = devices
    asked = tasks(city, clock, 4)
    reports = [home.answer(asked[0]), phone.answer(asked[1])]
    for _ in range(3):  # to merge again adds nothing
        home, phone = merged(home, phone, tmp_path)
    for who in (home, phone):
        assert who.spent(RHO, asked[0]).nano == 2 * RHO.nano
        assert [who.answer(t) for t in asked[:2]] == reports, "what one device answered the other gives too"
    reports += [home.answer(asked[2]), phone.answer(asked[3])]
    assert home.spent(RHO, asked[0]) == phone.spent(RHO, asked[0]) == ds.Loss(2 * RHO.nano)
    assert sums(city, servers, clock, reports, 4) == [1, 1, 0, 0]
    home.close()
    phone.close()


def test_a_nonce_is_one_of_a_resident_and_a_task(pair, devices, tmp_path, clock):
    """And another one of another resident: nobody can tell by it who answers."""
    city, _ = pair
    with resident(tmp_path, clock, "other", {TRIPS: [{"district": "N", "km": 5}]}) as other:
        nonces = {Report.from_bytes(w.answer(t)).nonce for t in tasks(city, clock, 5) for w in (*devices, other)}
    assert len(nonces) == 10


def test_a_device_that_counts_otherwise_is_not_merged():
    with pytest.raises(StoreError, match="as no release does"):
        notes.combined({}, {held.SPENT + "a/b": bytes(31)})


def test_a_city_that_follows_another_draws_on_the_same_account(pair, devices, clock):
    """What `watch` notes of a city that changed its key: another id refills nothing."""
    city, _ = pair
    home, _ = devices
    (task,) = tasks(city, clock, 1)
    home.answer(task)
    later, _ = made_task(CELL, clock)
    assert home.spent(RHO, later).nano == 0
    home._vault.set_state({held.account_note(read_task(later).city): str(city.id).encode()})
    assert home.spent(RHO, later) == home.spent(RHO, task) == RHO
