"""Who consents to what: places that stay, versions that pin what is decided, and several writers on one store."""

from __future__ import annotations

import pytest

import datasov as ds
from datasov.authority.admission import Admission
from datasov.authority.registry import Partition, Registry, partition_name
from datasov.crypto.kdf import sha256
from datasov.errors import ConflictError, ConsentError, StoreError
from datasov.kernel import monitor
from datasov.model import frames
from datasov.pool.draft import Draft
from datasov.pool.pool import Pool
from datasov.wire import cbor
from tests.audit import audit
from tests.helpers import (
    CITY_ID,
    COUNT,
    NOW,
    PEOPLE,
    PURPOSE,
    RHO,
    TRIPS,
    MemoryStore,
    consent_for,
    contribution,
    enrol,
    found_city,
    revocation,
    values,
)  # fmt: skip

NAME = partition_name(TRIPS, PURPOSE)
ROWS = [{"district": "N", "km": 1}]


class Office:
    """One of several writers on a store: a registry, a pool and its drafts."""

    def __init__(self, store: MemoryStore, folder) -> None:
        self.registry = Registry(store)
        self.pool = Pool(folder, store, self.registry, bytes(32), lambda: NOW)
        self.store = store

    def draft(self) -> Draft:
        return Draft(self.registry, self.store, self.pool, NOW)

    def admit(self, *admissions: Admission) -> None:
        draft = self.draft()
        for admission in admissions:
            assert draft.add(admission)
        draft.write()

    @property
    def partition(self) -> Partition:
        return self.registry.partition(NAME)


def admission(name: object, sequence: int = 1, issued: int = NOW - 100, rows: list | None = None, **given) -> Admission:
    consent = consent_for(CITY_ID, TRIPS, name, issued=issued, **given)
    codes = frames.encode(TRIPS, ROWS if rows is None else rows).select(consent.claims.coverage[0].columns)
    return Admission(consent, sequence, sha256(consent.token, bytes([sequence])), codes, {}, (TRIPS,))


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def one(store, tmp_path):
    return Office(store, tmp_path)


@pytest.fixture
def two(store, tmp_path):
    return Office(store, tmp_path)


def test_places_are_given_in_order_and_stay(one):
    one.admit(*map(admission, "abc"))
    places = dict(one.partition.places)
    one.admit(admission("b", 2, NOW - 50), admission("d"))
    assert {k: v for k, v in one.partition.places.items() if k in places} == places
    assert sorted(one.partition.places.values()) == [0, 1, 2, 3]


def test_another_reader_sees_the_same(one, two):
    one.admit(*map(admission, "abc"))
    one.pool.fold(TRIPS, PURPOSE)
    one.admit(admission("b", 2, NOW - 50, columns=["km"]))
    a, b = one.partition, two.partition
    assert (a.places, a.version, a.shards, a.pending()) == (b.places, b.version, b.shards, b.pending())
    for columns in (["km"], ["district"], []):
        left, right = (p.eligible(columns, {"trips": TRIPS.digest}, "central", "zcdp", NOW).tolist() for p in (a, b))
        assert left == right
    assert a.caps().tolist() == b.caps().tolist()


def test_two_drafts_never_give_one_place_to_two_residents(one, two):
    """The registry moves on under a draft, and somebody reads it again before the draft is written."""
    draft = one.draft()
    assert draft.add(admission("ann"))
    two.admit(admission("bob"))
    one.registry.refresh()
    with pytest.raises(ConflictError):
        draft.add(admission("cem"))
    with pytest.raises(ConflictError):
        draft.write()
    one.admit(admission("ann"), admission("cem"))
    assert sorted(two.partition.places.values()) == [0, 1, 2]
    assert len(set(two.partition.places)) == 3


def test_two_drafts_that_found_the_same_partition(one, two):
    drafts = [one.draft(), two.draft()]
    for draft, name in zip(drafts, "ab", strict=True):
        draft.add(admission(name))
    drafts[0].write()
    with pytest.raises(ConflictError):
        drafts[1].write()
    assert len(two.registry.refresh()) == 1
    assert len(one.store.read("partitions")) == 1


def test_an_empty_draft_writes_nothing(one):
    one.draft().write()
    assert one.store.streams == {}


def test_one_change_a_resident_in_each_draft(one):
    draft = one.draft()
    assert draft.add(admission("ann", 1))
    assert not draft.add(admission("ann", 2))
    assert draft.add(admission("ann", 1, purpose="other")), "another partition is another account"
    draft.write()


def test_a_fold_does_not_swallow_what_came_meanwhile(one, two, monkeypatch):
    """A newer contribution, or a revocation, arrives while a shard is folded."""
    one.admit(admission("ann", rows=ROWS * 2), admission("bob"))
    real, first = one.pool._merge_rows, True

    def slow(*given):
        nonlocal first
        if first:
            first = False
            two.admit(admission("ann", 2, NOW - 50, rows=ROWS * 5))
            one.registry.refresh()
        return real(*given)

    monkeypatch.setattr(one.pool, "_merge_rows", slow)
    partition = one.pool.fold(TRIPS, PURPOSE)
    assert not first
    assert partition.pending() == {}
    assert one.pool._shard(TRIPS, partition, 0).rows.height == 5 + 1
    assert not [name for name in one.store.blobs if not name.startswith("waiting/")]


def test_of_two_folds_one_wins_and_the_other_reads_its_shard(one, two):
    one.admit(*map(admission, "abc"))
    real = two.store.blob

    def late(name):
        two.store.blob = real
        one.pool.fold(TRIPS, PURPOSE)
        return real(name)

    two.registry.refresh()
    two.store.blob = late
    partition = two.pool.fold(TRIPS, PURPOSE)
    assert partition.shards[0][0] == 1
    assert two.pool._shard(TRIPS, partition, 0).rows.height == 3


def test_a_blob_that_is_really_gone_is_a_store_error(one):
    one.admit(admission("ann"))
    one.store.blobs.clear()
    with pytest.raises(StoreError):
        one.pool.fold(TRIPS, PURPOSE)


def test_eligible_are_those_whose_live_consent_covers_the_question_now(one):
    begins = {"issued": NOW - 100, "not_before": NOW + 50}
    one.admit(
        admission("all"),
        admission("km", columns=["km"]),
        admission("over", expires=NOW + 10),
        admission("later", **begins),
    )
    partition, tables = one.partition, {"trips": TRIPS.digest}

    def who(columns, tables=tables, trust="central", now=NOW, measure="zcdp"):
        return partition.eligible(columns, tables, trust, measure, now).tolist()

    assert who([]) == [True, True, True, False]
    assert who(["km", "district"]) == [True, False, True, False]
    assert who([], now=NOW + 10) == [True, True, False, False]
    assert who([], now=NOW + 9) == [True, True, True, False]
    assert who([], now=NOW + 50) == [True, True, False, True]
    assert who(["none"]) == who(["people.age"]) == who([], {"people": PEOPLE.digest}) == [False] * 4
    assert who([], {"trips": PEOPLE.digest}) == who([], trust="local") == who([], measure="pure") == [False] * 4


def test_a_consent_for_less_takes_back_what_an_earlier_one_covered(one):
    one.admit(admission("ann"), admission("bob"))
    one.admit(admission("ann", 2, NOW - 50, columns=["km"]))
    tables = {"trips": TRIPS.digest}
    assert one.partition.eligible(["km"], tables, "central", "zcdp", NOW).tolist() == [True, True]
    assert one.partition.eligible(["district"], tables, "central", "zcdp", NOW).tolist() == [False, True]
    one.admit(admission("ann", 3, NOW - 40, columns=["district"]))
    assert one.partition.eligible(["km"], tables, "central", "zcdp", NOW).tolist() == [False, True]
    assert one.partition.eligible(["district"], tables, "central", "zcdp", NOW).tolist() == [True, True]


def test_a_shard_that_another_opening_folded_is_read_anew(one, two):
    one.admit(admission("ann"))
    partition = one.pool.fold(TRIPS, PURPOSE)
    assert one.pool._shard(TRIPS, partition, 0).rows.height == 1
    two.admit(admission("bob"))
    two.pool.fold(TRIPS, PURPOSE)
    partition = one.pool.fold(TRIPS, PURPOSE)
    assert one.pool._shard(TRIPS, partition, 0).rows.height == 2


def test_caps_are_those_of_the_newest_consent(one):
    one.admit(admission("ann", loss=ds.Loss(50)), admission("bob", loss=ds.Loss(7)))
    one.admit(admission("ann", 2, NOW - 50, loss=ds.Loss(20)))
    assert one.partition.caps().tolist() == [[20, 7], [0, 0]]


def test_many_residents_outgrow_the_arrays(one):
    one.admit(*(admission(i) for i in range(1100)))
    one.admit(admission("more", columns=["km"]))
    mask = one.partition.eligible(["district"], {"trips": TRIPS.digest}, "central", "zcdp", NOW)
    assert mask.tolist() == [True] * 1100 + [False]


def test_an_unknown_event_is_a_store_error(one, store):
    store.append({"registry/" + NAME: (0, [cbor.encode(["evil", 1])])})
    with pytest.raises(StoreError):
        _ = one.partition


def test_partitions_are_apart_by_schema_and_purpose():
    wider = ds.Schema("trips", domain="mobility", columns={"km": ds.Integer(0, 51)})
    assert len({partition_name(s, p) for s in (TRIPS, wider, PEOPLE) for p in ("a", "b")}) == 6


# --- two cities objects on one folder


def test_two_openings_of_a_city_admit_ask_and_revoke_as_one(tmp_path, clock):
    with found_city(tmp_path, clock) as left, ds.City.open(tmp_path / "lake.city", clock=clock) as right:
        consents = {}
        for i in range(6):
            city = (left, right)[i % 2]
            consents[i] = consent_for(city, TRIPS, i)
            city.admit(consents[i], contribution(city, consents[i], i, 1, TRIPS, ROWS))
            if i % 3 == 0:
                (right, left)[i % 2].release(COUNT.bound(rows=6 + i), loss=RHO, purpose=PURPOSE)
        left.revoke(revocation(consents[1], 1))
        with pytest.raises(ConsentError):
            right.revoke(revocation(consents[1], 1))
        with pytest.raises(ConsentError):
            right.admit(consents[2], contribution(right, consents[2], 2, 1, TRIPS, ROWS))
        answers = [c.release(COUNT, loss=RHO, purpose=PURPOSE).identifier for c in (left, right, left)]
        assert len(set(answers)) == 1
        assert audit(left) == audit(right) == 3
        assert left.log.checkpoint().note == right.log.checkpoint().note


def test_revoked_rows_are_out_at_the_very_next_question(city, monkeypatch):
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(int(values(t).sum())), real(t, p, r))[1])
    ann, _ = enrol(city, ["ann", "bob"], lambda n: ROWS, loss=ds.zcdp(rho=1))
    city.release(COUNT, loss=RHO, purpose=PURPOSE)
    city.revoke(revocation(ann, "ann"))
    city.release(COUNT.bound(rows=9), loss=RHO, purpose=PURPOSE)
    assert seen == [2, 1]
