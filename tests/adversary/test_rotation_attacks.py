"""Claim: another operator's key makes nobody two people, and hides no fork from those who compare."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import ProofError, StoreError
from datasov.model.charter import DAY, Member
from datasov.model.consent import CityId
from datasov.store import place
from datasov.tlog.bundle import verify_bundle
from datasov.upkeep.rotate import rotate
from tests.governing import COUNTS, charter_for, programme_for, release
from tests.governing import signed as governed
from tests.helpers import COUNT, PURPOSE, RHO, TRIPS, Clock, found_city

ROWS = [{"district": "N", "km": 7}] * 3
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
UNTIL = "2040-01-01"


@pytest.fixture
def ann(tmp_path: Path, clock: Clock):
    with ds.Resident.create(tmp_path / "ann", device_key=KEY, clock=clock) as found:
        found.put(TRIPS, ROWS)
        yield found


def rotated(city: ds.City, clock: Clock) -> ds.City:
    path = city._path
    city.rotate()
    clock.now += 10
    return ds.City.open(path, clock=clock)


def granted(who: ds.Resident, city: ds.City | CityId) -> ds.Consent:
    return who.grant(city.id if isinstance(city, ds.City) else city, TRIPS, purpose=PURPOSE, loss=RHO, until=UNTIL)


def take_part(who: ds.Resident, city: ds.City) -> ds.Consent:
    consent = granted(who, city)
    city.admit(consent, who.contribute(consent))
    return consent


def partition(city: ds.City):
    (found,) = city._registry.refresh()
    return found


def test_a_new_key_makes_nobody_two_people(tmp_path, clock, ann):
    city = found_city(tmp_path, clock)
    take_part(ann, city)
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    for number in (4, 3):
        city = rotated(city, clock)
        ann.receipts(city.log)
        newest = take_part(ann, city)
        assert newest.claims.audience == str(city.id)
        city.release(COUNT.bound(rows=number), loss=RHO, purpose=PURPOSE)
        assert len(partition(city)) == 1
        assert city._ledger.spent(partition(city).name, 1)[0][0] <= RHO.nano
    city.revoke(ann.revoke(newest))
    city.close()


def test_who_signed_under_the_new_id_before_reading_the_log_keeps_both_keys(tmp_path, clock, ann):
    """Nothing told the vault that it is the same city: what it signed stays its own, and can be sent and ended."""
    city = found_city(tmp_path, clock)
    first = take_part(ann, city)
    city = rotated(city, clock)
    second = take_part(ann, city)
    ann.receipts(city.log)
    assert first.claims.account != second.claims.account
    for consent in (first, second):
        city.admit(consent, ann.contribute(consent))
        city.revoke(ann.revoke(consent))
    city = rotated(city, clock)
    ann.receipts(city.log)
    assert take_part(ann, city).claims.account == first.claims.account
    assert len(partition(city)) == 2
    city.close()


def test_a_delegate_under_the_new_id_draws_on_the_account_of_before(tmp_path, clock, ann):
    city = found_city(tmp_path, clock)
    account = take_part(ann, city).claims.account
    city = rotated(city, clock)
    ann.receipts(city.log)
    clock.now += 86_400
    with ds.Resident.create(tmp_path / "ben", device_key=OTHER, clock=clock) as ben:
        to = ben.delegate_key(city.id, TRIPS.domain)
        chain = ann.delegate(
            city.id, [TRIPS], to=to, kind="carer", purposes=[PURPOSE], loss=RHO, until=UNTIL
        )  # fmt: skip
        consent = ben.grant_for(chain, TRIPS, purpose=PURPOSE, loss=RHO)
        ann.accept(consent)
        assert consent.claims.account == account
        city.admit(consent, ann.contribute(consent))
        assert len(partition(city)) == 1
        city.revoke(ben.revoke(consent))
    city.close()


def test_another_device_takes_over_which_account_it_is(tmp_path, clock, ann):
    city = found_city(tmp_path, clock)
    account = take_part(ann, city).claims.account
    ann.enrol(tmp_path / "phone", device_key=OTHER)
    with ds.Resident.open(tmp_path / "phone", device_key=OTHER, clock=clock) as phone:
        city = rotated(city, clock)
        ann.receipts(city.log)
        ann.close()
        clock.now += 86_400
        phone.merge(tmp_path / "ann", device_key=KEY)
        assert take_part(phone, city).claims.account == account
    assert len(partition(city)) == 1
    city.close()


def test_a_fork_after_a_change_of_keys_shows_to_those_who_compare(tmp_path, clock, ann):
    """The log's origin is that of its first key, whoever signs now."""
    city = found_city(tmp_path, clock)
    founded = city.id
    take_part(ann, city)
    before = city.log.checkpoint().note
    city = rotated(city, clock)
    with ds.Resident.create(tmp_path / "ben", device_key=OTHER, clock=clock) as ben:
        ben.put(TRIPS, ROWS)
        take_part(ben, city)
        city.close()
        for name in ("lake.city", "lake.city.key", "lake.city.anchor"):
            copied = shutil.copytree if (tmp_path / name).is_dir() else shutil.copy
            (tmp_path / "fork").mkdir(exist_ok=True)
            copied(tmp_path / name, tmp_path / "fork" / name)
        with (
            ds.City.open(tmp_path / "lake.city", clock=clock) as one,
            ds.City.open(tmp_path / "fork" / "lake.city", clock=clock) as two,
        ):
            for number, each in ((4, one), (3, two)):
                each.release(COUNT.bound(rows=number), loss=RHO, purpose=PURPOSE)
            ann.receipts(one.log)
            with pytest.raises(ProofError, match="two keys"):
                ann.compare(before, one.log)
            ben.receipts(two.log)
            assert str(founded) in ann.checkpoints()
            assert str(founded) not in ben.checkpoints()
            for who, (note,) in ((ann, ben.checkpoints().values()), (ben, ann.checkpoints().values())):
                found = who.compare(note, one.log)
                assert found is not None
                assert found.public == one.id.verify_key
                found.verify()
            assert ann.compare(one.log.checkpoint().note, one.log) is None


def test_an_export_after_a_change_of_keys_is_imported(tmp_path, clock, ann):
    city = found_city(tmp_path, clock)
    take_part(ann, city)
    ann.receipts(city.log)
    city = rotated(city, clock)
    ann.receipts(city.log)
    ann.export(tmp_path / "out")
    with ds.Resident.create(tmp_path / "new", device_key=OTHER, clock=clock) as new:
        assert new.import_(tmp_path / "out") == len(ROWS)
        assert len(new.receipts(city.log)) == 0
    city.close()


def test_a_key_that_the_city_had_before_does_not_come_back(tmp_path, clock, ann):
    """Nobody would read the log any more: no id comes back in it."""
    first, second, third = (bytes([n]) * 32 for n in (1, 2, 3))
    path = tmp_path / "lake.city"
    city = found_city(tmp_path, clock, operator_key=first)
    take_part(ann, city)
    city.rotate(second)
    city = ds.City.open(path, operator_key=second, clock=clock)
    with pytest.raises(StoreError, match="had before"):
        city.rotate(first)
    with ds.City.open(path, operator_key=second, clock=clock) as city:
        ann.receipts(city.log)
        city.rotate(third)
    with ds.City.open(path, operator_key=third, clock=clock) as city:
        ann.receipts(city.log)


def test_an_operator_whom_the_charter_does_not_name_shows_also_when_it_is_gone(tmp_path, clock, ann):
    """The library refuses the key in between; an operator who runs other code takes it, and then one that is named."""
    keys = [bytes([n]) * 32 for n in (1, 2, 3)]
    path = tmp_path / "lake.city"
    city = found_city(tmp_path, clock, operator_key=keys[0])
    take_part(ann, city)
    named = tuple(Member(str(n), place.keys(keys[n])[0].public) for n in (0, 2))
    city.adopt(governed(charter_for(city, operators=named)))
    with pytest.raises(StoreError, match="does not name the new key"):
        city.rotate(keys[1])
    for before, after in pairwise(keys):
        rotate(path, operator_key=before, new_key=after, now=int(clock()))
    with ds.City.open(path, operator_key=keys[2], clock=clock) as city:
        assert len(ann.receipts(city.log)) == 0
        with pytest.raises(ProofError, match="does not name this city's key"):
            ann.notices(city.log)


def test_charters_and_programmes_go_on_under_another_key(tmp_path, clock, ann):
    keys = [bytes([n]) * 32 for n in (1, 2)]
    city = found_city(tmp_path, clock, operator_key=keys[0], processing="JP-25")
    founded = city.id
    take_part(ann, city)
    named = tuple(Member(str(n), place.keys(key)[0].public) for n, key in enumerate(keys))
    city.adopt(governed(charter_for(city, operators=named)))
    city.approve(governed(programme_for(city)))
    clock.now += 3 * DAY
    first = release(city)
    city.rotate(keys[1])
    with ds.City.open(tmp_path / "lake.city", operator_key=keys[1], clock=clock) as city:
        assert release(city).identifier == first.identifier
        release(city, COUNTS.bound(rows=4))
        assert [n.subject for n in ann.notices(city.log)] == ["charter", "programme"]
        later = replace(charter_for(city, operators=named[1:]), city=str(founded), version=2, issued=clock.now)
        city.adopt(governed(later))
        assert len(ann.notices(city.log)) == 3
        for known in (founded, city.id):
            found = verify_bundle(ann.bundle(city.log), known)
            assert len(found.receipts) == 2
            assert found.operators.ids == (founded, city.id)
        with ds.Resident.create(tmp_path / "ben", device_key=OTHER, clock=clock) as ben:
            ben.put(TRIPS, ROWS)
            take_part(ben, city)
            assert len(ben.notices(city.log)) == 3
