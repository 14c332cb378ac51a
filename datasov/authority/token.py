"""Consent tokens: CWT claims (RFC 8392) in a COSE_Sign1, in one canonical encoding. docs/spec/consent.md.

Registered claims keep their labels (iss 1, exp 4, nbf 5, iat 6, cti 7); the others stand below -65536, the range for
private use, and what many residents share is one of them: the terms. A token is its signed bytes; its identity is the
hash of what was signed.
"""

from __future__ import annotations

import binascii
from struct import Struct
from typing import Any, NamedTuple

from datasov.authority import terms
from datasov.authority.signers import ED25519_ONLY, Directory
from datasov.crypto.es256 import P256SigningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, VerificationError
from datasov.model.consent import Claims, Consent
from datasov.wire import cbor, cose, fields

KIND = "datasov consent v1"
MAX_TOKEN = 64 * 1024
"""Bytes in a token."""

_ISS, _EXP, _NBF, _IAT, _CTI = 1, 4, 5, 6, 7
_STATUS, _SUBJECT, _PARENT, _TERMS = -65537, -65538, -65539, -65540
_REQUIRED, _OPTIONAL = (_ISS, _EXP, _NBF, _IAT, _CTI, _STATUS, _TERMS), (_SUBJECT, _PARENT)

_USUAL = Struct(">4s43s2sI2sI2sI2s16s6sI5s")
"""The claims of a resident who speaks for themselves, in an encoding whose times and status take four bytes each."""
_USUAL_HEADS = (
    b"\xa7\x01\x78\x2b", b"\x04\x1a", b"\x05\x1a", b"\x06\x1a", b"\x07\x50", b"\x3a\x00\x01\x00\x00\x1a",
    b"\x3a\x00\x01\x00\x03",
)  # fmt: skip
_FOUR_BYTES = 2**16
"""The least integer that takes four bytes."""


class _Personal(NamedTuple):
    """The claims of one resident, and the bytes of their terms."""

    issuer: bytes
    expires: int
    not_before: int
    issued: int
    token_id: bytes
    status: int
    terms: bytes
    subject: bytes = b""
    parent: bytes = b""


def issue(claims: Claims, key: SigningKey | P256SigningKey) -> Consent:
    """The consent that `key` signs; the claims' issuer is that key's name: its public half, or its thumbprint.

    Raises:
        ConsentError: claims that no city may accept: times out of order, no loss, nothing covered, another issuer.
        VerificationError: a claim of a wrong type or size.
        SignatureError: the issuer or the city's key is no point of the group.
    """
    if claims.issuer != key.name:
        raise ConsentError("a consent is signed by its own issuer: take the key of this domain and controller")
    payload = encode_claims(claims)
    if _claims(payload) != claims:
        raise VerificationError("the claims do not read back as they were written: give values of the declared types")
    token = cose.sign1(payload, key, KIND)
    if len(token) > MAX_TOKEN:
        raise ConsentError("the consent is longer than 64 KiB: cover fewer columns")
    return Consent(token, claims, cose.digest1(token, KIND))


def read(token: bytes, directory: Directory = ED25519_ONLY) -> Consent:
    """The consent of a token: its form, its issuer's key, its signature and every claim are checked, its dates are not.

    Args:
        directory: the keys of issuers; Ed25519 keys alone where none is given.

    Raises:
        SignatureError: the signature does not verify, the issuer is no key, or the bytes are not canonical.
        VerificationError: a claim is unknown, missing or of a wrong type or size.
        ConsentError: well-formed claims that no city may accept.
    """
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN:
        raise VerificationError("not a consent, or longer than 64 KiB: ask its holder for it again")
    parts = cose.parts1(token, KIND)
    claims = _claims(parts.payload)
    key = directory.key(claims.issuer)
    if claims.subject:
        directory.key(claims.subject)
    parts.verify(key)
    return Consent(token, claims, parts.digest)


def reread(token: bytes) -> Consent:
    """The consent of a token that :func:`read` accepted before it was stored: all is checked but the signature."""
    parts = cose.parts1(token, KIND)
    return Consent(token, _claims(parts.payload), parts.digest)


def encode_claims(claims: Claims) -> bytes:
    """The payload of a token with these claims, which are not checked."""
    found: dict[int, Any] = {
        _ISS: _issuer_text(claims.issuer), _EXP: claims.expires, _NBF: claims.not_before, _IAT: claims.issued,
        _CTI: claims.token_id, _STATUS: claims.status, _TERMS: terms.encode(claims),
    }  # fmt: skip
    if claims.subject != b"":
        found[_SUBJECT] = claims.subject
    if claims.parent != b"":
        found[_PARENT] = claims.parent
    return cbor.encode(found)


def _claims(payload: bytes) -> Claims:
    """The claims of a payload, every one checked."""
    own = _usual(payload) or _any(payload)
    shared = terms.decode(own.terms)
    if not own.issued <= own.not_before < own.expires:
        raise ConsentError("a consent's times are out of order: issued, then valid from, then expires")
    if bool(own.subject) != bool(own.parent) or own.subject == own.issuer:
        raise ConsentError("who signs for another names them and the delegation, and nobody else does: grant it anew")
    return Claims(
        issuer=own.issuer, audience=shared.audience, token_id=own.token_id, issued=own.issued,
        not_before=own.not_before, expires=own.expires, coverage=shared.coverage, purpose=shared.purpose,
        trust=shared.trust, loss=shared.loss, jurisdiction=shared.jurisdiction, status=own.status,
        processing=shared.processing, special=shared.special, record=shared.record, subject=own.subject,
        parent=own.parent,
    )  # fmt: skip


def _any(payload: bytes) -> _Personal:
    """The personal claims of a payload of any form that is canonical."""
    found = fields.labelled(cbor.decode(payload), _REQUIRED, _OPTIONAL)
    return _Personal(
        issuer=_issuer(found[_ISS]), expires=fields.integer(found[_EXP], 0, fields.MAX_TIME),
        not_before=fields.integer(found[_NBF], 0, fields.MAX_TIME),
        issued=fields.integer(found[_IAT], 0, fields.MAX_TIME), token_id=fields.octets(found[_CTI], 16),
        status=fields.integer(found[_STATUS], 0, 2**32 - 1), terms=fields.blob(found[_TERMS], MAX_TOKEN),
        subject=fields.octets(found[_SUBJECT], 32) if _SUBJECT in found else b"",
        parent=fields.octets(found[_PARENT], 32) if _PARENT in found else b"",
    )  # fmt: skip


def _usual(payload: bytes) -> _Personal | None:
    """The same for the usual form, by comparing its constant bytes; None where :func:`_any` has to look.

    Labels, lengths and their order are constant there, an integer of four bytes is the shortest from 2^16 on, and the
    head of the terms is checked: so whatever is read here is canonical, and :func:`_any` would read it alike.
    """
    if len(payload) <= _USUAL.size:
        return None
    a, iss, b, expires, c, not_before, d, issued, e, token_id, f, status, g = _USUAL.unpack_from(payload)
    if (a, b, c, d, e, f, g) != _USUAL_HEADS or min(expires, not_before, issued, status) < _FOUR_BYTES:
        return None
    start = cbor.start_of_blob(payload, _USUAL.size, len(payload))
    if start < 0:
        return None
    try:
        issuer = binascii.a2b_base64(iss.translate(_FROM_URL) + b"=", strict_mode=True)
    except ValueError:
        return None
    if binascii.b2a_base64(issuer, newline=False).translate(_TO_URL) != iss + b"=":
        return None
    return _Personal(issuer, expires, not_before, issued, token_id, status, payload[start:])


def _issuer_text(public: bytes) -> str:
    return binascii.b2a_base64(public, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def _issuer(value: object) -> bytes:
    text = fields.text(value, 43)
    try:
        public = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=", strict_mode=True)
    except ValueError:
        raise VerificationError("the issuer is not a key: ask the holder for the consent again") from None
    if len(public) != 32 or _issuer_text(public) != text:
        raise VerificationError("the issuer is not a key: ask the holder for the consent again")
    return public


_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
