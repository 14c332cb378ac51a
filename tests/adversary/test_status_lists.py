"""A city's status lists: who they leave out, when they are published, and what can be done to them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import count

import numpy as np
import pytest

import datasov as ds
from datasov.authority import lists as lists_module
from datasov.authority import status
from datasov.authority.lists import BATCH, VALID, StatusLists
from datasov.city.city import HOUR
from datasov.errors import ConsentError, IndexTakenError, StoreError
from datasov.kernel import monitor
from datasov.tlog.leaves import ReleaseLeaf, StepLeaf, decode_leaf
from datasov.wire import cbor
from tests.helpers import COUNT, NOW, PURPOSE, TRIPS, consent_for, contribution, enrol, found_city, key_of

from tests.helpers import revocation, values  # isort: skip

ROWS = [{"district": "N", "km": 1}]
WIDE = {"budget": ds.zcdp(rho=100), "purposes": [PURPOSE, "other"]}
_loss = count(1)


@pytest.fixture
def city(tmp_path, clock):
    with found_city(tmp_path, clock, **WIDE) as found:
        yield found


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that are about the number of decoys, and of lists that are new."""


@pytest.fixture(autouse=True)
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiples of 16 in place of hundreds, where a test is not about their number: ticks are quicker."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(lists_module, "padded", lambda count: 16 * (1 + count // 16))


@pytest.fixture
def who(monkeypatch):
    """How many take part in a question over everybody."""
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(int(values(t).sum())), real(t, p, r))[1])

    def ask(city: ds.City) -> int:
        city.release(COUNT, loss=ds.Loss(10**6 + next(_loss)), purpose=PURPOSE)
        return seen[-1]

    return ask


def admit(city: ds.City, name: object, sequence: int = 1, **given: object) -> ds.Consent:
    consent = consent_for(city, TRIPS, name, **given)
    city.admit(consent, contribution(city, consent, name, sequence, TRIPS, ROWS))
    return consent


def published(city: ds.City) -> dict[int, bytes]:
    """The signed lists in force, each compared with the set."""
    if not city.status():
        return {}
    document = cbor.decode(city.status())
    assert set(document) == {1, 2, 3, 4}
    numbers = np.frombuffer(document[3], dtype=">u2").tolist()
    assert sorted(set(numbers)) == numbers
    found = {n: city.status_list(n) for n in numbers}
    assert document[4] == b"".join(hashlib.sha256(found[n]).digest() for n in numbers)
    return found


@lru_cache(maxsize=8192)
def invalid(data: bytes, key: bytes, number: int) -> frozenset[int]:
    """The indices that a signed list marks. The same bytes are read once."""
    return frozenset((status.read(data, key, number).invalid + (number << 20)).tolist())


def marks(city: ds.City) -> set[int]:
    """All indices that the lists mark, read with nothing but the city's id."""
    key = city.id.verify_key
    return set().union(*(invalid(data, key, n) for n, data in published(city).items()))


def leaves(city: ds.City) -> list[ReleaseLeaf]:
    return [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, ReleaseLeaf)]


def spoil(city: ds.City, number: int, body: bytes | None) -> None:
    """Put other bytes in a stored list's place, or none, beneath the running city."""
    db = city._store._db
    if body is None:
        db.execute("DELETE FROM blobs WHERE name = ?", (f"status/{number}",))
    else:
        db.execute("UPDATE blobs SET body = ? WHERE name = ?", (body, f"status/{number}"))
    fresh = StatusLists(city._store, city._registry, city._key, city._times.founded, city._times.tick)
    city._registry.partition
    for partition in city._registry.refresh():
        partition._fresh = [np.arange(len(partition), dtype=np.uint32)]
    city._lists = city._pool._lists = fresh


# --- publication


def test_nothing_is_published_in_the_first_tick_and_answers_say_so(city, who):
    admit(city, "ann")
    assert who(city) == 1
    assert city.status() == b""
    assert leaves(city)[-1].status == b""
    with pytest.raises(StoreError):
        city.status_list(0)


def test_lists_come_with_the_tick_and_their_digest_stands_in_the_leaf(city, clock, who, drawn):
    ann = admit(city, "ann", status=123 << 20 | 77)
    clock.now += HOUR
    assert who(city) == 1
    assert 123 in published(city)
    assert leaves(city)[-1].status == hashlib.sha256(city.status()).digest()
    assert len(published(city)) % BATCH == 0
    assert len(marks(city)) == BATCH, "decoys alone"
    assert ann.claims.status not in marks(city)


def test_a_revocation_acts_at_once_and_is_published_with_the_next_tick_alone(city, clock, who, drawn):
    ann, _ = admit(city, "ann"), admit(city, "bob")
    clock.now += HOUR
    assert who(city) == 2
    before = published(city)
    city.revoke(revocation(ann, "ann"))
    assert published(city) == before
    assert who(city) == 1, "the registry's word is enough"
    assert published(city) == before
    clock.now += HOUR - 1
    city.revoke(revocation(admit(city, "cem"), "cem"))
    clock.now += 1
    assert who(city) == 1
    assert ann.claims.status in marks(city)
    assert len(marks(city)) == 2 * BATCH


def test_a_tick_without_revocations_publishes_as_much_as_one_with_some(city, clock, drawn):
    people = [admit(city, n) for n in range(4)]
    sizes = []
    for number in range(6):
        if number % 2:
            city.revoke(revocation(people[number // 2], number // 2))
        clock.now += HOUR
        city.tick()
        entry = cbor.decode(city._store.read("status")[-1])
        sizes.append(len(entry[4]))
    assert sizes == [4 * BATCH] * 6


def test_more_revocations_than_a_batch_fill_two(city, clock, drawn):
    people = enrol(city, range(BATCH + 1), lambda n: ROWS)
    for n, consent in enumerate(people):
        city.revoke(revocation(consent, n))
    clock.now += HOUR
    city.tick()
    assert len(marks(city)) == 2 * BATCH
    assert {c.claims.status for c in people} <= marks(city)


def test_only_lists_that_changed_are_made_anew_and_the_old_before_they_end(city, clock):
    admit(city, "ann")
    clock.now += HOUR
    city.tick()
    first = published(city)
    clock.now += HOUR
    city.tick()
    second = published(city)
    changed = {n for n in first if second[n] != first[n]}
    marked = {m >> 20 for m in np.frombuffer(cbor.decode(city._store.read("status")[-1])[4], dtype="<u4").tolist()}
    assert changed == marked & first.keys()
    clock.now += VALID // 2
    city.tick()
    third = published(city)
    assert all(third[n] != second[n] for n in second), "half of their time was over"
    for number, data in third.items():
        assert status.read(data, city.id.verify_key, number).expires == clock.now + VALID


def test_another_opening_applies_and_gives_the_same(tmp_path, clock, city, who):
    ann, _ = admit(city, "ann"), admit(city, "bob")
    clock.now += HOUR
    city.tick()
    city.revoke(revocation(ann, "ann"))
    clock.now += HOUR
    with ds.City.open(tmp_path / "lake.city", clock=clock) as other:
        assert who(other) == who(city) == 1
        assert other.status() == city.status()
        assert marks(other) == marks(city)
        clock.now += HOUR
        other.tick()
        city.tick()
        assert other.status() == city.status()
        assert len(city._store.read("status")) == 3, "one publication a tick"


def test_a_stored_answer_keeps_the_digest_of_its_own_set(city, clock):
    admit(city, "ann")
    clock.now += HOUR
    first = city.release(COUNT, loss=ds.Loss(5), purpose=PURPOSE)
    clock.now += HOUR
    assert city.release(COUNT, loss=ds.Loss(5), purpose=PURPOSE).identifier == first.identifier
    (leaf,) = leaves(city)
    assert leaf.status != hashlib.sha256(city.status()).digest()


def test_the_steps_of_a_series_tell_of_their_own_set(tmp_path, clock):
    columns = {"at": ds.Timestamp("2027-01-01", "2027-02-01", zone="UTC")}
    rides = ds.Schema("rides", domain="mobility", columns=columns)
    with found_city(tmp_path, clock, **WIDE) as city:
        clock.now += HOUR
        import datetime as dt

        start = dt.datetime.fromtimestamp(NOW, dt.UTC)
        series = ds.series(ds.query(rides).count(), at="at", start=start, every=dt.timedelta(hours=2), steps=3, rows=2)
        digests = []
        for _ in range(3):
            city.follow(series, loss=ds.zcdp(rho=1), purpose=PURPOSE)
            digests.append(hashlib.sha256(city.status()).digest())
            clock.now += 2 * HOUR
        found = [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, ReleaseLeaf | StepLeaf)]
        assert [leaf.status for leaf in found] == digests
        assert len(set(digests)) == 3


# --- lists that are not as they should be leave out those who stand in them


def test_a_missing_list_leaves_out_who_stands_in_it(city, clock, who):
    admit(city, "ann", status=5 << 20)
    admit(city, "bob", status=6 << 20)
    clock.now += HOUR
    assert who(city) == 2
    spoil(city, 5, None)
    assert who(city) == 1
    admit(city, "cem", status=5 << 20 | 1)
    assert who(city) == 2, "admitted in this very tick: no list could tell of it yet"
    clock.now += HOUR
    assert who(city) == 3, "the next tick made the list anew"


def test_stale_lists_leave_out_everybody_who_stands_in_them(city, clock, who, monkeypatch):
    admit(city, "ann")
    clock.now += HOUR
    assert who(city) == 1
    monkeypatch.setattr(StatusLists, "publish", lambda self, now: False)
    clock.now += VALID - 1
    assert who(city) == 1
    clock.now += 1
    assert who(city) == 0
    admit(city, "bob")
    assert who(city) == 1
    clock.now += HOUR
    assert who(city) == 0
    monkeypatch.undo()


def test_a_city_that_never_publishes_has_nobody_left_after_a_tick(city, clock, who, monkeypatch):
    admit(city, "ann")
    monkeypatch.setattr(StatusLists, "publish", lambda self, now: False)
    assert who(city) == 1
    clock.now += HOUR
    assert who(city) == 0


@pytest.mark.parametrize("how", ["another city's", "older", "unsigned", "cut off", "of another number", "more marks"])
def test_a_list_that_is_not_the_one_published_leaves_out_who_stands_in_it(city, clock, who, how):
    admit(city, "ann", status=5 << 20)
    admit(city, "bob", status=6 << 20)
    clock.now += HOUR
    city.tick()
    good = city.status_list(5)
    invalid = status.read(good, city.id.verify_key, 5).invalid
    lst = status.packed(invalid)
    times = {"now": clock.now, "expires": clock.now + VALID, "ttl": HOUR}
    forged = {
        "another city's": status.issue(5, lst, key_of("other"), **times),
        "older": status.issue(5, lst, city._key, **{**times, "now": clock.now - 1}),
        "unsigned": good[:-64] + bytes(64),
        "cut off": good[:-1],
        "of another number": city.status_list(6),
        "more marks": status.issue(5, status.packed(np.append(invalid, 9)), city._key, **times),
    }
    assert who(city) == 2
    spoil(city, 5, forged[how])
    assert who(city) == 1


def test_who_is_marked_in_a_list_is_left_out_whatever_the_registry_says(city, clock, who, monkeypatch):
    """A decoy that hit a consent, were it ever to happen, excludes and never includes."""
    ann, _ = admit(city, "ann"), admit(city, "bob")
    monkeypatch.setattr(type(city._registry), "taken", lambda self, status, consent=b"": False)
    monkeypatch.setattr(lists_module.secrets, "randbits", _first_then_random(ann.claims.status))
    clock.now += HOUR
    assert who(city) == 1
    assert ann.claims.status in marks(city)


def test_lists_that_none_can_be_used_of_are_made_anew_within_the_tick(city, clock, who):
    """After a change of the city's key."""
    admit(city, "ann")
    clock.now += HOUR
    city.tick()
    before = published(city)
    key = key_of("the next key")
    city._lists = city._pool._lists = StatusLists(city._store, city._registry, key, NOW, HOUR)
    assert who(city) == 1
    numbers = np.frombuffer(cbor.decode(city.status())[3], dtype=">u2").tolist()
    assert before.keys() <= set(numbers)
    for number in numbers:
        status.read(city.status_list(number), key.public, number)


# --- indices


def _first_then_random(*first: int):
    rng, waiting = np.random.default_rng(3), list(first)
    return lambda bits: waiting.pop(0) if waiting else int(rng.integers(1 << bits))


def test_decoys_never_hit_a_consent(city, clock, who, monkeypatch, drawn):
    ann, bob = admit(city, "ann"), admit(city, "bob", purpose="other")
    monkeypatch.setattr(lists_module.secrets, "randbits", _first_then_random(ann.claims.status, bob.claims.status))
    clock.now += HOUR
    assert who(city) == 1
    assert len(marks(city)) == BATCH
    assert not {ann.claims.status, bob.claims.status} & marks(city)


def test_a_consent_whose_index_is_a_decoys_is_refused(city, clock, who):
    clock.now += HOUR
    city.tick()
    decoy = min(marks(city))
    with pytest.raises(ConsentError, match="grant again"):
        admit(city, "ann", status=decoy)
    admit(city, "ann")
    assert who(city) == 1


def test_an_index_is_one_consents_alone(city, tmp_path, clock):
    admit(city, "ann", status=7)
    for name, given in (("bob", {}), ("bob", {"purpose": "other"}), ("ann", {"issued": NOW - 50})):
        with pytest.raises(ConsentError, match="grant again"):
            admit(city, name, 2, status=7, **given)
    with ds.City.open(tmp_path / "lake.city", clock=clock) as other, pytest.raises(ConsentError, match="grant again"):
        admit(other, "bob", status=7)
    pairs = []
    for name in ("dan", "eve"):
        consent = consent_for(city, TRIPS, name, status=8)
        pairs.append((consent, contribution(city, consent, name, 1, TRIPS, ROWS)))
    refused = city.admit_many(pairs)
    assert {type(r) for r in refused} == {type(None), IndexTakenError}, "a batch is admitted in a drawn order"


def test_contributing_again_and_renewing_keep_or_change_the_index(city, clock, who):
    ann = admit(city, "ann", status=7)
    city.admit(ann, contribution(city, ann, "ann", 2, TRIPS, ROWS * 2))
    assert who(city) == 2
    admit(city, "ann", 3, status=9, issued=NOW - 50)
    clock.now += HOUR
    assert who(city) == 1
    with pytest.raises(ConsentError, match="grant again"):
        admit(city, "bob", status=7)


def test_two_processes_that_admit_one_index_at_once_admit_one(city, tmp_path, clock):
    with ds.City.open(tmp_path / "lake.city", clock=clock) as other:
        consents = [consent_for(city, TRIPS, n, status=7, purpose=p) for n, p in (("ann", PURPOSE), ("bob", "other"))]
        real = city._store.append

        def late(*given):
            city._store.append = real
            other.admit(consents[1], contribution(city, consents[1], "bob", 1, TRIPS, ROWS))
            return real(*given)

        city._store.append = late
        with pytest.raises(ConsentError, match="grant again"):
            city.admit(consents[0], contribution(city, consents[0], "ann", 1, TRIPS, ROWS))


def test_an_admission_while_lists_are_made_is_not_hit_by_their_decoys(city, tmp_path, clock, who, monkeypatch, drawn):
    with ds.City.open(tmp_path / "lake.city", clock=clock) as other:
        late = consent_for(city, TRIPS, "late", status=4_000_000_000)
        rng = _first_then_random(late.claims.status)
        monkeypatch.setattr(lists_module.secrets, "randbits", rng)
        real, first = city._lists._made, True

        def made(*given):
            nonlocal first
            if first:
                first = False
                other.admit(late, contribution(city, late, "late", 1, TRIPS, ROWS))
            return real(*given)

        monkeypatch.setattr(city._lists, "_made", made)
        clock.now += HOUR
        city.tick()
        assert not first
        assert late.claims.status not in marks(city)
        assert len(marks(city)) == BATCH
        assert who(city) == 1


def test_a_consent_that_was_revoked_before_it_came_is_marked_but_never_in_anothers_place(city, clock, who):
    admit(city, "ann", status=7)
    early = consent_for(city, TRIPS, "bob", status=8)
    spite = consent_for(city, TRIPS, "bob", status=7)
    city.revoke(revocation(early, "bob"))
    city.revoke(revocation(spite, "bob"))
    clock.now += HOUR
    assert who(city) == 1
    assert 8 in marks(city)
    assert 7 not in marks(city)
