"""A city that an older version wrote, brought to this one.

tests/data/city-v1.tar.xz was written by version 1, at the commit "Claims have room for delegation, records and special
columns": budget 1, an allowance of 0.5, two answers at 0.1, nobody's consent, and the operator's key 00 01 02 ... 1f.
"""

from __future__ import annotations

import json
import tarfile

import pytest

import datasov as ds
from datasov.errors import StoreError
from datasov.store import place, settings
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.whole import read_whole
from datasov.upkeep import migrate
from datasov.upkeep.check import check
from tests.audit import audit
from tests.helpers import COUNT, NOW, PURPOSE, RHO, enrol
from tests.paths import ROOT

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path):
    with tarfile.open(ROOT / "tests" / "data" / "city-v1.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    return tmp_path / "lake.city"


def leaves(path) -> list[bytes]:
    store = SQLiteStore(path / "city.db", key=place.chain_key(KEY))
    try:
        return store.read("log")
    finally:
        store.close()


def test_an_older_city_says_what_to_do(path, clock):
    with pytest.raises(StoreError, match="city migrate"):
        ds.City.open(path, operator_key=KEY, clock=clock)
    with pytest.raises(StoreError, match="city migrate"):
        check(path, KEY)


def test_an_older_city_is_migrated_with_its_budget_its_answers_and_its_log(path, clock):
    before = leaves(path)
    backup = ds.City.migrate(path, operator_key=KEY, clock=clock)
    assert backup == path.with_name("lake.city.v1.backup")
    assert [f for f in check(path, KEY) if f.fault] == []
    with ds.City.open(path, operator_key=KEY, clock=clock) as city:
        assert city.log.leaves() == before
        assert city.remaining == ds.zcdp(rho="0.8")
        assert city.allowance == ds.zcdp(rho="0.3")
        assert len(city.releases()) == 2
        read_whole(city.log, [city.id])
        first = city.release(COUNT.bound(rows=3), loss=RHO, purpose=PURPOSE)
        assert first.identifier == city.releases()[0].identifier, "what was asked before costs nothing"
        enrol(city, range(3), lambda n: [{"district": "N", "km": n}])
        city.release(COUNT.bound(rows=5), loss=RHO, purpose=PURPOSE)
        assert audit(city) == 3
        assert city.processing == "JP"
    assert ds.City.migrate(path, operator_key=KEY, clock=clock) is None
    with ds.City.open(path, operator_key=KEY, clock=clock) as city:
        city.rotate(bytes(32))


def test_the_backup_of_before_is_the_older_city(tmp_path, path, clock):
    before = leaves(path)
    backup = ds.City.migrate(path, operator_key=KEY, clock=clock)
    assert backup is not None
    (tmp_path / "again").mkdir()
    with pytest.raises(StoreError, match="city migrate"):
        ds.City.restore(backup, tmp_path / "again" / "x.city", operator_key=KEY, reanchor=True, clock=clock)
    assert leaves(tmp_path / "again" / "x.city")[: len(before)] == before
    ds.City.migrate(tmp_path / "again" / "x.city", operator_key=KEY, clock=clock)
    with ds.City.open(tmp_path / "again" / "x.city", operator_key=KEY, clock=clock) as city:
        assert len(read_whole(city.log, [city.id]).operators.restorations) == 1


def test_a_migration_that_fails_leaves_the_city_as_it_was(path, clock, monkeypatch):
    data = (path / "city.db").read_bytes()

    def broken(older: migrate.Older) -> migrate.Change:
        def change(stream: str, index: int, body: bytes) -> bytes:
            if stream == "log":
                raise StoreError("a step that fails")
            return body

        return change

    monkeypatch.setattr(migrate, "STEPS", {2: broken})
    with pytest.raises(StoreError, match="a step that fails"):
        ds.City.migrate(path, operator_key=KEY, clock=clock)
    monkeypatch.undo()
    assert sorted(p.name for p in path.iterdir()) == ["city.db", "pool"]
    assert leaves(path)
    assert len((path / "city.db").read_bytes()) == len(data)
    path.with_name("lake.city.v1.backup").unlink()
    ds.City.migrate(path, operator_key=KEY, clock=clock)
    ds.City.open(path, operator_key=KEY, clock=clock).close()


def test_a_city_with_consents_of_version_1_stays_what_it_is(path, clock):
    store = SQLiteStore(path / "city.db", key=place.chain_key(KEY))
    store.append({"registry/00": (0, [b"an event of version 1"])})
    store.close()
    with pytest.raises(StoreError, match="consents"):
        ds.City.migrate(path, operator_key=KEY, clock=clock)
    store = SQLiteStore(path / "city.db", key=place.chain_key(KEY))
    assert settings.read(store)["version"] == 1
    store.verify()
    store.close()


def test_steps_follow_one_another(path, clock, monkeypatch):
    seen = []

    def step(number: int) -> migrate.Step:
        def begin(older: migrate.Older) -> migrate.Change:
            def change(stream: str, index: int, body: bytes) -> bytes:
                if stream == "city":
                    seen.append((number, json.loads(body).get("from", 1)))
                    return json.dumps({**json.loads(body), "from": number}, sort_keys=True).encode()
                return body

            return change

        return begin

    monkeypatch.setattr(settings, "VERSION", 4)
    monkeypatch.setattr(migrate, "STEPS", {2: step(2), 3: step(3), 4: step(4)})
    ds.City.migrate(path, operator_key=KEY, clock=clock)
    assert seen == [(2, 1), (3, 2), (4, 3)]
    store = SQLiteStore(path / "city.db", key=place.chain_key(KEY))
    assert settings.read(store)["version"] == 4
    store.close()


@pytest.mark.parametrize("version", [settings.VERSION + 1, 99])
def test_a_newer_city_is_left_alone(tmp_path, path, clock, version, monkeypatch):
    monkeypatch.setattr(settings, "VERSION", version)
    monkeypatch.setattr(migrate, "STEPS", {n: lambda older: lambda stream, index, body: body for n in range(2, 100)})
    ds.City.migrate(path, operator_key=KEY, clock=clock)
    monkeypatch.undo()
    for act in (ds.City.migrate, ds.City.open):
        with pytest.raises(StoreError, match="newer"):
            act(path, operator_key=KEY, clock=clock)
    assert clock.now == NOW
