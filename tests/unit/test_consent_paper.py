"""A consent on paper: Base45 by the RFC's examples, the checksum, and what does not fit a QR code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasov.authority import delegation, qr, token
from datasov.authority.qr import consent_from_text, consent_to_text, qr_version
from datasov.errors import ConsentError, SignatureError, VerificationError
from datasov.model.consent import Consent, Coverage
from datasov.wire import base45
from tests.delegations import claims_under, link, secret, signed
from tests.helpers import NOW
from tests.unit.test_token import CLAIMS, CONSENT, KEY

TEXT = consent_to_text(CONSENT)
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


@pytest.mark.parametrize(
    ("plain", "encoded"), [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"),
                           (b"ietf!", "QED8WEX0"), (b"", ""), (b"\xff\xff", "FGW"), (b"\xff", "U5")],
)  # fmt: skip
def test_base45_is_that_of_rfc_9285(plain, encoded):
    """RFC 9285, sections 4.3 and 4.4; FGW is the greatest group of three (section 6)."""
    assert base45.encode(plain) == encoded
    assert base45.decode(encoded) == plain


@pytest.mark.parametrize("bad", ["GGW", ":::", "V5", "::", "A", "AAAA", "bb8", "BB8\n", "B8é", "A,A", "ABC DEF"])
def test_what_is_no_base45_is_refused(bad):
    """GGW is 65536, RFC 9285's example of what a decoder must refuse."""
    with pytest.raises(VerificationError):
        base45.decode(bad)


@given(st.binary(max_size=200))
def test_all_bytes_come_back(data):
    text = base45.encode(data)
    assert set(text) <= set(ALPHANUMERIC)
    assert base45.decode(text) == data


@given(st.text(ALPHANUMERIC, max_size=12))
def test_no_two_texts_are_of_the_same_bytes(text):
    try:
        data = base45.decode(text)
    except VerificationError:
        return
    assert base45.encode(data) == text


def test_a_consent_comes_back_from_its_text():
    assert consent_from_text(TEXT) == CONSENT
    assert set(TEXT) <= set(ALPHANUMERIC)
    assert TEXT.startswith("DSC1:")
    assert qr_version(TEXT) <= 20


@given(st.data())
def test_a_misread_character_is_noticed_as_one(data):
    at = data.draw(st.integers(len("DSC1:"), len(TEXT) - 1))
    other = TEXT[:at] + data.draw(st.sampled_from(ALPHANUMERIC.replace(TEXT[at], ""))) + TEXT[at + 1 :]
    with pytest.raises(VerificationError, match=r"misread|Base45"):
        consent_from_text(other)


@pytest.mark.parametrize(
    "bad", ["", "DSC1:", TEXT[5:], TEXT.lower(), "DSC2:" + TEXT[5:], TEXT[:-1], TEXT[:-3], TEXT + "0", " " + TEXT, None,
            b"DSC1:", TEXT + "0" * 4000],
)  # fmt: skip
def test_what_is_no_text_of_a_consent_is_refused(bad):
    with pytest.raises(VerificationError):
        consent_from_text(bad)


def test_a_token_that_was_forged_before_it_was_printed_is_refused():
    forged = CONSENT.token[:-1] + bytes([CONSENT.token[-1] ^ 1])
    with pytest.raises(SignatureError):
        consent_from_text(consent_to_text(replace(CONSENT, token=forged)))


def test_what_one_qr_code_does_not_hold_is_refused():
    def of(length: int) -> str:
        return consent_to_text(replace(CONSENT, token=bytes(length)))

    fits = (qr.MOST - len("DSC1:")) // 3 * 2 - 4
    assert len(of(fits)) == 3389
    assert qr_version(of(fits)) == 40
    assert len(of(fits + 1)) == 3391
    with pytest.raises(ConsentError, match="QR"):
        of(fits + 2)
    with pytest.raises(ConsentError, match="QR"):
        qr_version("0" * (qr.MOST + 1))
    wide = tuple(Coverage(f"table_{i}", bytes(32), tuple(f"column_{j}" for j in range(20))) for i in range(10))
    with pytest.raises(ConsentError, match="QR"):
        consent_to_text(token.issue(replace(CLAIMS, coverage=wide), KEY))


def delegated(length: int) -> Consent:
    links = [link(depth=length - 1)]
    while len(links) < length:
        links.append(link(links[-1]))
    chain = signed(links)
    claims = claims_under(links[-1], parent=delegation.read(chain[-1]).digest)
    return replace(token.issue(claims, secret(links[-1].delegate)), chain=chain)


def test_a_delegated_consent_brings_its_chain():
    consent = delegated(1)
    text = consent_to_text(consent)
    assert qr_version(text) <= 40
    found = consent_from_text(text)
    assert found == consent
    assert found.chain == consent.chain
    delegation.verify_chain(found.chain, found, NOW)
    with pytest.raises(ConsentError):
        delegation.verify_chain((), found, NOW)


def test_a_chain_that_no_code_holds_is_refused():
    with pytest.raises(ConsentError, match="QR"):
        consent_to_text(delegated(4))


def test_versions_of_a_qr_code():
    assert [qr_version("0" * n) for n in (1, 20, 21, 38, 39, 3220, 3221, 3391)] == [1, 1, 2, 2, 3, 39, 40, 40]
    assert list(qr._CAPACITY) == sorted(set(qr._CAPACITY))
    assert len(qr._CAPACITY) == 40
