"""Rows of ended consents leave the pool by the deadline, by themselves, and the log tells who can know it."""

from __future__ import annotations

import datetime as dt
import sqlite3

import pytest

import datasov as ds
from datasov.authority import messages
from datasov.city.city import DAY, HOUR
from datasov.errors import InvalidQueryError
from datasov.tlog import erasures
from datasov.tlog.leaves import BATCH, NoticeLeaf, decode_leaf
from datasov.wire import cbor
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, consent_for, contribution, enrol, found_city, revocation

ROWS = [{"district": "N", "km": 1}]
ROUND = 15 * DAY
KEY = bytes(range(32))


def notices(city: ds.City) -> list[NoticeLeaf]:
    return [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, NoticeLeaf)]


def held_rows(city: ds.City) -> int:
    (partition,) = city._registry.refresh()
    return city._pool._shard(TRIPS, partition, 0).rows.height


def until(clock, city: ds.City, time: int, every: int = DAY) -> None:
    """A scheduler that does nothing but tick."""
    while clock.now < time:
        clock.now += every
        city.tick()


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "ann.vault", device_key=KEY, clock=clock) as resident:
        resident.put(TRIPS, ROWS)
        yield resident


def instant(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def granted(resident: ds.Resident, city: ds.City) -> ds.Consent:
    consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2040-01-01")
    city.admit(consent, resident.contribute(consent))
    return consent


# --- the deadline


def test_rows_are_gone_by_the_deadline_though_nobody_asks_or_compacts(city, clock):
    gone, _ = enrol(city, ["gone", "stays"], lambda n: ROWS)
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    assert held_rows(city) == 2
    city.revoke(revocation(gone, "gone"))
    until(clock, city, NOW + 30 * DAY, every=14 * DAY)
    assert held_rows(city) == 1
    (partition,) = city._registry.refresh()
    assert partition.leaving(clock.now) == []


def test_rows_of_expired_and_renewed_consents_go_too(city, clock):
    enrol(city, ["over"], lambda n: ROWS, expires=NOW + DAY)
    enrol(city, ["renews", "stays"], lambda n: ROWS)
    city.compact(TRIPS, PURPOSE)
    assert held_rows(city) == 3
    newer = consent_for(city, TRIPS, "renews", issued=NOW - 50)
    city.admit(newer, contribution(city, newer, "renews", 2, TRIPS, ROWS * 3))
    clock.now += ROUND
    city.tick()
    assert held_rows(city) == 1, "what waits to be folded in goes on waiting"
    city.compact(TRIPS, PURPOSE)
    assert held_rows(city) == 4


def test_what_nobody_asked_for_until_it_expired_goes_too(city, clock, ann):
    """It never lay in a shard, or its newer rows never did: no question came for it, and none may draw on it now."""
    enrol(city, ["stays"], lambda n: ROWS)
    early = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until=instant(NOW + DAY))
    city.admit(early, ann.contribute(early))
    clock.now += ROUND
    city.tick()
    (partition,) = city._registry.refresh()
    assert list(partition.pending()) == [0], "who has not expired goes on waiting"
    assert [n for (n,) in city._store._db.execute("SELECT name FROM blobs WHERE name LIKE 'pool/%'")] == [
        partition.blob(0)
    ]
    assert [(e.consent, e.number) for e in ann.erasures(city.log)] == [(early, 1)]
    later = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until=instant(clock.now + DAY))
    city.admit(later, ann.contribute(later))
    city.compact(TRIPS, PURPOSE)
    city.admit(later, ann.contribute(later))
    clock.now += ROUND
    city.tick()
    assert held_rows(city) == 1
    assert city._registry.refresh()[0].pending() == {}
    assert [(e.consent, e.number) for e in ann.erasures(city.log)] == [(early, 1), (later, 1), (later, 2)]
    city.revoke(ann.revoke(later))


def test_compacting_folds_nothing_in_whose_consent_is_over(city, clock):
    enrol(city, ["over"], lambda n: ROWS, expires=NOW + DAY)
    enrol(city, ["stays"], lambda n: ROWS)
    clock.now += 2 * DAY
    city.compact(TRIPS, PURPOSE)
    assert held_rows(city) == 1


def test_a_notice_does_not_say_that_rows_were_gone_before_they_were(city, clock, ann):
    consent = granted(ann, city)
    city.compact(TRIPS, PURPOSE)
    city.revoke(ann.revoke(consent))
    clock.now += 2 * ROUND - DAY  # nobody asked or ticked at the round's beginning
    assert held_rows(city) == 1
    city.tick()
    assert held_rows(city) == 0
    assert [e.time for e in ann.erasures(city.log)] == [clock.now]


def test_work_of_a_round_does_not_wait_for_a_question_of_the_partition(tmp_path, clock):
    """Opened anew, the city erases without ever having seen the schema."""
    with found_city(tmp_path, clock) as city:
        gone, _ = enrol(city, ["gone", "stays"], lambda n: ROWS)
        city.compact(TRIPS, PURPOSE)
        city.revoke(revocation(gone, "gone"))
    clock.now += ROUND
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        city.tick()
        assert held_rows(city) == 1
        assert len(list((tmp_path / "lake.city" / "pool").glob("*/*.shard"))) == 1
        city.release(COUNT, loss=RHO, purpose=PURPOSE)


def test_another_deadline_and_those_that_are_none(tmp_path, clock):
    with found_city(tmp_path, clock, erase_within=4 * HOUR) as city:
        gone, _ = enrol(city, ["gone", "stays"], lambda n: ROWS)
        city.compact(TRIPS, PURPOSE)
        city.revoke(revocation(gone, "gone"))
        clock.now += 2 * HOUR
        city.tick()
        assert held_rows(city) == 1
    for bad in (HOUR, 0, -1, "30d"):
        with pytest.raises(InvalidQueryError, match="erase_within"):
            ds.City.open(tmp_path / "bad.city", budget=RHO, purposes=[PURPOSE], erase_within=bad, clock=clock)


def test_nothing_of_a_deleted_contribution_is_left_in_the_database(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        (gone,) = enrol(city, ["gone"], lambda n: ROWS * 50)
        (blob,) = [b for n, b in city._store._db.execute("SELECT name, body FROM blobs") if n.startswith("pool/")]
        city.revoke(revocation(gone, "gone"))
        clock.now += ROUND
        city.tick()
        files = [p.read_bytes() for p in (tmp_path / "lake.city").glob("city.db*")]
        assert files
        assert not any(blob[64:128] in data for data in files)


# --- the log


def test_a_notice_comes_with_every_round_whether_or_not_anything_was_erased(city, clock, monkeypatch):
    monkeypatch.setattr("datasov.crypto.padding.decoys", lambda: 200)  # one draw in 750 takes another 256
    people = enrol(city, range(4), lambda n: ROWS)
    city.compact(TRIPS, PURPOSE)
    shapes = []
    for number in range(4):
        if number % 2:
            city.revoke(revocation(people[number], number))
            city.compact(TRIPS, PURPOSE)
        before = len(notices(city))
        clock.now += ROUND
        city.tick()
        city.tick()
        (found,) = notices(city)[before:]
        shapes.append((found.subject, len(erasures.hashes(found)), len(found.body)))
    assert len(set(shapes)) == 1
    assert shapes[0][:2] == ("erasure", BATCH)


def test_a_resident_finds_their_erasure_and_nobody_elses(tmp_path, city, clock, ann):
    consent = granted(ann, city)
    with ds.Resident.create(tmp_path / "bob.vault", device_key=KEY[::-1], clock=clock) as bob:
        bob.put(TRIPS, ROWS)
        granted(bob, city)
        city.compact(TRIPS, PURPOSE)
        city.revoke(ann.revoke(consent))
        assert ann.erasures(city.log) == []
        clock.now += ROUND
        city.tick()
        (found,) = ann.erasures(city.log)
        assert (found.consent, found.number) == (consent, 1)
        assert NOW <= found.time <= clock.now
        assert bob.erasures(city.log) == []


def test_every_contribution_that_goes_is_told_once(city, clock, ann):
    """Replaced before it was folded, replaced after, revoked before its fold."""
    consent = granted(ann, city)
    city.admit(consent, ann.contribute(consent))
    city.compact(TRIPS, PURPOSE)
    city.admit(consent, ann.contribute(consent))
    city.compact(TRIPS, PURPOSE)
    city.admit(consent, ann.contribute(consent))
    clock.now += ROUND
    city.tick()
    assert [e.number for e in ann.erasures(city.log)] == [1, 2, 3], "the third left at the round, the fourth waits"
    city.revoke(ann.revoke(consent))
    clock.now += ROUND
    city.tick()
    assert [e.number for e in ann.erasures(city.log)] == [1, 2, 3, 4]


def test_who_has_not_the_salt_cannot_tell_the_hash_from_a_decoy(city, clock, ann):
    """Not even from the log's other hashes of the same consent."""
    consent = granted(ann, city)
    city.revoke(ann.revoke(consent))
    clock.now += ROUND
    city.tick()
    (found,) = ann.erasures(city.log)
    (notice,) = notices(city)
    guesses = {messages.salted(bytes(32), messages.erasure_record(consent.digest, n)) for n in range(100)}
    assert not guesses & erasures.hashes(notice)
    assert found.index == next(i for i, d in enumerate(city.log.leaves()) if isinstance(decode_leaf(d), NoticeLeaf))


def test_the_operator_can_open_what_a_notice_says_of_the_shards(city, clock):
    gone, _ = enrol(city, ["gone", "stays"], lambda n: ROWS)
    city.compact(TRIPS, PURPOSE)
    (partition,) = city._registry.refresh()
    before = partition.shards[0]
    city.revoke(revocation(gone, "gone"))
    clock.now += ROUND
    city.tick()
    after = city._registry.refresh()[0].shards[0]
    _, _, salt, shards = cbor.decode(city._store.read("rounds")[-1])
    assert shards == [[partition.name, 0, *before, *after]]
    told = cbor.decode(notices(city)[-1].body)
    assert told[5] == erasures.committed(salt, shards)
    assert told[5] != erasures.committed(salt, [])


def test_a_round_that_was_cut_off_is_told_by_the_next_tick(city, clock, monkeypatch):
    gone, _ = enrol(city, ["gone", "stays"], lambda n: ROWS)
    city.compact(TRIPS, PURPOSE)
    city.revoke(revocation(gone, "gone"))
    clock.now += ROUND
    real = erasures.publish

    def dies(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(erasures, "publish", dies)
    with pytest.raises(KeyboardInterrupt):
        city.tick()
    assert held_rows(city) == 1
    assert notices(city) == []
    monkeypatch.setattr(erasures, "publish", real)
    city.tick()
    assert len(notices(city)) == 1
    assert len(cbor.decode(city._store.read("rounds")[-1])[3]) == 1


def test_a_notice_of_another_form_is_refused():
    assert erasures.hashes(NoticeLeaf("charter", 1, bytes(32), b"anything")) == frozenset()
    from datasov.errors import VerificationError

    with pytest.raises(VerificationError):
        erasures.hashes(NoticeLeaf("erasure", 1, bytes(32), cbor.encode({1: "x"})))


def test_secure_delete_is_on(city):
    assert city._store._db.execute("PRAGMA secure_delete").fetchone()[0] == 1
    assert isinstance(city._store._db, sqlite3.Connection)
