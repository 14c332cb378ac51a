"""Keys that a certificate accredits: what is enrolled, what they sign, and that the header chooses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import datasov as ds
from datasov.authority import messages, signers, token
from datasov.crypto.certificate import Certified, certified
from datasov.crypto.es256 import P256Key, P256SigningKey
from datasov.errors import ConsentError, SignatureError, StoreError
from datasov.wire import cbor, cose
from tests.certificates import DAY, Authority
from tests.helpers import COUNT, NOW, PURPOSE, TRIPS, claims_for, found_city, key_of, packed
from tests.unit.test_token import CLAIMS, CONSENT, KEY

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PRIVATE = ec.derive_private_key(2**200 + 7, ec.SECP256R1())
CARD = P256SigningKey(PRIVATE)
ROOT = Authority()
CERTIFICATE = ROOT.certificate(PRIVATE)
GIVEN = replace(CLAIMS, issuer=CARD.name)


def directory(now: int = NOW, key: P256SigningKey = CARD) -> signers.At:
    return signers.At({key.name: Certified(key.public, NOW - DAY, NOW + DAY)}, now)


# --- the primitive


def test_es256_by_the_example_of_rfc_6979():
    """RFC 6979, appendix A.2.5, SHA-256 of "sample"."""
    key = P256Key(bytes.fromhex(
        "04" "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    ))  # fmt: skip
    signature = bytes.fromhex(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )
    key.verify(b"sample", signature)
    for bad in (b"", signature[:-1], signature + b"\0", bytes(64), bytes(32) + signature[32:],
                signature[:32] + bytes(32), signature[:32] + ORDER.to_bytes(32, "big"), signature[::-1]):  # fmt: skip
        with pytest.raises(SignatureError):
            key.verify(b"sample", bad)
    with pytest.raises(SignatureError):
        key.verify(b"sampl", signature)


def test_a_thumbprint_is_that_of_rfc_9679():
    """RFC 9679, section 6: the example of a COSE_Key and its SHA-256 thumbprint."""
    key = P256Key(bytes.fromhex(
        "04" "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"
        "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
    ))  # fmt: skip
    assert key.name.hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"


@pytest.mark.parametrize("bad", [b"", bytes(65), b"\x04" + bytes(64), b"\x02" + bytes(32), CARD.public.point + b"\0",
                                 CARD.public.point[:-1] + bytes([CARD.public.point[-1] ^ 1])])  # fmt: skip
def test_what_is_no_point_of_the_curve_is_no_key(bad):
    with pytest.raises(SignatureError):
        P256Key(bad)


def test_a_signing_key_shows_its_name_alone():
    assert repr(CARD) == f"P256SigningKey(name={CARD.name.hex()})"
    CARD.public.verify(b"m", CARD.sign(b"m"))


# --- tokens


def test_a_token_of_an_enrolled_key_is_read():
    consent = token.issue(GIVEN, CARD)
    assert token.read(consent.token, directory()) == token.reread(consent.token) == consent
    assert consent.claims.issuer == CARD.name
    assert consent.token[:6].hex() == "8443a10128a0"


def test_a_malleated_signature_is_the_same_consent():
    """Claim: the identity of a token is what was signed. (r, n - s) verifies too, and makes no second consent."""
    consent = token.issue(GIVEN, CARD)
    r, s = consent.token[-64:-32], int.from_bytes(consent.token[-32:], "big")
    other = consent.token[:-64] + r + (ORDER - s).to_bytes(32, "big")
    again = token.read(other, directory())
    assert other != consent.token
    assert again.digest == consent.digest
    assert again.claims == consent.claims


def test_a_key_that_nobody_enrolled_signs_nothing():
    consent = token.issue(GIVEN, CARD)
    other = signers.At({}, NOW)
    for known in (signers.ED25519_ONLY, other, directory(key=P256SigningKey())):
        with pytest.raises(SignatureError):
            token.read(consent.token, known)


@pytest.mark.parametrize("now", [NOW - DAY - 1, NOW + DAY + 1])
def test_a_certificate_signs_only_while_it_is_valid(now):
    consent = token.issue(GIVEN, CARD)
    token.read(consent.token, directory(NOW - DAY))
    token.read(consent.token, directory(NOW + DAY))
    with pytest.raises(SignatureError, match="expired"):
        token.read(consent.token, directory(now))


def test_the_directory_chooses_the_algorithm_and_the_header_does_not():
    """Claim: the algorithm is the key's. Each of these puts a header over a key of another kind."""
    ed25519_header, es256_header = CONSENT.token[:6], token.issue(GIVEN, CARD).token[:6]
    assert token.read(CONSENT.token, directory()) == CONSENT
    payload = token.encode_claims(GIVEN)
    as_ed25519 = cose.sign1(payload, KEY, token.KIND)
    as_es256 = cose.sign1(token.encode_claims(CLAIMS), CARD, token.KIND)
    for bad in (
        as_ed25519, as_es256, es256_header + CONSENT.token[6:], ed25519_header + token.issue(GIVEN, CARD).token[6:],
        b"\x84\x43\xa1\x01\x26\xa0" + token.issue(GIVEN, CARD).token[6:],
    ):  # fmt: skip
        with pytest.raises(SignatureError):
            token.read(bad, directory())
    with pytest.raises(ConsentError):
        token.issue(GIVEN, KEY)


# --- certificates


def test_a_certificate_accredits_a_key():
    found = certified(CERTIFICATE, [], [ROOT.der], NOW)
    assert (found.key, found.not_before, found.not_after) == (CARD.public, NOW - DAY, NOW + 365 * DAY)
    middle = Authority("middle", ROOT, path=0)
    other = Authority("other")
    leaf = middle.certificate(PRIVATE, usage="content_commitment", ca=None)
    assert certified(leaf, [other.der, middle.der], [other.der, ROOT.der], NOW).key == CARD.public


def _refused() -> dict[str, tuple[bytes, list[bytes], list[bytes], int]]:
    middle, foreign, deep = Authority("middle", ROOT, path=0), Authority("root"), Authority("deep", ROOT, path=0)
    below = Authority("below", deep)
    old = Authority("old", ROOT, begins=NOW - 9 * DAY, ends=NOW - DAY)
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    anchors = [ROOT.der]
    leaf = ROOT.certificate(PRIVATE)
    return {
        "no anchors": (leaf, [], [], NOW),
        "of a foreign authority of the same name": (foreign.certificate(PRIVATE), [], anchors, NOW),
        "a foreign anchor": (leaf, [], [foreign.der], NOW),
        "a chain that brings its own anchor": (foreign.certificate(PRIVATE), [foreign.der], anchors, NOW),
        "expired": (leaf, [], anchors, NOW + 366 * DAY),
        "not valid yet": (leaf, [], anchors, NOW - 2 * DAY),
        "without the one between": (middle.certificate(PRIVATE), [], anchors, NOW),
        "an expired one between": (old.certificate(PRIVATE), [old.der], anchors, NOW),
        "a longer path than allowed": (below.certificate(PRIVATE), [below.der, deep.der], anchors, NOW),
        "signed by a holder": (_below_a_holder(), [ROOT.certificate(PRIVATE)], anchors, NOW),
        "an authority": (middle.der, [], anchors, NOW),
        "a certificate of an authority with a signing key": (ROOT.certificate(PRIVATE, ca=True), [], anchors, NOW),
        "no key usage": (ROOT.certificate(PRIVATE, usage=None), [], anchors, NOW),
        "for key agreement": (ROOT.certificate(PRIVATE, usage="key_agreement"), [], anchors, NOW),
        "P-384": (ROOT.certificate(ec.generate_private_key(ec.SECP384R1())), [], anchors, NOW),
        "RSA": (ROOT.certificate(rsa_key), [], anchors, NOW),
        "Ed25519": (ROOT.certificate(ed25519.Ed25519PrivateKey.generate()), [], anchors, NOW),
        "changed": (leaf[:-1] + bytes([leaf[-1] ^ 1]), [], anchors, NOW),
        "no certificate": (b"certificate", [], anchors, NOW),
        "PEM": (b"-----BEGIN CERTIFICATE-----\n", [], anchors, NOW),
        "no bytes": (None, [], anchors, NOW),
        "too many": (leaf, [ROOT.der] * 9, anchors, NOW),
    }  # fmt: skip


def _below_a_holder() -> bytes:
    holder = Authority("山田花子")
    holder.key = PRIVATE
    return holder.certificate(ec.generate_private_key(ec.SECP256R1()))


REFUSED = _refused()


@pytest.mark.parametrize("name", REFUSED)
def test_certificates_that_accredit_nobody_are_refused(name):
    with pytest.raises(SignatureError):
        certified(*REFUSED[name])


# --- in a city


def sent(city: ds.City, consent: ds.Consent, sequence: int, key: object = CARD) -> bytes:
    body = messages.Contribution(consent.digest, sequence, bytes(32), packed(TRIPS, [{"district": "N", "km": 7}]))
    return messages.sign_contribution(body, key, city.id)


def test_a_holder_of_a_certificate_takes_part(tmp_path, clock):
    with found_city(tmp_path, clock, authorities=[ROOT.der]) as city:
        assert city.enrol_certificate(CERTIFICATE) == CARD.name
        consent = token.issue(claims_for(city, TRIPS, "x", issuer=CARD.name), CARD)
        city.admit(consent, sent(city, consent, 1))
        with pytest.raises(SignatureError):
            city.admit(consent, sent(city, consent, 2, key_of("x")))
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
    with found_city(tmp_path, clock) as city:
        city.admit(consent, sent(city, consent, 2))
        stored = b"".join(city._store.read(signers.STREAM))
        assert "山田花子".encode() not in stored
        assert CERTIFICATE not in stored
        with pytest.raises(SignatureError, match="anchors"):
            city.enrol_certificate(CERTIFICATE)
        body = messages.Revocation(consent.digest, NOW, bytes(32))
        with pytest.raises(SignatureError):
            city.revoke(messages.seal_revocation(messages.sign_revocation(body, key_of("x")), consent, city.id))
        city.revoke(messages.seal_revocation(messages.sign_revocation(body, CARD), consent, city.id))
        with pytest.raises(ConsentError, match="revoked"):
            city.admit(consent, sent(city, consent, 3))


def test_an_expired_certificate_signs_again_once_it_is_renewed(tmp_path, clock):
    with found_city(tmp_path, clock, authorities=[ROOT.der]) as city:
        consent = token.issue(claims_for(city, TRIPS, "x", issuer=CARD.name), CARD)
        with pytest.raises(SignatureError):
            city.admit(consent, sent(city, consent, 1))
        city.enrol_certificate(CERTIFICATE)
        city.admit(consent, sent(city, consent, 1))
        clock.now += 366 * DAY
        with pytest.raises(SignatureError, match="expired"):
            city.admit(consent, sent(city, consent, 2))
        body = messages.Revocation(consent.digest, clock.now, bytes(32))
        ended = messages.seal_revocation(messages.sign_revocation(body, CARD), consent, city.id)
        with pytest.raises(SignatureError, match="not valid"):
            city.enrol_certificate(CERTIFICATE)
        renewed = ROOT.certificate(PRIVATE, begins=clock.now - 1, ends=clock.now + DAY)
        with pytest.raises(SignatureError, match="not valid"):
            city.enrol_certificate(renewed)
    later = Authority("later", begins=clock.now - 1, ends=clock.now + DAY)
    with found_city(tmp_path, clock, authorities=[later.der]) as city:
        city.enrol_certificate(later.certificate(PRIVATE, begins=clock.now - 1, ends=clock.now + DAY))
        city.admit(consent, sent(city, consent, 2))
        clock.now += 2 * DAY
        city.revoke(ended)


def test_a_second_process_reads_what_the_first_enrolled(tmp_path, clock):
    with found_city(tmp_path, clock, authorities=[ROOT.der]) as one, found_city(tmp_path, clock) as two:
        one.enrol_certificate(CERTIFICATE)
        consent = token.issue(claims_for(two, TRIPS, "x", issuer=CARD.name), CARD)
        two.admit(consent, sent(two, consent, 1))


def test_an_entry_of_an_unknown_kind_is_not_read():
    entry = Certified(CARD.public, 1, 2)
    assert signers.unpack(signers.pack(entry)) == entry
    with pytest.raises(StoreError, match="update"):
        signers.unpack(cbor.encode(["es512", CARD.public.point, 1, 2]))
