"""Letters: their form, and what a city makes of them when their tick is over."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.authority import delegation, letters
from datasov.authority.letters import LEAST, MAX_LETTER, OVERHEAD, padded_size
from datasov.authority.registry import partition_name
from datasov.city.public import TakenUp
from datasov.crypto.kdf import sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.errors import ConflictError, DecryptionError, InvalidDataError, StoreError, VerificationError
from datasov.store.inbox import Inbox
from datasov.wire import cbor
from tests.helpers import (
    PURPOSE,
    RHO,
    TRIPS,
    Clock,
    consent_for,
    contribution,
    few_lists,
    found_city,
    key_of,
    revocation,
)

HOUR = 3_600
KEY = OpeningKey(bytes(range(32)))
VERIFY = key_of("city").public
CITY = ds.CityId("lake", VERIFY, KEY.public)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def city(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    few_lists(monkeypatch)
    with found_city(tmp_path, clock) as found:
        yield found


def consented(city: ds.City, name: object, sequence: int = 1) -> tuple[ds.Consent, bytes]:
    consent = consent_for(city, TRIPS, name)
    sent = contribution(city, consent, name, sequence, TRIPS, [{"district": "N", "km": 3}])
    return consent, letters.seal_admission(consent, sent, city.id)


def live(city: ds.City) -> int:
    """How many residents are in the pool now."""
    partition = city._registry.partition(partition_name(TRIPS, PURPOSE))
    city._registry.refresh()
    return sum(partition.member(place).live for place in range(len(partition)))


@given(st.integers(0, MAX_LETTER))
def test_padding_hides_sizes(size: int) -> None:
    padded = padded_size(size)
    assert max(size, LEAST) <= padded <= max(LEAST, size * 1.12 + 1)
    assert padded_size(padded) == padded
    assert padded_size(size + 1) >= padded


def test_there_are_few_sizes() -> None:
    assert len({padded_size(n) for n in range(0, MAX_LETTER, 997)}) < 300


def test_a_revocation_looks_like_a_consent() -> None:
    consent = consent_for(CITY, TRIPS, "ann")
    assert len(letters.seal_admission(consent, b"c" * 900, CITY)) == LEAST + OVERHEAD
    assert len(letters.seal_ending(b"r" * 400, CITY)) == LEAST + OVERHEAD


def test_a_letter_opens_for_its_city_alone() -> None:
    consent = consent_for(CITY, TRIPS, "ann")
    letter = letters.seal_admission(consent, b"rows", CITY)
    found = letters.open_letter(letter, KEY, CITY)
    assert found == letters.Admitting(delegation.bundle(consent), b"rows")
    assert letters.open_letter(letters.seal_ending(b"end", CITY), KEY, CITY) == letters.Ending(b"end")
    with pytest.raises(DecryptionError):
        letters.open_letter(letter, KEY, ds.CityId("other", VERIFY, KEY.public))
    with pytest.raises(DecryptionError):
        letters.open_letter(letter[:-1] + bytes([letter[-1] ^ 1]), KEY, CITY)
    with pytest.raises(InvalidDataError, match="8 MiB"):
        letters.seal_admission(consent, bytes(MAX_LETTER), CITY)


@pytest.mark.parametrize(
    ("body", "size", "filling"),
    [
        ({1: 1, 2: b"c", 3: b"r"}, LEAST, b"\1"),
        ({1: 1, 2: b"c", 3: b"r"}, LEAST + 1, b"\0"),
        ({1: 1, 2: b"c", 3: b"r"}, 2 * LEAST, b"\0"),
        ({1: 2, 2: b"c", 3: b"r"}, LEAST, b"\0"),
        ({1: 1, 2: b"c"}, LEAST, b"\0"),
        ({1: 1, 2: b"c", 3: b"r", 4: b"e"}, LEAST, b"\0"),
        ({1: 1}, LEAST, b"\0"),
        ({1: 1, 4: "text"}, LEAST, b"\0"),
    ],
)
def test_other_forms_are_refused(body: dict[int, object], size: int, filling: bytes) -> None:
    packed = cbor.encode(body)
    data = len(packed).to_bytes(8, "big") + packed
    letter = seal(KEY.public, data + filling * (size - len(data)), b"datasov letter v1" + sha256(str(CITY).encode()))
    with pytest.raises(VerificationError):
        letters.open_letter(letter, KEY, CITY)


def test_letters_wait_for_the_end_of_their_tick_and_are_told_of_in_the_log(
    city: ds.City, clock: Clock, tmp_path: Path
) -> None:
    with ds.Resident.create(tmp_path / "ann.vault", device_key=bytes(32), clock=clock) as ann:
        ann.put(TRIPS, [{"district": "N", "km": 7}])
        consent = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2999-01-01")
        taken_up = city.receive(ann.letter(consent))
        assert taken_up == clock.now // HOUR * HOUR + HOUR
        assert city.take_up() == TakenUp()
        clock.now = taken_up - 1
        assert city.take_up() == TakenUp()
        clock.now = taken_up
        assert city.take_up() == TakenUp(taken=1)
        assert (live(city), city.take_up()) == (1, TakenUp())
        city.tick()
        assert [(s.number, s.admitted) for s in ann.sent(city.log)] == [(1, False)]
        clock.now += HOUR
        city.tick()
        assert [(s.consent, s.number, s.admitted) for s in ann.sent(city.log)] == [(consent, 1, True)]
        ann.letter(consent)
        assert [s.admitted for s in ann.sent(city.log)] == [True, False], "one that was never sent"
        city.receive(ann.revocation_letter(consent))
        clock.now += HOUR
        assert city.take_up() == TakenUp(taken=1)
        assert live(city) == 0


def test_a_revocation_goes_before_what_it_ends(city: ds.City, clock: Clock) -> None:
    for name in range(6):
        consent, letter = consented(city, name)
        city.receive(letter)
        city.receive(letters.seal_ending(revocation(consent, name), city.id))
    clock.now += HOUR
    assert city.take_up() == TakenUp(taken=6, refused=6)
    assert live(city) == 0


def test_a_letter_that_is_sent_again_does_no_harm(city: ds.City, clock: Clock) -> None:
    _, letter = consented(city, "ann")
    city.receive(letter)
    city.receive(letter)
    clock.now += HOUR
    assert city.take_up() == TakenUp(taken=1)
    city.receive(letter)
    clock.now += HOUR
    assert city.take_up() == TakenUp(refused=1)
    assert live(city) == 1


def test_what_is_no_letter_goes_and_the_others_stay(
    city: ds.City, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in range(3):
        city.receive(consented(city, name)[1])
    city.receive(bytes(LEAST + OVERHEAD))
    city.receive(letters.seal_ending(b"no revocation", city.id))
    _, poison = consented(city, "poison")
    city.receive(poison)
    real = type(city).admit_many

    def failing(self: ds.City, pairs: Sequence[tuple[bytes, bytes]]) -> Any:
        opened = letters.open_letter(poison, self._who.opening, self.id)
        if any((letters.Admitting(*pair)) == opened for pair in pairs):
            raise ZeroDivisionError
        return real(self, pairs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(city), "admit_many", failing)
    clock.now += HOUR
    assert city.take_up() == TakenUp(taken=3, refused=3)
    assert (live(city), city.take_up()) == (3, TakenUp())


def test_a_fault_of_the_disk_keeps_them(city: ds.City, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    city.receive(consented(city, "ann")[1])
    city.receive(letters.seal_ending(revocation(consent_for(city, TRIPS, "bob"), "bob"), city.id))
    clock.now += HOUR
    with monkeypatch.context() as patch:
        patch.setattr(city._store, "append", lambda *_: (_ for _ in ()).throw(StoreError("full")))
        assert city.take_up() == TakenUp(kept=2)
    assert city.take_up() == TakenUp(taken=2)


def test_sizes_that_no_letter_has_are_refused(city: ds.City) -> None:
    for size in (0, LEAST + OVERHEAD - 1, MAX_LETTER + OVERHEAD + 1):
        with pytest.raises(InvalidDataError, match="16 KiB"):
            city.receive(bytes(size))


def test_an_inbox_has_an_end_and_counts_anew(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", 100)
    inbox.put(b"a" * 60, 1)
    with pytest.raises(StoreError, match="too many"):
        inbox.put(b"b" * 60, 1)
    other = Inbox(tmp_path / "inbox", 100)
    with pytest.raises(StoreError, match="too many"):
        other.put(b"c" * 60, 1)
    inbox.remove(inbox.waiting(2))
    other.put(b"d" * 60, 2)
    assert len(other.waiting(3)) == 1
    assert other.waiting(2) == []


def test_one_process_collects_at_a_time(tmp_path: Path) -> None:
    inbox, second = Inbox(tmp_path / "inbox", 100), Inbox(tmp_path / "inbox", 100)
    with inbox.collecting() as first:
        assert not first, "nothing was ever put there"
    inbox.put(b"a", 1)
    with inbox.collecting() as first, second.collecting() as other:
        assert (first, other) == (True, False)
    with second.collecting() as other:
        assert other


def test_many_threads_send_at_once(city: ds.City, clock: Clock) -> None:
    found = [consented(city, name)[1] for name in range(16)]
    threads = [threading.Thread(target=city.receive, args=(letter,)) for letter in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += HOUR
    assert city.take_up() == TakenUp(taken=16)


def test_an_order_of_arrival_is_not_kept(tmp_path: Path) -> None:
    inbox, names = Inbox(tmp_path / "inbox", 10**6), [bytes([n]) * 9 for n in range(40)]
    for name in names:
        inbox.put(name, 7)
    assert [p.read_bytes() for p in inbox.waiting(8)] == sorted(names, key=sha256)


def test_a_letter_to_the_id_before_is_taken(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    few_lists(monkeypatch)
    with found_city(tmp_path, clock) as city:
        _, letter = consented(city, "ann")
        city.receive(letter)
        city.rotate()
    clock.now += HOUR
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        assert city.take_up() == TakenUp(taken=1)


def test_a_race_for_the_registry_is_retried(city: ds.City, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    city.receive(consented(city, "ann")[1])
    clock.now += HOUR
    real, lost = city._store.append, iter([True])

    def racing(*given: Any) -> None:
        if next(lost, False):
            raise ConflictError("another was first")
        real(*given)

    monkeypatch.setattr(city._store, "append", racing)
    assert city.take_up() == TakenUp(taken=1)
