"""A pseudonym is the same on every device for one city, domain, programme and period; else it is like random bytes."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import datasov as ds
from datasov.authority import pseudonym as module
from datasov.authority.pseudonym import period_index, pseudonym
from datasov.crypto.kdf import hkdf
from datasov.errors import InvalidQueryError
from datasov.model.consent import CityId
from datasov.model.schema import DOMAINS
from datasov.vault import format as fmt
from tests.helpers import CITY_ID, NOW, PURPOSE, TRIPS, Clock

DAY = 86_400
PROGRAMME = bytes(range(32))
OTHER = CityId("lake", CITY_ID.verify_key, bytes(range(1, 33)))
WHAT = st.tuples(
    st.sampled_from([CITY_ID, OTHER, CityId("port", CITY_ID.verify_key, CITY_ID.seal_key)]), st.sampled_from(DOMAINS),
    st.one_of(st.sampled_from(["a", "a1", "mobility", PROGRAMME.hex()]), st.binary(min_size=32, max_size=32)),
    st.integers(0, 2**33), st.sampled_from([1, 3_600, DAY, 30 * DAY, 2**39]),
)  # fmt: skip


def of(seed: bytes):
    return lambda info: hkdf(seed, salt=fmt.context(b"identity"), info=info)


def plain_hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 by the standard library alone; 32 bytes are one block."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")


def test_the_bytes_are_those_of_the_specification():
    """CBOR written by hand: a list of text, text, bytes, and two whole numbers."""
    city = str(CITY_ID).encode()
    assert 24 <= len(city) < 256
    what = b"\x85" + b"\x78" + bytes([len(city)]) + city + b"\x68mobility" + b"\x58\x20" + PROGRAMME
    what += b"\x1a" + (DAY).to_bytes(4, "big") + b"\x19" + (NOW // DAY).to_bytes(2, "big")
    info = b"datasov pseudonym v1 " + hashlib.sha256(what).digest()
    expected = plain_hkdf(bytes(32), b"datasov/vault/v1/identity\x00", info)
    assert pseudonym(of(bytes(32)), CITY_ID, "mobility", PROGRAMME, NOW, DAY) == expected


@given(WHAT, WHAT)
def test_two_are_equal_exactly_where_all_that_they_are_for_is(one, two):
    def meaning(what):
        city, domain, programme, time, seconds = what
        return str(city), domain, programme, seconds, time // seconds

    a, b = (pseudonym(of(bytes(32)), *what) for what in (one, two))
    assert len(a) == 32
    assert (a == b) == (meaning(one) == meaning(two))
    assert a != pseudonym(of(bytes(31) + b"\x01"), *one)


def test_a_period_is_public_and_its_end_changes_the_pseudonym():
    edge = NOW // DAY * DAY
    at = {t: pseudonym(of(bytes(32)), CITY_ID, "health", PROGRAMME, t, DAY) for t in (edge - 1, edge, edge + DAY - 1)}
    assert at[edge] == at[edge + DAY - 1] != at[edge - 1]
    assert [period_index(t, DAY) for t in at] == [NOW // DAY - 1, NOW // DAY, NOW // DAY]


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "gossip"}, {"programme": b"short"}, {"programme": ""}, {"programme": 7}, {"period": 0},
        {"period": True}, {"period": 1.5}, {"at": -1}, {"period": 2**40},
    ],
)  # fmt: skip
def test_what_is_no_domain_programme_or_period_is_refused(tmp_path, wrong):
    what = {"domain": "health", "programme": PURPOSE, "period": DAY, **wrong}
    resident = ds.Resident.create(tmp_path / "v", device_key=bytes(32), clock=Clock())
    with resident, pytest.raises(InvalidQueryError):
        resident.pseudonym(CITY_ID, **what)


def test_devices_agree_and_new_keys_and_erasure_change_nothing(tmp_path):
    """What it is derived from is the identity seed: enrolment shares it, and no rotation touches it."""

    def called(resident):
        return resident.pseudonym(str(CITY_ID), domain="mobility", programme=PROGRAMME, period=DAY)

    with ds.Resident.create(tmp_path / "a", device_key=bytes(32), clock=Clock()) as phone:
        phone.put(TRIPS, [{"district": "N", "km": 1}])
        phone.enrol(tmp_path / "b", device_key=b"b" * 32)
        first = called(phone)
        phone.keys.rotate(device_key=b"c" * 32)
        assert called(phone) == first
        phone.erase_domain("mobility", device_key=b"d" * 32)
        assert called(phone) == first
        phone.compact()
    with ds.Resident.open(tmp_path / "b", device_key=b"b" * 32, clock=Clock()) as tablet:
        assert called(tablet) == first
        tablet.erase_domain("mobility", device_key=b"e" * 32)
        tablet.merge(tmp_path / "a", device_key=b"d" * 32)
        assert called(tablet) == first
    with ds.Resident.create(tmp_path / "other", device_key=bytes(32), clock=Clock()) as other:
        assert called(other) != first


def test_it_is_no_consent_key(tmp_path):
    with ds.Resident.create(tmp_path / "v", device_key=bytes(32), clock=Clock()) as resident:
        key = resident._signing_key("mobility", CITY_ID)
        assert resident.pseudonym(CITY_ID, domain="mobility", programme=PURPOSE, period=DAY) not in (
            key.public, resident._vault.derive(b"datasov consent key v1 mobility" + bytes(32)),
        )  # fmt: skip


def matched(residents: int = 300) -> int:
    """How many residents somebody joins who sees their pseudonyms in two periods, in other orders, by likeness."""
    rng = np.random.default_rng(7)
    seeds = [rng.bytes(32) for _ in range(residents)]
    one, two = (
        np.array(
            [np.frombuffer(module.pseudonym(of(s), CITY_ID, "health", PROGRAMME, t, DAY), np.uint8) for s in seeds]
        )
        for t in (NOW, NOW + DAY)
    )
    distance = np.bitwise_count(one[:, None] ^ two[None]).sum(axis=2)
    return int((distance.argmin(axis=1) == np.arange(residents)).sum())


LEAST = int(stats.binom.isf(1e-9, 300, 1 / 300)) + 1
"""So many of 300 matches come by chance once in 10^9 runs."""


def test_pseudonyms_of_two_periods_are_joined_no_better_than_by_chance():
    assert matched() < LEAST


def test_a_derivation_that_only_mixes_the_period_in_is_noticed(monkeypatch):
    """Planted: one name a resident, with the period's number in its last bytes."""

    def careless(derive, city, domain, programme, time, seconds):
        return derive(b"fixed")[:28] + period_index(time, seconds).to_bytes(4, "big")

    monkeypatch.setattr(module, "pseudonym", careless)
    assert matched() >= LEAST
