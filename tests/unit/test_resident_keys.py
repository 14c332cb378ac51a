"""A resident's vault that is opened by a device, put back, erased: what the resident sees of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import DecryptionError, StoreError
from datasov.vault import Guardian, KeyFile, new_recovery_key
from tests.helpers import COUNT, PEOPLE, PURPOSE, RHO, TRIPS, Clock, found_city

KEY, NEW = bytes(range(32)), bytes(range(32, 64))
ROWS = [{"district": "N", "km": 7}, {"district": "E", "km": 3}]


def _granted(resident: ds.Resident, city: ds.City) -> ds.Consent:
    resident.put(TRIPS, ROWS)
    return resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")


def test_the_citys_log_shows_that_the_vault_was_put_back(tmp_path: Path, clock: Clock) -> None:
    path, old = tmp_path / "ann.vault", tmp_path / "old.vault"
    city = found_city(tmp_path, clock)
    with ds.Resident.create(path, device_key=KEY, clock=clock) as ann:
        consent = _granted(ann, city)
        city.admit(consent, ann.contribute(consent))
    shutil.copytree(path, old)
    with ds.Resident.open(path, device_key=KEY, clock=clock) as ann:
        for _ in range(3):
            clock.now += 86_400
            city.admit(consent, ann.contribute(consent))
            city.tick()
        clock.now += 86_400
        city.tick()
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        assert len(ann.receipts(city.log)) == 1
    with ds.Resident.open(old, device_key=KEY, clock=clock) as ann:
        for _ in range(2):
            with pytest.raises(StoreError, match="older copy of the vault"):
                ann.receipts(city.log)
        assert len(ann.receipts(city.log, accept_rollback=True)) == 1
        assert len(ann.receipts(city.log)) == 1
        clock.now += 86_400
        city.admit(consent, ann.contribute(consent))
        city.tick()
        assert len(ann.receipts(city.log)) == 1
    with ds.Resident.open(path, device_key=KEY, clock=clock) as ann:
        clock.now += 86_400
        city.tick()
        with pytest.raises(StoreError, match="older copy of the vault"):
            ann.receipts(city.log)


def test_a_contribution_that_never_came_is_no_rollback(tmp_path: Path, clock: Clock) -> None:
    city = found_city(tmp_path, clock)
    with ds.Resident.create(tmp_path / "ann.vault", device_key=KEY, clock=clock) as ann:
        consent = _granted(ann, city)
        for _ in range(70):
            ann.contribute(consent)
        city.admit(consent, ann.contribute(consent))
        clock.now += 86_400
        city.tick()
        assert ann.receipts(city.log) == []


def test_a_resident_opens_by_every_way_and_erases(tmp_path: Path, clock: Clock) -> None:
    path, paper = tmp_path / "ann.vault", new_recovery_key()
    phone = KeyFile(tmp_path / "phone.key")
    city = found_city(tmp_path, clock)
    with ds.Resident.create(path, device=phone, recovery_key=paper, clock=clock) as ann:
        consent = _granted(ann, city)
        ann.put(PEOPLE, [{"age": 33, "ward": "a"}])
        ann.keys.add_guardian(Guardian(KEY).public, label="aunt")
        left = ann.anchor("friend")
    shutil.copytree(path, tmp_path / "old.vault")
    new_paper = new_recovery_key()
    with ds.Resident.open(path, device=phone, anchor=left, clock=clock) as ann:
        ann.erase_domain("mobility", recovery_key=new_paper)
        assert ann.scan(TRIPS).height == 0
        assert ann.scan(PEOPLE).height == 1
        assert ann.consents == [consent], "what was agreed to stays, and can be revoked"
        city.revoke(ann.revoke(consent))
        newer = ann.anchor("friend")
    with pytest.raises(StoreError, match="older than it was"):
        ds.Resident.open(tmp_path / "old.vault", recovery_key=paper, anchor=newer, clock=clock)
    with pytest.raises(DecryptionError):
        ds.Resident.open(path, recovery_key=paper, clock=clock)
    ds.Resident.open(path, recovery_key=new_paper, clock=clock).close()
    with ds.Resident.open(path, device=phone, clock=clock) as ann:
        ann.put(TRIPS, ROWS)
        ann.erase()
    assert not path.exists()
    assert not (tmp_path / "phone.key").exists()
