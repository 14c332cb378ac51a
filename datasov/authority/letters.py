"""Letters: what a resident sends to a city over a network, sealed whole and padded, so that one looks like another.

A contribution with its consent, or a revocation: whoever carries a letter sees its padded size alone.
docs/gateway-public.md
"""

from __future__ import annotations

from dataclasses import dataclass

from datasov.authority import delegation, messages
from datasov.crypto.kdf import sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.errors import InvalidDataError, VerificationError
from datasov.model.consent import CityId, Consent
from datasov.wire import cbor, fields

LEAST, MAX_LETTER = 16 * 1024, 8 * 1024 * 1024
"""Bytes of a letter, at least and at most, without what sealing adds."""
OVERHEAD = 32 + 16
"""Bytes that sealing adds: an encapsulated key and a tag."""
_KIND, _VERSION, _LENGTH = b"datasov letter v1", 1, 8


@dataclass(frozen=True, slots=True)
class Admitting:
    """A consent, as `delegation.bundle` gives it, and a contribution under it, as it travels."""

    consent: bytes
    contribution: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """A revocation, sealed, as it travels."""

    revocation: bytes


def padded_size(size: int) -> int:
    """The least size of a letter that holds so many bytes: at least 16 KiB, then with few significant bits.

    Padmé (Nikitin, Barman, Lueks, Underwood, Hubaux and Ford 2019, "Reducing Metadata Leakage from Encrypted Files"):
    at most 12% more, and a size tells O(log log) bits of the length.
    """
    if size <= LEAST:
        return LEAST
    exponent = size.bit_length() - 1
    spare = exponent - exponent.bit_length()
    return -(-size >> spare) << spare


def seal_admission(consent: Consent | bytes, contribution: bytes, city: CityId) -> bytes:
    """A letter with a consent and a contribution under it.

    Args:
        consent: or its bytes, as `delegation.bundle` gives them.
        contribution: as `Resident.contribute` gives it.

    Raises:
        InvalidDataError: more than a letter holds.
    """
    bundle = consent if isinstance(consent, bytes) else delegation.bundle(consent)
    return _seal({1: _VERSION, 2: bundle, 3: contribution}, city)


def seal_ending(revocation: bytes, city: CityId) -> bytes:
    """A letter with a revocation, as `Resident.revoke` gives it."""
    return _seal({1: _VERSION, 4: revocation}, city)


def open_letter(letter: bytes, key: OpeningKey, city: CityId) -> Admitting | Ending:
    """What a letter holds; nothing in it is verified.

    Raises:
        DecryptionError: not sealed to this city. VerificationError: the bytes are not of this format.
    """
    data = key.open(letter, _info(city))
    length = int.from_bytes(data[:_LENGTH], "big")
    body, rest = data[_LENGTH : _LENGTH + length], data[_LENGTH + length :]
    if len(data) != padded_size(_LENGTH + length) or any(rest):
        raise VerificationError("a letter that is not padded as it must be: seal it again")
    found = fields.labelled(cbor.decode(body), (1,), (2, 3, 4))
    fields.integer(found[1], _VERSION, _VERSION)
    if found.keys() == {1, 2, 3}:
        return Admitting(fields.blob(found[2], delegation.MAX_BUNDLE), fields.blob(found[3], MAX_LETTER))
    if found.keys() == {1, 4}:
        return Ending(fields.blob(found[4], messages.MAX_NOTICE))
    raise VerificationError("a letter holds a consent with a contribution, or a revocation: seal it again")


def _seal(found: dict[int, object], city: CityId) -> bytes:
    body = cbor.encode(found)
    size = padded_size(_LENGTH + len(body))
    if size > MAX_LETTER:
        raise InvalidDataError("a letter holds at most 8 MiB: cover fewer columns, or bring the rows in a file")
    data = len(body).to_bytes(_LENGTH, "big") + body
    return seal(city.seal_key, data + bytes(size - len(data)), _info(city))


def _info(city: CityId) -> bytes:
    return _KIND + sha256(str(city).encode())
