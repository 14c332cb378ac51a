"""Consent tokens: CWT claims (RFC 8392) in a COSE_Sign1, in one canonical encoding. docs/spec/consent.md.

Registered claims keep their labels (iss 1, aud 3, exp 4, nbf 5, iat 6, cti 7); the others stand below -65536, the range
for private use. A token is its signed bytes; its identity is the hash of what was signed.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from functools import lru_cache
from typing import Any, get_args

from datasov.crypto.sign import SigningKey, check_public
from datasov.errors import ConsentError, InvalidQueryError, VerificationError
from datasov.model.consent import CityId, Claims, Consent, Coverage
from datasov.model.privacy import MAX_NANO, Trust, TrustName
from datasov.wire import cbor, cose, fields

KIND = "datasov consent v1"
MAX_TOKEN = 64 * 1024
"""Bytes in a token."""
MAX_TABLES, MAX_COLUMNS, MAX_PURPOSE, MAX_AUDIENCE = 16, 1024, 128, 256

_ISS, _AUD, _EXP, _NBF, _IAT, _CTI = 1, 3, 4, 5, 6, 7
_COVERAGE, _PURPOSE, _TRUST, _LOSS, _JURISDICTION, _STATUS = -65537, -65538, -65539, -65540, -65541, -65542
_LABELS = (_ISS, _AUD, _EXP, _NBF, _IAT, _CTI, _COVERAGE, _PURPOSE, _TRUST, _LOSS, _JURISDICTION, _STATUS)
_PLACE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


def issue(claims: Claims, key: SigningKey) -> Consent:
    """The consent that `key` signs; the claims' issuer is that key's public half.

    Raises:
        ConsentError: claims that no city may accept: times out of order, no loss, nothing covered, another issuer.
        VerificationError: a claim of a wrong type or size.
        SignatureError: the issuer or the city's key is no point of the group.
    """
    if claims.issuer != key.public:
        raise ConsentError("a consent is signed by its own issuer: take the key of this domain and controller")
    payload = cbor.encode(_claim_map(claims))
    if _claims(payload) != claims:
        raise VerificationError("the claims do not read back as they were written: give values of the declared types")
    token = cose.sign1(payload, key, KIND)
    if len(token) > MAX_TOKEN:
        raise ConsentError("the consent is longer than 64 KiB: cover fewer columns")
    return Consent(token, claims, cose.digest1(token, KIND))


def read(token: bytes) -> Consent:
    """The consent of a token: its form, its issuer's key, its signature and every claim are checked, its dates are not.

    Raises:
        SignatureError: the signature does not verify, the issuer is no key, or the bytes are not canonical.
        VerificationError: a claim is unknown, missing or of a wrong type or size.
        ConsentError: well-formed claims that no city may accept.
    """
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN:
        raise VerificationError("not a consent, or longer than 64 KiB: ask its holder for it again")
    claims = _claims(cose.peek1(token))
    check_public(claims.issuer)
    cose.open1(token, claims.issuer, KIND)
    return Consent(token, claims, cose.digest1(token, KIND))


def reread(token: bytes) -> Consent:
    """The consent of a token that :func:`read` accepted before it was stored: all is checked but the signature."""
    return Consent(token, _claims(cose.peek1(token)), cose.digest1(token, KIND))


def _claim_map(claims: Claims) -> dict[int, Any]:
    return {
        _ISS: _issuer_text(claims.issuer), _AUD: claims.audience,
        _EXP: claims.expires, _NBF: claims.not_before, _IAT: claims.issued, _CTI: claims.token_id,
        _COVERAGE: [[c.table, c.schema_digest, list(c.columns)] for c in claims.coverage],
        _PURPOSE: claims.purpose, _TRUST: claims.trust.name, _LOSS: fields.loss_map(claims.loss),
        _JURISDICTION: claims.jurisdiction, _STATUS: claims.status,
    }  # fmt: skip


def _claims(payload: bytes) -> Claims:
    found = fields.labelled(cbor.decode(payload), _LABELS)
    loss = found[_LOSS]
    if isinstance(loss, dict) and type(loss.get(2)) is int and not 1 <= loss[2] <= MAX_NANO:
        raise ConsentError("a consent names a loss above zero and of at most rho = 1e6: grant it with another loss")
    claims = Claims(
        issuer=_issuer(found[_ISS]), audience=_audience(found[_AUD]), token_id=fields.octets(found[_CTI], 16),
        issued=fields.integer(found[_IAT], 0, fields.MAX_TIME),
        not_before=fields.integer(found[_NBF], 0, fields.MAX_TIME),
        expires=fields.integer(found[_EXP], 0, fields.MAX_TIME),
        coverage=_coverage(found[_COVERAGE]), purpose=_purpose(found[_PURPOSE]), trust=_trust(found[_TRUST]),
        loss=fields.read_loss(loss), jurisdiction=fields.text(found[_JURISDICTION], 6),
        status=fields.integer(found[_STATUS], 0, 2**32 - 1),
    )  # fmt: skip
    if not claims.issued <= claims.not_before < claims.expires:
        raise ConsentError("a consent's times are out of order: issued, then valid from, then expires")
    if not _PLACE.fullmatch(claims.jurisdiction):
        raise ConsentError("a jurisdiction is an ISO 3166 code: write it like 'JP' or 'JP-10'")
    return claims


def _issuer_text(public: bytes) -> str:
    return base64.urlsafe_b64encode(public).rstrip(b"=").decode()


def _issuer(value: object) -> bytes:
    text = fields.text(value, 43)
    try:
        public = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise VerificationError("the issuer is not a key: ask the holder for the consent again") from None
    if len(public) != 32 or _issuer_text(public) != text:
        raise VerificationError("the issuer is not a key: ask the holder for the consent again")
    return public


@lru_cache(maxsize=64)
def _city(text: str) -> CityId:
    """A city's id, its text canonical and its signing key a point: one city reads many tokens."""
    try:
        city = CityId.parse(text)
    except InvalidQueryError:
        raise ConsentError("the consent names no city: grant it to the id that `print(city.id)` shows") from None
    if str(city) != text or not city.name:
        raise ConsentError("the consent names no city: grant it to the id that `print(city.id)` shows")
    check_public(city.verify_key)
    return city


def _audience(value: object) -> str:
    text = fields.text(value, MAX_AUDIENCE)
    _city(text)
    return text


def _purpose(value: object) -> str:
    text = fields.text(value, MAX_PURPOSE)
    if text != text.strip() or unicodedata.normalize("NFC", text) != text:
        raise ConsentError("a purpose is a short text in Unicode's NFC form, without spaces around it: write it so")
    return text


def _trust(value: object) -> Trust:
    text = fields.text(value, 32)
    for name in get_args(TrustName):
        if text == name:
            return Trust(name)
    raise ConsentError("a trust model that this version does not know: grant the consent under another")


def _coverage(value: object) -> tuple[Coverage, ...]:
    if value == []:
        raise ConsentError("a consent covers at least one table: name it")
    covered = []
    for item in fields.items(value, 1, MAX_TABLES):
        parts = fields.items(item, 3, 3)
        if parts[2] == []:
            raise ConsentError("a consent covers at least one column of each table: name them")
        columns = fields.distinct([fields.name(c) for c in fields.items(parts[2], 1, MAX_COLUMNS)])
        covered.append(Coverage(fields.name(parts[0]), fields.octets(parts[1], 32), columns))
    fields.distinct([c.table for c in covered])
    return tuple(covered)
