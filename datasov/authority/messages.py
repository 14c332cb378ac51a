"""What is signed beside a consent: contributions by the account's key, revocations by who may end it.

docs/spec/consent.md. Who signed a consent for somebody else may revoke it; rows come from the account's own vault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasov.authority import delegation, token
from datasov.authority.signers import ED25519_ONLY, Directory
from datasov.crypto.es256 import P256SigningKey
from datasov.crypto.kdf import sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, InvalidDataError, SignatureError, VerificationError
from datasov.model.consent import CityId, Consent
from datasov.model.delegation import Delegated
from datasov.wire import cbor, cose, fields

CONTRIBUTION, REVOCATION = "datasov contribution v1", "datasov revocation v1"
DELEGATION_REVOCATION = "datasov delegation revocation v1"
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes in a sealed contribution."""
MAX_REVOCATION = 1024
"""Bytes in a signed revocation."""
MAX_NOTICE = 2 * token.MAX_TOKEN
"""Bytes in a sealed revocation with its consent or delegation."""
_SALTED = b"datasov salted v1"
_VERSION = 1
_MAX_SEQUENCE = 2**63 - 1
_MAX_PROFILES = 15


@dataclass(frozen=True, slots=True)
class Contribution:
    """The rows that a resident sends under one consent.

    Attributes:
        consent_digest: identity of the consent, 32 bytes.
        sequence: above zero, and above that of every earlier contribution under the consent.
        commitment: the salted hash that enters the log's padded batch, 32 bytes.
        rows: the base table as `authority.admission.pack_table` packs it.
        profiles: name and packed table, for each attribute table.
        erasure: the salted hash that enters the log once these rows are erased, 32 bytes; empty: none is asked for.
    """

    consent_digest: bytes
    sequence: int
    commitment: bytes
    rows: bytes
    profiles: tuple[tuple[str, bytes], ...] = ()
    erasure: bytes = b""


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a consent or a delegation: its identity (32 bytes), Unix seconds, the salted hash for the log (32)."""

    consent_digest: bytes
    time: int
    commitment: bytes


def salted(salt: bytes, record: bytes) -> bytes:
    """SHA-256("datasov salted v1" || salt || record): 32 bytes. Who has lost the 32-byte salt cannot link it.

    Raises:
        VerificationError: the salt is not 32 bytes.
    """
    return sha256(_SALTED, fields.octets(salt, 32), record)


def admission_record(consent_digest: bytes, number: int) -> bytes:
    """The record whose salted hash enters the log when the contribution of this number, from 1, is admitted."""
    return cbor.encode(["admission", consent_digest, number])


def erasure_record(consent_digest: bytes, number: int) -> bytes:
    """The record whose salted hash enters the log when the rows of the contribution of this number are erased."""
    return cbor.encode(["erasure", consent_digest, number])


def revocation_record(consent_digest: bytes, time: int) -> bytes:
    """The record whose salted hash enters the log when a consent is revoked."""
    return cbor.encode(["revocation", consent_digest, time])


def sign_contribution(contribution: Contribution, key: SigningKey | P256SigningKey, seal_to: CityId) -> bytes:
    """The contribution signed by the account's key and sealed to the city: what travels.

    Raises:
        InvalidDataError: more than 64 MiB.
        VerificationError: a field of a wrong type or size.
    """
    payload = cbor.encode(
        {
            1: contribution.consent_digest, 2: contribution.sequence, 3: contribution.commitment,
            4: contribution.rows, 5: [[name, data] for name, data in contribution.profiles],
            **({6: contribution.erasure} if contribution.erasure else {}),
        }
    )  # fmt: skip
    if _read_contribution(payload) != contribution:
        raise VerificationError("the contribution does not read back as it was written: give the declared types")
    signed = cose.sign1(payload, key, CONTRIBUTION)
    sealed = seal(seal_to.seal_key, signed, _info(seal_to, contribution.consent_digest))
    data = cbor.encode({1: _VERSION, 2: contribution.consent_digest, 3: sealed})
    if len(data) > MAX_MESSAGE:
        raise InvalidDataError("a contribution holds at most 64 MiB: send the rows in several")
    return data


def envelope_digest(data: bytes) -> bytes:
    """The identity of the consent that an envelope names, before anything is opened or verified (32 bytes).

    Raises:
        VerificationError: not an envelope, or larger than 64 MiB.
    """
    return _envelope(data)[0]


def open_contribution(
    data: bytes, opening_key: OpeningKey, city: CityId, consent: Consent, directory: Directory = ED25519_ONLY
) -> Contribution:
    """The contribution of an envelope, opened and verified under the consent, which :func:`token.read` has verified.

    The sequence is not compared with earlier ones here: that is for whoever keeps them.

    Raises:
        ConsentError: the consent is for another city, another consent is meant, or a table is not covered.
        DecryptionError: not sealed to this city for this consent.
        SignatureError: not signed by the account's key as a contribution; a delegate's does not do.
        VerificationError: the bytes are not of this format.
    """
    named, sealed = _envelope(data)
    if consent.claims.audience != str(city):
        raise ConsentError("the consent is for another city: send the contribution there")
    if named != consent.digest:
        raise ConsentError("the contribution is for another consent: send it with its own")
    signed = opening_key.open(sealed, _info(city, named))
    contribution = _read_contribution(cose.open1(signed, directory.key(consent.claims.account), CONTRIBUTION))
    if contribution.consent_digest != consent.digest:
        raise ConsentError("the contribution is for another consent: send it with its own")
    covered = {c.table for c in consent.claims.coverage[1:]}
    if not {name for name, _ in contribution.profiles} <= covered:
        raise ConsentError("the contribution holds a table that the consent does not cover: grant it first")
    return contribution


def sign_revocation(revocation: Revocation, key: SigningKey | P256SigningKey, kind: str = REVOCATION) -> bytes:
    """The revocation signed by a key that may end it; VerificationError where a field is of a wrong type or size.

    Args:
        kind: REVOCATION of a consent, DELEGATION_REVOCATION of a delegation.
    """
    payload = cbor.encode({1: revocation.consent_digest, 2: revocation.time, 3: revocation.commitment})
    if _read_revocation(payload) != revocation:
        raise VerificationError("the revocation does not read back as it was written: give the declared types")
    return cose.sign1(payload, key, kind)


def read_revocation(data: bytes, ended: Consent | Delegated, directory: Directory = ED25519_ONLY) -> Revocation:
    """The revocation of a consent or a delegation, verified: by who signed that one, or by whose account it is.

    Raises:
        SignatureError: not signed by either of them as a revocation of this kind.
        ConsentError: it revokes another one.
        VerificationError: the bytes are not of this format.
    """
    _check_size(data, MAX_REVOCATION)
    if isinstance(ended, Consent):
        names, kind = (ended.claims.issuer, ended.claims.account), REVOCATION
    else:
        names, kind = (ended.claims.delegator, ended.claims.subject), DELEGATION_REVOCATION
    revocation = _read_revocation(_signed_by(data, names, kind, directory))
    if revocation.consent_digest != ended.digest:
        raise ConsentError("the revocation is of another consent or delegation: send it with its own")
    return revocation


def _signed_by(data: bytes, names: tuple[bytes, bytes], kind: str, directory: Directory) -> bytes:
    one, other = map(directory.key, names)
    try:
        return cose.open1(data, one, kind)
    except SignatureError:
        return cose.open1(data, other, kind)


def seal_revocation(signed: bytes, ended: Consent | Delegated, city: CityId) -> bytes:
    """A signed revocation with the consent or the delegation that it ends, sealed to the city: what travels."""
    label = 2 if isinstance(ended, Consent) else 4
    notice = cbor.encode({1: _VERSION, label: ended.token, 3: signed})
    return seal(city.seal_key, notice, _revocation_info(city))


def open_revocation(
    data: bytes, opening_key: OpeningKey, city: CityId, directory: Directory = ED25519_ONLY
) -> tuple[Consent | Delegated, Revocation]:
    """The consent or the delegation, its own signature verified, and its revocation, by who may end it.

    The chain above is not looked at: who signed a thing may end it, whether or not it was ever worth anything.

    Raises:
        ConsentError: what ends is for another city, or the revocation is of another one.
        DecryptionError: not sealed to this city. SignatureError: not signed as it must be.
        VerificationError: the bytes are not of this format.
    """
    _check_size(data, MAX_NOTICE)
    found = fields.labelled(cbor.decode(opening_key.open(data, _revocation_info(city))), (1, 3), (2, 4))
    fields.integer(found[1], _VERSION, _VERSION)
    if len(found) != 3:
        raise VerificationError("a revocation ends one consent or one delegation: send one for each")
    ended: Consent | Delegated
    if 2 in found:
        ended = token.read(fields.blob(found[2], token.MAX_TOKEN), directory)
    else:
        ended = delegation.read(fields.blob(found[4], delegation.MAX_TOKEN))
    if ended.claims.audience != str(city):
        raise ConsentError("what is revoked is for another city: send the revocation there")
    return ended, read_revocation(fields.blob(found[3], MAX_REVOCATION), ended, directory)


def _revocation_info(city: CityId) -> bytes:
    return REVOCATION.encode() + sha256(str(city).encode())


def _info(city: CityId, consent_digest: bytes) -> bytes:
    return CONTRIBUTION.encode() + sha256(str(city).encode()) + consent_digest


def _check_size(data: bytes, most: int) -> None:
    if not isinstance(data, bytes) or len(data) > most:
        raise VerificationError("not a message, or longer than this kind may be: ask its sender for it again")


def _envelope(data: bytes) -> tuple[bytes, bytes]:
    _check_size(data, MAX_MESSAGE)
    found = fields.labelled(cbor.decode(data), (1, 2, 3))
    fields.integer(found[1], _VERSION, _VERSION)
    return fields.octets(found[2], 32), fields.blob(found[3], MAX_MESSAGE)


def _read_contribution(payload: bytes) -> Contribution:
    found = fields.labelled(cbor.decode(payload), range(1, 6), (6,))
    profiles = tuple(_profile(item) for item in fields.items(found[5], 0, _MAX_PROFILES))
    fields.distinct([name for name, _ in profiles])
    return Contribution(
        fields.octets(found[1], 32), fields.integer(found[2], 1, _MAX_SEQUENCE), fields.octets(found[3], 32),
        fields.blob(found[4], MAX_MESSAGE), profiles, fields.octets(found[6], 32) if 6 in found else b"",
    )  # fmt: skip


def _profile(value: object) -> tuple[str, bytes]:
    parts: Sequence[Any] = fields.items(value, 2, 2)
    return fields.name(parts[0]), fields.blob(parts[1], MAX_MESSAGE)


def _read_revocation(payload: bytes) -> Revocation:
    found = fields.labelled(cbor.decode(payload), (1, 2, 3))
    return Revocation(
        fields.octets(found[1], 32), fields.integer(found[2], 0, fields.MAX_TIME), fields.octets(found[3], 32)
    )
