"""Token Status Lists: the packing of the draft, signed lists, and what a reader refuses."""

from __future__ import annotations

import hashlib
import zlib

import cbor2
import nacl.signing
import numpy as np
import pytest

from datasov.authority import status
from datasov.crypto.sign import SigningKey
from datasov.errors import SignatureError, VerificationError
from datasov.wire import cbor, cwt
from tests.helpers import key_of

CITY = key_of("status city")
PLACES = np.array([0, 7, 8, 500_000, 2**20 - 1])
TWO_BITS = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
"""The draft's example of two bits an entry."""


def listed(number: int = 5, places: np.ndarray = PLACES, key: SigningKey = CITY) -> bytes:
    return status.issue(number, status.packed(places), key, now=1000, expires=2000, ttl=60)


def signed(key: SigningKey = CITY, kind: str = status.KIND, **changed: object) -> bytes:
    """A list whose claims are changed, signed all the same."""
    names = {"sub": 2, "exp": 4, "iat": 6, "ttl": 65534, "list": 65533}
    lst = zlib.compress(bytes(status.ENTRIES // 8))
    claims: dict[int, object] = {
        2: status.uri(CITY.public, 5), 4: 2000, 6: 1000, 65534: 60, 65533: {"bits": 1, "lst": lst},
    }  # fmt: skip
    claims.update({names.get(n, 99): v for n, v in changed.items()})
    return cwt.sign({k: v for k, v in claims.items() if v is not None}, key, kind)


def test_the_drafts_bytes_of_one_and_two_bits():
    one = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert zlib.decompress(status.compress(np.array(one), 1)) == bytes([0xB9, 0xA3])
    assert zlib.decompress(status.compress(np.array(TWO_BITS), 2)) == bytes([0xC9, 0x44, 0xF9])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_entries_come_back_in_every_width(bits):
    values = np.random.default_rng(bits).integers(1 << bits, size=1000)
    found = status.decompress(status.compress(values, bits), bits, 1000)
    assert found[:1000].tolist() == values.tolist()
    assert len(found) * bits == -(-1000 * bits // 8) * 8


def test_a_list_is_read_under_the_citys_key_alone():
    found = status.read(listed(), CITY.public, 5)
    assert (found.number, found.issued, found.expires) == (5, 1000, 2000)
    assert found.invalid.tolist() == PLACES.tolist()
    assert status.read(listed(places=PLACES[:0]), CITY.public, 5).invalid.tolist() == []
    assert status.read(signed(), CITY.public, 5).invalid.tolist() == []


def test_other_libraries_read_it_as_a_cwt_with_a_type():
    tag = cbor2.loads(listed())
    protected, unprotected, payload, signature = tag.value
    assert tag.tag == 18
    assert cbor2.loads(protected) == {1: -19, 16: "application/statuslist+cwt"}
    assert unprotected == {}
    claims = cbor2.loads(payload)
    assert set(claims) == {2, 4, 6, 65533, 65534}
    assert status.read_cbor(cbor.encode(claims[65533])).sum() == len(PLACES)
    nacl.signing.VerifyKey(CITY.public).verify(cbor2.dumps(["Signature1", protected, b"", payload]), signature)


def test_a_bare_list_is_read_in_the_drafts_order_and_in_the_canonical_one():
    lst = status.compress(np.array(TWO_BITS), 2)
    for order in ({"bits": 2, "lst": lst}, {"lst": lst, "bits": 2}):
        assert status.read_cbor(cbor2.dumps(order)).tolist() == TWO_BITS
    for bad in (
        {"bits": 2},
        {"bits": 2, "lst": lst, "more": 1},
        {"bits": 2, "list": lst},
        {"bits": True, "lst": lst},
        5,
    ):
        with pytest.raises(VerificationError):
            status.read_cbor(cbor2.dumps(bad))


@pytest.mark.parametrize("number", [4, 6, 4095])
def test_a_list_of_another_number_is_refused(number):
    with pytest.raises(VerificationError, match="another one"):
        status.read(listed(), CITY.public, number)


def test_a_list_of_another_city_is_refused():
    other = key_of("another city")
    with pytest.raises(SignatureError):
        status.read(listed(key=other), CITY.public, 5)
    with pytest.raises(VerificationError, match="another one"):
        status.read(signed(sub=status.uri(other.public, 5)), CITY.public, 5)


def test_every_flipped_bit_is_noticed():
    good = listed()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(VerificationError):
            status.read(bytes(bad), CITY.public, 5)


def test_another_signed_document_of_the_city_is_no_list():
    payload = cbor.encode({2: status.uri(CITY.public, 5)})
    for kind in ("application/statuslist+jwt", "datasov consent v1"):
        with pytest.raises(SignatureError):
            status.read(signed(kind=kind), CITY.public, 5)
    bare = cbor.encode([cbor.encode({1: -19}), {}, payload, CITY.sign(b"x")])
    for other in (bare, b"\xd2" + bare, b"", b"\xd2", listed() + b"\x00", listed()[:-1], "text", None):
        with pytest.raises(VerificationError):
            status.read(other, CITY.public, 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": None}, {"exp": None}, {"iat": None}, {"ttl": None}, {"list": None}, {"more": 1}, {"exp": "soon"},
        {"exp": True}, {"ttl": 0}, {"list": {"bits": 2, "lst": b""}}, {"list": {"bits": True, "lst": b""}},
        {"list": {"bits": 1}}, {"list": [1, b""]}, {"iat": -1},
    ],
)  # fmt: skip
def test_claims_of_another_form_are_refused(changed):
    with pytest.raises(VerificationError):
        status.read(signed(**changed), CITY.public, 5)


BITS = bytes(status.ENTRIES // 8)


@pytest.mark.parametrize(
    "lst",
    [
        zlib.compress(BITS)[:-1], zlib.compress(BITS)[:-5], zlib.compress(BITS) + b"\x00", b"", b"\x78\xda", BITS,
        zlib.compress(BITS[1:]), zlib.compress(BITS + b"\x00"), zlib.compress(BITS)[2:-4],
        zlib.compress(BITS)[:-4] + b"\x00\x00\x00\x00",
    ],
)  # fmt: skip
def test_a_list_that_is_cut_off_too_long_too_short_or_damaged_is_refused(lst):
    with pytest.raises(VerificationError):
        status.read(signed(list={"bits": 1, "lst": lst}), CITY.public, 5)


def test_a_bomb_is_never_unpacked(monkeypatch):
    """A thousand times the size: no more is unpacked than a list may have, and a byte."""
    bomb = zlib.compress(bytes(128 * 1024 * 1024), 9)
    asked: list[int] = []
    real = zlib.decompressobj

    class Spy:
        def __init__(self) -> None:
            self.real = real()

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self.real.decompress(data, most)

    monkeypatch.setattr(status.zlib, "decompressobj", Spy)
    with pytest.raises(VerificationError, match="more entries"):
        status.read(signed(list={"bits": 1, "lst": bomb}), CITY.public, 5)
    assert asked == [status.ENTRIES // 8 + 1]


@pytest.mark.parametrize("bits", [0, 3, 16, -1])
def test_widths_that_the_draft_does_not_have_are_refused(bits):
    with pytest.raises(VerificationError, match="bits"):
        status.decompress(zlib.compress(b"\x00"), bits)


def test_the_name_of_a_list_follows_from_the_citys_key():
    print_ = hashlib.sha256(b"datasov status lists v1" + CITY.public).hexdigest()[:32]
    assert status.uri(CITY.public, 9) == f"urn:datasov:status:{print_}:9"
