"""Attacks on consent documents. Each names the claim that it tries to break."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import nacl.bindings as sodium
import pytest

from datasov.authority import messages, token
from datasov.authority.messages import Contribution, Revocation
from datasov.crypto.seal import OpeningKey, seal
from datasov.crypto.sign import SigningKey, verify
from datasov.errors import ConsentError, DecryptionError, ProofError, SignatureError, VerificationError
from datasov.model.consent import CityId
from datasov.tlog.note import key_id, open_checkpoint
from datasov.wire import cbor, cose
from tests.unit.test_token import CITY, CITY_KEY, CLAIMS, CONSENT, KEY, OPENING, OTHER

IDENTITY = b"\x01" + bytes(31)
ORDER = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER = [
    bytes(32), IDENTITY, bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]  # fmt: skip
MINE = token.issue(replace(CLAIMS, token_id=b"\x0b" * 16), KEY)
THEIRS = token.issue(replace(CLAIMS, issuer=OTHER.public), OTHER)


def parts(data: bytes = CONSENT.token) -> list[object]:
    found = cbor.decode(data)
    assert isinstance(found, list)
    return found


def claims_of(public: bytes) -> bytes:
    return cbor.encode({**cbor.decode(cose.peek1(CONSENT.token)), 1: token._issuer_text(public)})


def to_be_signed(payload: bytes, protected: object = None, kind: bytes = b"datasov consent v1") -> bytes:
    return cbor.encode(["Signature1", parts()[0] if protected is None else protected, kind, payload])


def refused(data: bytes) -> bool:
    try:
        token.read(data)
    except VerificationError:
        return True
    return False


def sent(consent=CONSENT, key=KEY, city=CITY) -> bytes:
    return messages.sign_contribution(Contribution(consent.digest, 1, bytes(32), b"rows"), key, city)


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_a_small_order_key_consents_for_nobody(public):
    """Claim: a consent is the act of somebody who holds a key. R = identity, S = 0 signs anything under such a key."""
    for r in SMALL_ORDER:
        forged = cbor.encode([parts()[0], {}, claims_of(public), r + bytes(32)])
        with pytest.raises(SignatureError):
            token.read(forged)


def signed_by_second_key(mixed: bytes, message: bytes) -> bytes:
    """A signature of the holder of KEY that verifies under KEY's point plus a point of order two."""
    secret = bytearray(hashlib.sha512(b"\x01" * 32).digest()[:32])
    secret[0], secret[31] = secret[0] & 248, secret[31] & 127 | 64
    for nonce in range(1, 200):
        point = sodium.crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
        challenge = int.from_bytes(hashlib.sha512(point + mixed + message).digest(), "little") % ORDER
        if challenge % 2 == 0:
            s = (nonce + challenge * int.from_bytes(secret, "little")) % ORDER
            break
    signature = point + s.to_bytes(32, "little")
    verify(mixed, message, signature)
    return signature


def test_a_mixed_order_key_is_refused_though_its_signatures_verify():
    """Claim: one holder has one key. Added to a point of order two it gives a second, whose signatures pass."""
    mixed = sodium.crypto_core_ed25519_add(KEY.public, SMALL_ORDER[2])
    payload = claims_of(mixed)
    signature = signed_by_second_key(mixed, to_be_signed(payload))
    with pytest.raises(SignatureError, match="public key"):
        token.read(cbor.encode([parts()[0], {}, payload, signature]))
    text = f"log\n0\n{base64.b64encode(bytes(32)).decode()}\n"
    line = base64.b64encode(key_id("log", mixed) + signed_by_second_key(mixed, text.encode())).decode()
    with pytest.raises(ProofError):
        open_checkpoint(f"{text}\n— log {line}\n".encode(), "log", mixed)


def test_a_signature_is_not_malleable():
    """Claim: nobody but the holder makes another token of a consent: S + L is refused."""
    protected, _, payload, signature = parts()
    s = int.from_bytes(signature[32:], "little") + ORDER
    with pytest.raises(SignatureError):
        token.read(cbor.encode([protected, {}, payload, signature[:32] + s.to_bytes(32, "little")]))


@pytest.mark.parametrize(
    "protected",
    [{1: -7}, {1: -9}, {1: -8}, {1: -35}, {1: 5}, {1: -19, 4: b"kid"}, {1: -19, 2: [1]}, {}, {1: "EdDSA"}, {1: None}],
)
def test_the_algorithm_is_never_chosen_by_the_header(protected):
    """Claim: a token is Ed25519 or it is no token, though ES256 or HMAC stands in the header and is signed over."""
    raw, payload = cbor.encode(protected), parts()[2]
    for signature in (KEY.sign(to_be_signed(payload, raw)), parts()[3]):
        with pytest.raises(SignatureError):
            token.read(cbor.encode([raw, {}, payload, signature]))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: [p[0], {1: -19}, p[2], p[3]], lambda p: [p[0], {4: b"kid"}, p[2], p[3]], lambda p: [b"", *p[1:]],
        lambda p: [p[0], p[1], None, p[3]], lambda p: [*p, b""], lambda p: p[:3],
        lambda p: [p[0], p[1], p[2], p[3] + b"\0"],
        lambda p: [p[0], p[1], p[2], p[3][:-1]], lambda p: {0: p}, lambda p: [p[0], None, p[2], p[3]],
        lambda p: [p[0], p[1], p[2], bytes(64)],
    ],
)  # fmt: skip
def test_the_envelope_has_one_form(change):
    """Claim: nothing unsigned travels in a token."""
    with pytest.raises(SignatureError):
        token.read(cbor.encode(change(parts())))


def test_encodings_that_are_not_canonical_are_refused():
    """Claim: a consent has one spelling. Each of these is another spelling, signed by the holder."""
    good = cose.peek1(CONSENT.token)
    assert good[0] == 0xA7
    entries = cbor.decode(good)
    encoded = [cbor.encode(k) + cbor.encode(v) for k, v in entries.items()]
    iat = cbor.encode(6) + cbor.encode(entries[6])
    assert iat in encoded
    spellings = {
        "indefinite map": b"\xbf" + good[1:] + b"\xff",
        "long map head": b"\xb8\x07" + good[1:],
        "reversed": b"\xa7" + b"".join(reversed(encoded)),
        "duplicate key": b"\xa8" + good[1:] + iat,
        "duplicate key, first": b"\xa8" + iat + good[1:],
        "long label": good.replace(iat, b"\x18\x06" + iat[1:]),
        "long integer": good.replace(iat, b"\x06\x1b" + entries[6].to_bytes(8, "big")),
        "float time": good.replace(iat, b"\x06\xfb" + bytes.fromhex("41daac4ee0000000")),
        "tagged": b"\xd8\x3d" + good,
        "tagged time": good.replace(iat, b"\x06\xc1" + iat[1:]),
        "bignum": good.replace(iat, b"\x06\xc2\x44" + entries[6].to_bytes(4, "big")),
        "indefinite issuer": good.replace(b"\x78\x2b", b"\x7f\x78\x2b", 1).replace(b"\x04\x1a", b"\xff\x04\x1a", 1),
        "issuer as bytes": good.replace(b"\x78\x2b", b"\x58\x2b", 1),
        "longer head of the terms": good.replace(b"\x00\x03\x59", b"\x00\x03\x5a\x00\x00", 1),
        "trailing": good + b"\x00",
        "trailing break": good + b"\xff",
    }
    for name, payload in spellings.items():
        assert payload != good, name
        raw = cbor.encode([parts()[0], {}, payload, KEY.sign(to_be_signed(payload))])
        assert refused(raw), name
    for data in (b"\xd2" + CONSENT.token, CONSENT.token + b"\x00", b"\x9f" + CONSENT.token[1:] + b"\xff"):
        with pytest.raises(SignatureError):
            token.read(data)


def test_a_document_of_one_kind_is_never_read_as_another():
    """Claim: a signature says what was meant: the kind stands in what is signed."""
    payload = cose.peek1(CONSENT.token)
    for kind in (messages.CONTRIBUTION, messages.REVOCATION, "", "datasov consent v2"):
        with pytest.raises(SignatureError):
            token.read(cose.sign1(payload, KEY, kind))
    revocation = messages.sign_revocation(Revocation(CONSENT.digest, 5, bytes(32)), KEY)
    with pytest.raises(VerificationError):
        token.read(revocation)
    with pytest.raises(VerificationError):
        messages.read_revocation(CONSENT.token, CONSENT)
    as_consent = cose.sign1(cose.peek1(revocation), KEY, token.KIND)
    with pytest.raises(SignatureError):
        messages.read_revocation(as_consent, CONSENT)


def test_a_revocation_sealed_as_a_contribution_is_refused():
    """Claim: the same, inside the seal."""
    body = cbor.encode({1: CONSENT.digest, 2: 1, 3: bytes(32), 4: b"", 5: []})
    info = b"datasov contribution v1" + hashlib.sha256(str(CITY).encode()).digest() + CONSENT.digest
    for kind in (messages.REVOCATION, token.KIND):
        sealed = seal(CITY.seal_key, cose.sign1(body, KEY, kind), info)
        with pytest.raises(SignatureError):
            messages.open_contribution(cbor.encode({1: 1, 2: CONSENT.digest, 3: sealed}), OPENING, CITY, CONSENT)


def test_what_is_sealed_for_another_city_stays_closed():
    """Claim: only the city that the consent names can open a contribution, whatever keys and names others share."""
    elsewhere = OpeningKey(b"\x0c" * 32)
    others = [
        (CityId("other", CITY_KEY.public, OPENING.public), OPENING),
        (CityId(CITY.name, OTHER.public, OPENING.public), OPENING),
        (CityId(CITY.name, CITY_KEY.public, elsewhere.public), elsewhere),
    ]
    for city, opening in others:
        consent = token.issue(replace(CLAIMS, audience=str(city)), KEY)
        with pytest.raises(ConsentError):
            messages.open_contribution(sent(), opening, city, CONSENT)
        swapped = cbor.encode({**cbor.decode(sent()), 2: consent.digest})
        with pytest.raises(DecryptionError):
            messages.open_contribution(swapped, opening, city, consent)
        forwarded = messages.sign_contribution(Contribution(CONSENT.digest, 1, bytes(32), b"rows"), KEY, city)
        with pytest.raises(DecryptionError):
            messages.open_contribution(forwarded, OPENING, CITY, CONSENT)


def test_an_envelope_cannot_be_moved_to_another_consent():
    """Claim: rows are used under the consent that they were sent with, and under no other of the same resident."""
    with pytest.raises(ConsentError, match="another consent"):
        messages.open_contribution(sent(), OPENING, CITY, MINE)
    with pytest.raises(DecryptionError):
        messages.open_contribution(cbor.encode({**cbor.decode(sent()), 2: MINE.digest}), OPENING, CITY, MINE)


def test_signed_rows_cannot_be_spliced_under_another_consent_inside_the_seal():
    """Claim: the same against whoever has opened a contribution: a former operator, or the city's own process."""
    info = b"datasov contribution v1" + hashlib.sha256(str(CITY).encode()).digest()
    for source, key in ((CONSENT, KEY), (THEIRS, OTHER)):
        opened = OPENING.open(cbor.decode(sent(source, key))[3], info + source.digest)
        resealed = seal(CITY.seal_key, opened, info + MINE.digest)
        with pytest.raises((ConsentError, SignatureError)):
            messages.open_contribution(cbor.encode({1: 1, 2: MINE.digest, 3: resealed}), OPENING, CITY, MINE)


def test_nobody_else_contributes_or_revokes_under_a_consent():
    """Claim: only the consent's own key speaks under it, though anybody may know its identity."""
    with pytest.raises(SignatureError):
        messages.open_contribution(sent(CONSENT, OTHER), OPENING, CITY, CONSENT)
    with pytest.raises(SignatureError):
        messages.read_revocation(messages.sign_revocation(Revocation(CONSENT.digest, 5, bytes(32)), OTHER), CONSENT)


def test_an_issuer_cannot_be_put_over_anothers_signature():
    """Claim: the issuer that a token names is the key that signed it."""
    protected, _, payload, signature = parts()
    swapped = cbor.encode({**cbor.decode(payload), 1: token._issuer_text(OTHER.public)})
    for sig in (signature, SigningKey(b"\x0d" * 32).sign(to_be_signed(swapped))):
        with pytest.raises(SignatureError):
            token.read(cbor.encode([protected, {}, swapped, sig]))


def test_an_issuer_has_one_spelling():
    """Claim: two texts never name one key: stray bits, padding and other alphabets are refused."""
    text = token._issuer_text(KEY.public)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(text[-1])
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in (text[:-1] + alphabet[last ^ 1], text + "=", text[:-1], " " + text[1:], text.replace(text[0], "+", 1)):
        payload = cbor.encode({**cbor.decode(parts()[2]), 1: other})
        with pytest.raises(VerificationError):
            token.read(cbor.encode([parts()[0], {}, payload, KEY.sign(to_be_signed(payload))]))
