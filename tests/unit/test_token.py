"""Consent tokens: round trip, and each claim that must be refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datasov.authority import terms, token
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, SignatureError, VerificationError
from datasov.model.consent import CityId, Claims, Consent, Coverage
from datasov.model.privacy import MAX_NANO, Loss, Trust, central, zcdp
from datasov.wire import cbor, cose

KEY, OTHER, CITY_KEY = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32), SigningKey(b"\x03" * 32)
OPENING = OpeningKey(b"\x04" * 32)
CITY = CityId("湖畔市", CITY_KEY.public, OPENING.public)
CLAIMS = Claims(
    issuer=KEY.public, audience=str(CITY), token_id=b"\x05" * 16,
    issued=1_790_000_000, not_before=1_790_000_000, expires=1_830_000_000,
    coverage=(Coverage("trips", b"\x06" * 32, ("district", "km")), Coverage("person", b"\x07" * 32, ("age",))),
    purpose="bus-planning", trust=central(), loss=zcdp(rho="0.1"), jurisdiction="JP-10", status=2**32 - 1,
)  # fmt: skip
CONSENT = token.issue(CLAIMS, KEY)


def signed(value: object, key: SigningKey = KEY, kind: str = token.KIND) -> bytes:
    return cose.sign1(cbor.encode(value), key, kind)


def payload() -> dict[int, object]:
    found = cbor.decode(cose.peek1(CONSENT.token))
    assert isinstance(found, dict)
    return found


def shared() -> dict[int, object]:
    found = cbor.decode(payload()[-65540])
    assert isinstance(found, dict)
    return found


def under(changed: object) -> bytes:
    """The token with other terms, signed."""
    return signed({**payload(), -65540: cbor.encode(changed)})


def test_a_token_comes_back():
    assert token.read(CONSENT.token) == CONSENT == Consent(CONSENT.token, CLAIMS, CONSENT.digest)
    assert len(CONSENT.digest) == 32


def test_a_realistic_token_stays_small():
    assert len(CONSENT.token) < 512


@pytest.mark.parametrize(
    "change",
    [
        {"processing": "JP"}, {"special": ("trips.km",)}, {"special": ("person.age", "trips.km")},
        {"record": b"\x0a" * 32}, {"subject": OTHER.public, "parent": b"\x0b" * 32},
        {"processing": "JP-13", "special": ("person.age",), "record": bytes(32), "subject": CITY_KEY.public,
         "parent": bytes(32)},
    ],
)  # fmt: skip
def test_what_a_token_may_name_beside_the_rest_comes_back(change):
    claims = replace(CLAIMS, **change)
    consent = token.issue(claims, KEY)
    assert token.read(consent.token) == token.reread(consent.token) == consent
    assert consent.claims == claims
    assert consent.digest != CONSENT.digest
    assert claims.account == change.get("subject", KEY.public)


def test_registered_claims_keep_their_registered_labels_and_types():
    found = payload()
    assert (found[4], found[5], found[6], found[7]) == (
        CLAIMS.expires, CLAIMS.not_before, CLAIMS.issued, CLAIMS.token_id,
    )  # fmt: skip
    assert isinstance(found[1], str), "iss is a StringOrURI"
    assert sorted(found) == [-65540, -65537, 1, 4, 5, 6, 7]
    assert sorted(shared()) == [1, 2, 3, 4, 5, 6]
    assert shared()[1] == str(CITY)
    assert shared()[5] == {1: "zcdp", 2: 10**8, 3: 0, 4: "add-remove", 5: "resident"}


def test_the_terms_of_residents_who_agree_to_the_same_are_the_same_bytes():
    other = replace(CLAIMS, issuer=OTHER.public, token_id=bytes(16), issued=1_790_000_007, not_before=1_790_000_007)
    assert terms.encode(token.issue(other, OTHER).claims) == terms.encode(CLAIMS) == payload()[-65540]


def test_the_identity_is_of_what_was_signed():
    same = token.issue(CLAIMS, KEY)
    assert same.digest == CONSENT.digest
    assert token.issue(replace(CLAIMS, token_id=bytes(16)), KEY).digest != CONSENT.digest


@pytest.mark.parametrize(
    "change",
    [
        {"issued": CLAIMS.not_before + 1}, {"expires": CLAIMS.not_before}, {"not_before": CLAIMS.expires},
        {"coverage": ()}, {"coverage": (Coverage("trips", bytes(32), ()),)},
        {"loss": Loss(0)}, {"loss": Loss(-1)}, {"loss": Loss(MAX_NANO + 1)},
        {"purpose": " bus"}, {"purpose": "bus "}, {"purpose": "か\u3099"}, {"trust": Trust("enclave")},
        {"jurisdiction": "jp"}, {"jurisdiction": "JPN"}, {"jurisdiction": "JP-"}, {"jurisdiction": "JP10"},
        {"audience": "lakeside"}, {"audience": str(CITY) + "="}, {"audience": str(CITY)[:-1]},
        {"audience": str(replace(CITY, name=""))}, {"audience": str(CITY).replace("+", "+!")},
        {"issuer": OTHER.public}, {"issuer": b""},
        {"processing": "jp"}, {"processing": "JPN"}, {"special": ("trips.age",)}, {"special": ("trips.kms",)},
        {"special": ("person.age", "trips.district", "trips.nothing")},
        {"subject": OTHER.public}, {"parent": bytes(32)}, {"subject": KEY.public, "parent": bytes(32)},
    ],
)  # fmt: skip
def test_claims_that_no_city_may_accept_are_not_issued(change):
    with pytest.raises(ConsentError):
        token.issue(replace(CLAIMS, **change), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"issued": -1}, {"issued": True}, {"issued": 1.5}, {"expires": 253_402_300_800}, {"token_id": bytes(15)},
        {"token_id": bytes(17)}, {"token_id": "x" * 16}, {"status": -1}, {"status": 2**32}, {"status": False},
        {"purpose": ""}, {"purpose": "x" * 129}, {"purpose": "a\tb"}, {"purpose": 7}, {"jurisdiction": ""},
        {"jurisdiction": "JP-1000"}, {"audience": "x" * 257}, {"loss": Loss(True)},
        {"coverage": (Coverage("1st", bytes(32), ("km",)),)}, {"coverage": (Coverage("_t", bytes(32), ("km",)),)},
        {"coverage": (Coverage("t", bytes(31), ("km",)),)}, {"coverage": (Coverage("t", bytes(32), ("km", "km")),)},
        {"coverage": (Coverage("t", bytes(32), ("a b",)),)}, {"coverage": (Coverage("t", bytes(32), ("km",)),) * 2},
        {"coverage": tuple(Coverage(f"t{i}", bytes(32), ("km",)) for i in range(17))},
        {"coverage": (Coverage("t", bytes(32), tuple(f"c{i}" for i in range(1025))),)},
        {"processing": "JP-1000"}, {"processing": 7}, {"processing": None}, {"record": bytes(31)}, {"record": "x" * 32},
        {"special": ("trips.km", "person.age")}, {"special": ("trips.km", "trips.km")}, {"special": ["trips.km"]},
        {"special": ("",)}, {"special": (7,)}, {"subject": bytes(31), "parent": bytes(32)},
        {"subject": OTHER.public, "parent": bytes(31)}, {"subject": "x" * 32, "parent": bytes(32)},
    ],
)  # fmt: skip
def test_claims_of_a_wrong_type_or_size_are_not_issued(change):
    with pytest.raises(VerificationError):
        token.issue(replace(CLAIMS, **change), KEY)


def test_a_token_longer_than_the_limit_is_neither_issued_nor_read():
    wide = tuple(Coverage(f"t{i}", bytes(32), tuple(f"c{j}_{'x' * 56}" for j in range(120))) for i in range(16))
    with pytest.raises(ConsentError, match="64 KiB"):
        token.issue(replace(CLAIMS, coverage=wide), KEY)
    too_long = cose.sign1(token.encode_claims(replace(CLAIMS, coverage=wide)), KEY, token.KIND)
    for data in (too_long, CONSENT.token.hex(), None):
        with pytest.raises(VerificationError):
            token.read(data)


OWN, SHARED = [1, 4, 5, 6, 7, -65537, -65540], [1, 2, 3, 4, 5, 6]
WRONG = [None, True, "", b"", [], {}, -1, " ", [[]], [None]]


@pytest.mark.parametrize("label", OWN)
def test_every_claim_is_required(label):
    claims = payload()
    del claims[label]
    with pytest.raises(VerificationError):
        token.read(signed(claims))


@pytest.mark.parametrize("label", SHARED)
def test_every_term_is_required(label):
    found = shared()
    del found[label]
    with pytest.raises(VerificationError):
        token.read(under(found))


@pytest.mark.parametrize("label", [*OWN, -65538, -65539])
@pytest.mark.parametrize("value", WRONG)
def test_every_claim_has_its_type(label, value):
    with pytest.raises((VerificationError, ConsentError)):
        token.read(signed({**payload(), label: value}))


@pytest.mark.parametrize("label", [*SHARED, 7, 8, 9])
@pytest.mark.parametrize("value", WRONG)
def test_every_term_has_its_type(label, value):
    with pytest.raises((VerificationError, ConsentError)):
        token.read(under({**shared(), label: value}))


@pytest.mark.parametrize("label", [0, 2, 3, 8, -1, -65536, -65541, "purpose", b"x", 2**40])
def test_an_unknown_claim_is_refused(label):
    with pytest.raises(VerificationError):
        token.read(signed({**payload(), label: 1}))


@pytest.mark.parametrize("label", [0, 10, -1, -65537, "purpose", b"x", 2**40])
def test_an_unknown_term_is_refused(label):
    with pytest.raises(VerificationError):
        token.read(under({**shared(), label: 1}))


def test_terms_of_another_encoding_are_refused():
    good = payload()[-65540]
    assert good[:2] == b"\xa6\x01"
    for bad in (
        b"\xb8\x06" + good[1:],
        good[:1] + b"\x18\x01" + good[2:],
        good + b"\x00",
        b"\xbf" + good[1:] + b"\xff",
    ):
        with pytest.raises(VerificationError):
            token.read(signed({**payload(), -65540: bad}))


@pytest.mark.parametrize("subject", [b"\x01" + bytes(31), bytes(32), b"\xff" * 32])
def test_a_subject_is_a_point_of_the_group(subject):
    other = replace(CLAIMS, subject=subject, parent=bytes(32))
    with pytest.raises(SignatureError, match="public key"):
        token.read(cose.sign1(token.encode_claims(other), KEY, token.KIND))


def test_true_is_not_the_label_one():
    claims = payload()
    with pytest.raises(VerificationError):
        token.read(signed({True: claims.pop(1), **claims}))


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (1, "puredp"),
        (1, None),
        (3, 10**16 + 1),
        (3, -1),
        (3, False),
        (4, "replace-one"),
        (5, "event"),
        (6, 0),
        (2, "1"),
        (2, None),
    ],
)
def test_a_loss_of_another_measure_delta_adjacency_or_unit_is_refused(label, value):
    with pytest.raises(VerificationError):
        token.read(under({**shared(), 5: {**shared()[5], label: value}}))


@pytest.mark.parametrize("claims", [None, [], b"", "x", 1, [1, 2]])
def test_what_is_no_map_is_refused(claims):
    with pytest.raises(VerificationError):
        token.read(signed(claims))
    with pytest.raises(VerificationError):
        token.read(under(claims))


def test_a_city_whose_key_is_no_point_gets_no_consent():
    with pytest.raises(SignatureError):
        token.issue(replace(CLAIMS, audience=str(replace(CITY, verify_key=b"\x01" + bytes(31)))), KEY)
