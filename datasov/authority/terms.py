"""The terms of a consent: what residents who agree to the same thing sign in the same words. docs/spec/consent.md.

They stand in a token as one byte string, so that a city reads them once and then knows them by their bytes.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from datasov.crypto.sign import check_public
from datasov.errors import ConsentError, InvalidQueryError, VerificationError
from datasov.model.consent import PLACE, CityId, Claims, Coverage
from datasov.model.privacy import MAX_NANO, Loss, Trust
from datasov.wire import cbor, fields

MAX_TABLES, MAX_COLUMNS, MAX_PURPOSE, MAX_AUDIENCE, MAX_SPECIAL = 16, 1024, 128, 256, 1024
_KNOWN = 128
"""So many different terms are remembered; each is at most as long as a token."""

AUDIENCE, COVERAGE, PURPOSE, TRUST, LOSS, JURISDICTION, PROCESSING, SPECIAL, RECORD = range(1, 10)
REQUIRED = (AUDIENCE, COVERAGE, PURPOSE, TRUST, LOSS, JURISDICTION)
OPTIONAL = (PROCESSING, SPECIAL, RECORD)


@dataclass(frozen=True, slots=True)
class Terms:
    """The part of :class:`datasov.model.consent.Claims` that many residents share; fields as there."""

    audience: str
    coverage: tuple[Coverage, ...]
    purpose: str
    trust: Trust
    loss: Loss
    jurisdiction: str
    processing: str
    special: tuple[str, ...]
    record: bytes


def encode(claims: Claims) -> bytes:
    """The terms of these claims in their one encoding; VerificationError where a claim is of a wrong type."""
    found: dict[int, Any] = {
        AUDIENCE: claims.audience, COVERAGE: [[c.table, c.schema_digest, list(c.columns)] for c in claims.coverage],
        PURPOSE: claims.purpose, TRUST: claims.trust.text, LOSS: fields.loss_map(claims.loss),
        JURISDICTION: claims.jurisdiction,
    }  # fmt: skip
    if claims.processing != "":
        found[PROCESSING] = claims.processing
    if claims.special != ():
        found[SPECIAL] = list(claims.special)
    if claims.record != b"":
        found[RECORD] = claims.record
    return cbor.encode(found)


@lru_cache(maxsize=_KNOWN)
def decode(data: bytes) -> Terms:
    """The terms of an encoding, every field checked.

    Raises:
        SignatureError: the bytes are not canonical.
        VerificationError: a field is unknown, missing or of a wrong type or size.
        ConsentError: well-formed terms that no city may accept.
    """
    found = fields.labelled(cbor.decode(data), REQUIRED, OPTIONAL)
    covered = _coverage(found[COVERAGE])
    return Terms(
        audience=audience(found[AUDIENCE]), coverage=covered, purpose=_purpose(found[PURPOSE]),
        trust=_trust(found[TRUST]), loss=_loss(found[LOSS]), jurisdiction=_place(found[JURISDICTION]),
        processing=_place(found[PROCESSING]) if PROCESSING in found else "",
        special=_special(found[SPECIAL], covered) if SPECIAL in found else (),
        record=fields.octets(found[RECORD], 32) if RECORD in found else b"",
    )  # fmt: skip


@lru_cache(maxsize=64)
def _city(text: str) -> CityId:
    """A city's id, its text canonical and its signing key a point."""
    try:
        city = CityId.parse(text)
    except InvalidQueryError:
        raise ConsentError("it names no city: give the id that `print(city.id)` shows") from None
    if str(city) != text or not city.name:
        raise ConsentError("it names no city: give the id that `print(city.id)` shows")
    check_public(city.verify_key)
    return city


def audience(value: object) -> str:
    """The canonical text of a city's id; VerificationError, SignatureError or ConsentError otherwise."""
    text = fields.text(value, MAX_AUDIENCE)
    _city(text)
    return text


def _purpose(value: object) -> str:
    text = fields.text(value, MAX_PURPOSE)
    if text != text.strip() or unicodedata.normalize("NFC", text) != text:
        raise ConsentError("a purpose is a short text in Unicode's NFC form, without spaces around it: write it so")
    return text


def _trust(value: object) -> Trust:
    try:
        return Trust.parse(fields.text(value, 64))
    except InvalidQueryError as why:
        raise ConsentError(str(why)) from None


def _loss(value: object) -> Loss:
    if isinstance(value, dict) and type(value.get(2)) is int and not 1 <= value[2] <= MAX_NANO:
        raise ConsentError("a consent names a loss above zero and of at most rho = 1e6: grant it with another loss")
    return fields.read_loss(value)


def _place(value: object) -> str:
    text = fields.text(value, 6)
    if not PLACE.fullmatch(text):
        raise ConsentError("a jurisdiction or place of processing is an ISO 3166 code: write it like 'JP' or 'JP-10'")
    return text


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


def _special(value: object, covered: tuple[Coverage, ...]) -> tuple[str, ...]:
    names = [fields.text(item, 129) for item in fields.items(value, 1, MAX_SPECIAL)]
    if any(not one < other for one, other in pairwise(names)):
        raise VerificationError("special columns ascend and none stands twice: these bytes are not of this format")
    if not set(names) <= {f"{c.table}.{column}" for c in covered for column in c.columns}:
        raise ConsentError("a special column that the consent does not cover: grant it anew")
    return tuple(names)
