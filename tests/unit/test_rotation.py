"""Another operator's key for a city, and who follows it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from dataclasses import replace

import pytest

import datasov as ds
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, DecryptionError, InvalidQueryError, ProofError, StoreError
from datasov.model.consent import CityId
from datasov.pool.sealed import HEADER, accounts_key, open_blob, pool_key, sealed_blob, sealed_under
from datasov.store import place
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.export import HeldLog
from datasov.tlog.leaves import NoticeLeaf, encode_leaf
from datasov.tlog.note import origin_of, sign_checkpoint
from datasov.tlog.operators import Restoration, Succession, follow, restoration, succession
from datasov.tlog.tree import Tree, leaf_hash
from datasov.tlog.whole import read_whole
from datasov.upkeep.check import check
from datasov.upkeep.rotate import GRACE, rotate
from datasov.wire import cbor
from tests.audit import audit
from tests.helpers import (
    COUNT,
    NOW,
    PURPOSE,
    RHO,
    TRIPS,
    consent_for,
    contribution,
    enrol,
    found_city,
    packed,
    revocation,
    signed,
)  # fmt: skip

KEY = bytes(range(32))
ROWS = [{"district": "N", "km": 7}] * 3


def rows(n: int) -> list[dict[str, object]]:
    return [{"district": "NESW"[n % 4], "km": n}]


def ask(city: ds.City, number: int) -> ds.Release:
    return city.release(COUNT.bound(rows=number), loss=RHO, purpose=PURPOSE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lake.city"


@pytest.fixture
def turned(tmp_path, path, clock):
    """A city with folded and pending contributions and an answer, closed after its key was changed; the id before."""
    with found_city(tmp_path, clock) as city:
        enrol(city, range(8), rows)
        ask(city, 3)
        enrol(city, range(8, 12), rows)
        before = city.id
        shutil.copy(place.key_path(path), tmp_path / "old.key")
        assert city.rotate() != before
    return before


def test_a_city_goes_on_under_another_key(tmp_path, path, turned, clock):
    old = (tmp_path / "old.key").read_bytes()
    assert place.key_path(path).read_bytes() != old
    assert place.key_path(path).stat().st_mode & 0o077 == 0
    with ds.City.open(path, clock=clock) as city:
        assert city.id.verify_key != turned.verify_key
        assert city.id.seal_key != turned.seal_key
        assert city.remaining == ds.zcdp(rho="0.9")
        assert city.log.origin == origin_of(turned.verify_key)
        assert ask(city, 3).identifier == city.releases()[0].identifier
        ask(city, 4)
        assert audit(city) == 2
        enrol(city, range(12, 14), rows)
        snapshot_of = city._registry.refresh()[0]
        assert len(snapshot_of) == 14
    assert not [f for f in check(path) if f.fault]
    for given in (None, old):
        shutil.copy(tmp_path / "old.key", place.key_path(path))
        with pytest.raises(StoreError, match="not this city's"):
            ds.City.open(path, operator_key=given, clock=clock)


def test_nothing_that_the_old_key_opens_is_left(tmp_path, path, turned, clock):
    old, new = (tmp_path / "old.key").read_bytes(), place.key_path(path).read_bytes()
    shards = list((path / "pool").glob("*/*.shard"))
    assert len(shards) == 1
    for shard in shards:
        assert sealed_under(pool_key(new), shard.read_bytes()[:HEADER])
        assert not sealed_under(pool_key(old), shard.read_bytes()[:HEADER])
    stale = SQLiteStore(path / "city.db", key=place.chain_key(old))
    with closing(stale), pytest.raises(StoreError, match="without its key"):
        stale.verify()
    store = SQLiteStore(path / "city.db", key=place.chain_key(new))
    store.verify()
    pending = [n for n in store.blobs() if sealed_blob(n)]
    assert len(pending) == 4
    sealed = [(n, store.blob(n), pool_key) for n in pending]
    sealed += [(f"{s}/{i}", b, accounts_key) for s in store.streams("accounts/") for i, b in enumerate(store.read(s))]
    assert len(sealed) == 5
    for name, body, key in sealed:
        open_blob(key(new), name, body)
        with pytest.raises(DecryptionError):
            open_blob(key(old), name, body)
    assert place.opening_seed(old).hex() not in json.dumps(json.loads(store.read("city")[0]))
    store.close()
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "lake.city", "lake.city.anchor", "lake.city.key", "old.key",
    ]  # fmt: skip
    assert sorted(p.name for p in path.iterdir()) == ["city.db", "pool"]


def test_residents_follow_the_keys_and_their_receipts_hold(tmp_path, path, clock):
    with found_city(tmp_path, clock) as city:
        founded = city.id
        with ds.Resident.create(tmp_path / "ann", device_key=KEY, clock=clock) as ann:
            ann.put(TRIPS, ROWS)
            first = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2040-01-01")
            city.admit(first, ann.contribute(first))
            ask(city, 3)
            assert len(ann.receipts(city.log)) == 1
            for number in (4, 5):
                city.rotate()
                city = ds.City.open(path, clock=clock)
                ask(city, number)
            found = ann.receipts(city.log)
            assert len(found) == 3
            for receipt in found:
                receipt.verify(city.log.checkpoint())
            clock.now += 10
            second = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2040-01-01")
            city.admit(second, ann.contribute(second))
            ask(city, 6)
            assert len(ann.receipts(city.log)) == 4
            ids = read_whole(city.log, [founded]).operators.ids
            assert (len(ids), ids[0], ids[-1]) == (3, founded, city.id)
        with ds.Resident.create(tmp_path / "bob", device_key=KEY, clock=clock) as bob:
            bob.put(TRIPS, ROWS)
            clock.now += 2 * 86_400
            bob.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2040-01-01")
            clock.now += 10
            ask(city, 7)
            assert len(bob.receipts(city.log)) == 1, "the newest id alone leads to the log that an older key founded"
        city.close()


def test_a_contribution_to_the_old_id_is_taken_for_a_time_and_a_revocation_for_good(tmp_path, path, turned, clock):
    late = consent_for(turned, TRIPS, "late")
    with ds.City.open(path, clock=clock) as city:
        waiting = contribution_to(turned, late, "late")
        city.admit(late, waiting)
        clock.now += GRACE
        with pytest.raises(ConsentError, match="another city"):
            city.admit(consent_for(turned, TRIPS, "later"), contribution_to(turned, late, "late"))
        city.revoke(revocation(late, "late"))
        with pytest.raises(ConsentError):
            city.revoke(revocation(late, "late"))
        with pytest.raises(DecryptionError):
            city.revoke(bytes(100))


def contribution_to(city: CityId, consent, name) -> bytes:
    return signed(city, consent, name, 1, packed(TRIPS, rows(1), consent.claims.coverage[0].columns))


def test_without_grace_nothing_that_is_sealed_to_a_stolen_key_is_taken(tmp_path, path, clock):
    with found_city(tmp_path, clock) as city:
        old = city.id
        city.rotate(grace=0)
    consent = consent_for(old, TRIPS, "a")
    with ds.City.open(path, clock=clock) as city:
        with pytest.raises(ConsentError, match="another city"):
            city.admit(consent, contribution_to(old, consent, "a"))
        fresh = consent_for(city, TRIPS, "a")
        city.admit(fresh, contribution(city, fresh, "a", 1, TRIPS, rows(1)))


def test_consents_admitted_before_stay_in_questions(tmp_path, path, turned, clock):
    clock.now += 2 * GRACE
    with ds.City.open(path, clock=clock) as city:
        ask(city, 4)
        spent = [city._ledger.spent(p.name, len(p)) for p in city._registry.refresh()]
        assert (spent[0][0] > 0).sum() == 12


def test_keys_that_are_handed_in_are_handed_in_again(tmp_path, path, clock):
    one, two = bytes([1]) * 32, bytes([2]) * 32
    with found_city(tmp_path, clock, operator_key=one) as city, pytest.raises(StoreError, match="give the new one"):
        city.rotate()
    with ds.City.open(path, operator_key=one, clock=clock) as city, pytest.raises(StoreError, match="32 bytes"):
        city.rotate(b"short")
    with ds.City.open(path, operator_key=one, clock=clock) as city, pytest.raises(StoreError, match="another"):
        city.rotate(one)
    with ds.City.open(path, operator_key=one, clock=clock) as city, pytest.raises(InvalidQueryError):
        city.rotate(two, grace=-1)
    with ds.City.open(path, operator_key=one, clock=clock) as city:
        new = city.rotate(two)
    assert not place.key_path(path).exists()
    with ds.City.open(path, operator_key=two, clock=clock) as city:
        assert city.id == new


def test_a_city_that_is_open_elsewhere_is_left_as_it_is(tmp_path, path, clock):
    with found_city(tmp_path, clock) as city, ds.City.open(path, clock=clock) as other:
        with pytest.raises(StoreError, match="close it everywhere"):
            city.rotate()
        ask(other, 3)
    with ds.City.open(path, clock=clock) as city:
        assert city.log.size == 1
    assert rotate(path, now=NOW) == ds.City.open(path, clock=clock).id


def test_a_copy_that_lies_behind_its_anchor_gets_no_other_key(tmp_path, path, clock):
    found_city(tmp_path, clock).close()
    shutil.copytree(path, tmp_path / "old")
    with ds.City.open(path, clock=clock) as city:
        ask(city, 3)
    shutil.rmtree(path)
    os.rename(tmp_path / "old", path)
    with pytest.raises(StoreError, match="behind"):
        rotate(path, now=NOW)


# --- statements


def cities(count: int) -> list[tuple[SigningKey, CityId]]:
    keys = [SigningKey(bytes([n + 1]) * 32) for n in range(count)]
    return [(key, CityId("c", key.public, bytes([n]) * 32)) for n, key in enumerate(keys)]


def stated(old, new, leaves: list[bytes], *, signer=None, acceptor=None, **changed: object) -> NoticeLeaf:
    """A statement at the end of a log that `leaves` are, from the first of `cities` on."""
    values = {
        "origin": origin_of(cities(1)[0][1].verify_key), "old": str(old[1]), "new": str(new[1]), "time": NOW,
        "size": len(leaves), "root": Tree(map(leaf_hash, leaves)).root(), "until": NOW,
    }  # fmt: skip
    by_old = old[0] if signer is None else signer or None
    return succession(Succession(**{**values, **changed}), by_old, acceptor or new[0])


def signed_log(leaves: list[bytes], key: SigningKey) -> HeldLog:
    origin, root = origin_of(cities(1)[0][1].verify_key), Tree(map(leaf_hash, leaves)).root()
    return HeldLog(sign_checkpoint(origin, len(leaves), root, key).note, leaves)


def test_keys_are_followed_by_their_statements_alone():
    a, b, c, thief = cities(4)
    leaves = [encode_leaf(stated(a, b, []))]
    leaves.append(encode_leaf(stated(b, c, leaves)))
    for holder in (a, b, c):
        whole = read_whole(signed_log(leaves, c[0]), [holder[1]])
        assert whole.operators.ids == (a[1], b[1], c[1])
    with pytest.raises(ProofError, match="not the log"):
        read_whole(signed_log(leaves, c[0]), [thief[1]])
    for signer in (a, b, thief):
        with pytest.raises(ProofError):
            read_whole(signed_log(leaves, signer[0]), [a[1]])


@pytest.mark.parametrize(
    ("who", "changed"),
    [
        ("old key", {"signer": SigningKey(bytes([9]) * 32)}), ("nobody", {"signer": False}),
        ("new key", {"acceptor": SigningKey(bytes([9]) * 32)}), ("size", {"size": 3}), ("root", {"root": bytes(32)}),
        ("origin", {"origin": "datasov/log/elsewhere"}),
    ],
)  # fmt: skip
def test_a_statement_that_is_not_signed_or_not_in_its_place_is_refused(who, changed):
    a, b = cities(2)
    leaves = [encode_leaf(NoticeLeaf("charter", NOW, bytes(32), b"anything"))]
    read_whole(signed_log([*leaves, encode_leaf(stated(a, b, leaves))], b[0]), [a[1]])
    leaves.append(encode_leaf(stated(a, b, leaves, **changed)))
    with pytest.raises(ProofError):
        read_whole(signed_log(leaves, b[0]), [a[1]])


def test_an_old_key_names_no_second_successor_and_no_key_comes_back():
    a, b, c, _ = cities(4)
    leaves = [encode_leaf(stated(a, b, []))]
    for old, new in ((a, c), (b, a), (b, b)):
        more = [*leaves, encode_leaf(stated(old, new, leaves))]
        with pytest.raises(ProofError):
            read_whole(signed_log(more, new[0]), [a[1]])


def test_a_charter_may_appoint_whom_the_old_key_does_not_name():
    a, b, _, _ = cities(4)
    statement = stated(a, b, [], signer=False)
    leaves = [encode_leaf(statement)]
    asked = []

    def appointed(payload: bytes) -> bool:
        asked.append(payload)
        return True

    whole = read_whole(signed_log(leaves, b[0]), [a[1]], appointed=appointed)
    assert whole.operators.ids == (a[1], b[1])
    assert cbor.decode(asked[0])[3] == str(b[1])
    for refusing in (None, lambda payload: False):
        with pytest.raises(ProofError, match="charter"):
            read_whole(signed_log(leaves, b[0]), [a[1]], appointed=refusing)


def test_notices_of_restorations_are_signed_by_who_signs_then():
    a, b, _, _ = cities(4)
    leaves = [encode_leaf(stated(a, b, []))]
    fine = Restoration(origin_of(a[1].verify_key), str(b[1]), NOW, 1, Tree(map(leaf_hash, leaves)).root())
    whole = read_whole(signed_log([*leaves, encode_leaf(restoration(fine, b[0]))], b[0]), [a[1]])
    assert [r for _, r in whole.operators.restorations] == [fine]
    bad = [(fine, a[0]), (replace(fine, size=0), b[0]), (replace(fine, city=str(a[1])), b[0]),
           (replace(fine, root=bytes(32)), b[0]), (replace(fine, origin="elsewhere"), b[0])]  # fmt: skip
    for found, key in bad:
        with pytest.raises(ProofError):
            read_whole(signed_log([*leaves, encode_leaf(restoration(found, key))], b[0]), [a[1]])


@pytest.mark.parametrize(
    "body",
    [b"", b"\x80", cbor.encode(["datasov news v1", b""]), cbor.encode(["datasov succession v1", b"", b""])],
)
def test_an_operators_notice_that_cannot_be_read_is_no_notice(body):
    a, _, _, _ = cities(4)
    with pytest.raises(ProofError):
        follow([(0, NoticeLeaf("operator", NOW, bytes(32), body))], origin_of(a[1].verify_key), [a[1]])
