"""Contributions and revocations: round trip, and what each side refuses."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from datasov.authority import messages, token
from datasov.authority.messages import Contribution, Revocation
from datasov.crypto.seal import seal
from datasov.errors import ConsentError, DecryptionError, InvalidDataError, SignatureError, VerificationError
from datasov.wire import cbor, cose
from tests.unit.test_token import CITY, CLAIMS, CONSENT, KEY, OPENING, OTHER

CONTRIBUTION = Contribution(CONSENT.digest, 1, b"\x08" * 32, b"rows", (("person", b"profile"),))
REVOCATION = Revocation(CONSENT.digest, 1_800_000_000, b"\x09" * 32)


def envelope(payload: object, *, key=KEY, kind=messages.CONTRIBUTION, digest=CONSENT.digest) -> bytes:
    """An envelope around anything, sealed as the format says."""
    info = b"datasov contribution v1" + hashlib.sha256(str(CITY).encode()).digest() + digest
    sealed = seal(CITY.seal_key, cose.sign1(cbor.encode(payload), key, kind), info)
    return cbor.encode({1: 1, 2: digest, 3: sealed})


def contribution_map() -> dict[int, object]:
    return {1: CONSENT.digest, 2: 1, 3: b"\x08" * 32, 4: b"rows", 5: [["person", b"profile"]]}


def opened(data: bytes) -> Contribution:
    return messages.open_contribution(data, OPENING, CITY, CONSENT)


@pytest.mark.parametrize(
    "contribution", [CONTRIBUTION, replace(CONTRIBUTION, profiles=(), rows=b"", sequence=2**63 - 1)]
)
def test_a_contribution_comes_back(contribution):
    data = messages.sign_contribution(contribution, KEY, CITY)
    assert messages.envelope_digest(data) == CONSENT.digest
    assert opened(data) == contribution
    assert b"rows" not in data
    assert data != messages.sign_contribution(contribution, KEY, CITY), "every sealing is fresh"


def test_the_format_is_what_is_written_down():
    assert opened(envelope(contribution_map())) == CONTRIBUTION


@pytest.mark.parametrize(
    "change",
    [
        {"consent_digest": bytes(31)}, {"sequence": 0}, {"sequence": -1}, {"sequence": True}, {"sequence": 2**63},
        {"commitment": b""}, {"commitment": bytes(33)}, {"rows": "rows"}, {"rows": None},
        {"profiles": (("person", b""), ("person", b""))}, {"profiles": (("1", b""),)}, {"profiles": (("p", "x"),)},
        {"profiles": tuple((f"p{i}", b"") for i in range(16))},
    ],
)  # fmt: skip
def test_a_contribution_with_a_wrong_field_is_not_signed(change):
    with pytest.raises(VerificationError):
        messages.sign_contribution(replace(CONTRIBUTION, **change), KEY, CITY)


def test_fields_unknown_missing_or_mistyped_are_refused():
    good = contribution_map()
    for bad in (
        *({k: v for k, v in good.items() if k != label} for label in good),
        {**good, 0: 1}, {**good, 6: 1}, {**good, "x": 1}, list(good.values()), None,
        *({**good, label: value} for label in good for value in (None, "x", -1, True, {}, [1], [[1, 2, 3]])),
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            opened(envelope(bad))


def test_envelopes_of_another_form_are_refused_before_opening():
    good = cbor.decode(messages.sign_contribution(CONTRIBUTION, KEY, CITY))
    for bad in (
        *({k: v for k, v in good.items() if k != label} for label in good),
        {**good, 1: 2}, {**good, 1: True}, {**good, 2: b""}, {**good, 3: None}, {**good, 4: b""}, [], None,
    ):  # fmt: skip
        for read in (messages.envelope_digest, opened):
            with pytest.raises(VerificationError):
                read(cbor.encode(bad))
    raw = cbor.encode(good)
    for data in (raw + b"\x00", raw[:-1], b"", raw.hex(), None):
        with pytest.raises(VerificationError):
            messages.envelope_digest(data)


def test_a_contribution_over_the_limit_is_neither_sent_nor_decoded():
    with pytest.raises(InvalidDataError, match="64 MiB"):
        messages.sign_contribution(replace(CONTRIBUTION, rows=bytes(messages.MAX_MESSAGE)), KEY, CITY)
    with pytest.raises(VerificationError, match="longer"):
        messages.envelope_digest(bytes(messages.MAX_MESSAGE + 1))


def test_a_table_that_the_consent_does_not_cover_is_refused():
    for name in ("health", "trips"):
        with pytest.raises(ConsentError, match="not cover"):
            opened(envelope({**contribution_map(), 5: [[name, b""]]}))


def test_a_revocation_comes_back():
    data = messages.sign_revocation(REVOCATION, KEY)
    assert messages.read_revocation(data, CONSENT) == REVOCATION
    assert messages.open_revocation(messages.seal_revocation(data, CONSENT, CITY), OPENING, CITY) == (
        CONSENT, REVOCATION,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"consent_digest": b""}, {"time": -1}, {"time": 1.0}, {"time": True}, {"commitment": bytes(31)}]
)
def test_a_revocation_with_a_wrong_field_is_not_signed(change):
    with pytest.raises(VerificationError):
        messages.sign_revocation(replace(REVOCATION, **change), KEY)


def test_revocations_of_another_form_are_refused():
    good = {1: REVOCATION.consent_digest, 2: REVOCATION.time, 3: REVOCATION.commitment}
    for bad in (*({k: v for k, v in good.items() if k != label} for label in good), {**good, 4: 1}, [], None):
        with pytest.raises(VerificationError):
            messages.read_revocation(cose.sign1(cbor.encode(bad), KEY, messages.REVOCATION), CONSENT)
    for data in (b"", bytes(messages.MAX_REVOCATION + 1), None):
        with pytest.raises(VerificationError):
            messages.read_revocation(data, CONSENT)
        with pytest.raises(VerificationError):
            messages.open_revocation(data, OPENING, CITY)


def test_a_sealed_revocation_of_another_form_for_another_city_or_of_another_consent_is_refused():
    signed = messages.sign_revocation(REVOCATION, KEY)
    good = {1: 1, 2: CONSENT.token, 3: signed}
    info = b"datasov revocation v1" + hashlib.sha256(str(CITY).encode()).digest()
    for bad in (*({k: v for k, v in good.items() if k != label} for label in good), {**good, 4: 1}, {**good, 1: 2}, []):
        with pytest.raises(VerificationError):
            messages.open_revocation(seal(CITY.seal_key, cbor.encode(bad), info), OPENING, CITY)
    other = token.issue(replace(CLAIMS, token_id=bytes(16)), KEY)
    with pytest.raises(ConsentError):
        messages.open_revocation(messages.seal_revocation(signed, other, CITY), OPENING, CITY)
    elsewhere = replace(CITY, name="elsewhere")
    with pytest.raises(DecryptionError):
        messages.open_revocation(messages.seal_revocation(signed, CONSENT, elsewhere), OPENING, CITY)
    with pytest.raises(ConsentError):
        messages.open_revocation(messages.seal_revocation(signed, CONSENT, elsewhere), OPENING, elsewhere)


def test_a_revocation_of_another_consent_or_by_another_key_is_refused():
    other = token.issue(replace(CLAIMS, token_id=bytes(16)), KEY)
    data = messages.sign_revocation(REVOCATION, KEY)
    with pytest.raises(ConsentError):
        messages.read_revocation(data, other)
    with pytest.raises(SignatureError):
        messages.read_revocation(messages.sign_revocation(REVOCATION, OTHER), CONSENT)


def test_a_salted_hash_is_the_hash_that_the_format_names():
    salt, record = b"\x0a" * 32, messages.admission_record(CONSENT.digest, 3)
    assert messages.salted(salt, record) == hashlib.sha256(b"datasov salted v1" + salt + record).digest()
    assert messages.salted(bytes(32), record) != messages.salted(salt, record)
    assert messages.revocation_record(CONSENT.digest, 3) != record
    for bad in (b"", bytes(31), bytes(33)):
        with pytest.raises(VerificationError):
            messages.salted(bad, record)


def test_another_city_cannot_open_it():
    data = messages.sign_contribution(CONTRIBUTION, KEY, CITY)
    namesake = replace(CITY, name="other")
    consent = token.issue(replace(CLAIMS, audience=str(namesake)), KEY)
    with pytest.raises(ConsentError, match="another city"):
        messages.open_contribution(data, OPENING, namesake, CONSENT)
    with pytest.raises(ConsentError, match="another consent"):
        messages.open_contribution(data, OPENING, namesake, consent)
    relabelled = cbor.encode({**cbor.decode(data), 2: consent.digest})
    with pytest.raises(DecryptionError):
        messages.open_contribution(relabelled, OPENING, namesake, consent)
