"""What a resident hands to a city in one piece: a consent with its chain, and what is contributed under it.

The bytes are canonical CBOR, `[consent, contribution]`, each as it would travel alone: docs/spec/consent.md. Nothing
is signed once more: the consent is, and the contribution is signed and sealed to the city.
"""

from __future__ import annotations

from datasov.authority.delegation import MAX_BUNDLE, bundle
from datasov.authority.messages import MAX_MESSAGE
from datasov.errors import VerificationError
from datasov.model.consent import Consent
from datasov.wire import cbor, fields

MOST = MAX_BUNDLE + MAX_MESSAGE + 64
"""Bytes of a parcel."""


def parcel(consent: Consent, contribution: bytes) -> bytes:
    """The parcel of a consent and of what :meth:`datasov.Resident.contribute` gave."""
    return cbor.encode([bundle(consent), contribution])


def unparcel(data: bytes) -> tuple[bytes, bytes]:
    """The consent and the contribution of a parcel, neither verified: :meth:`datasov.City.admit` does that.

    Raises:
        VerificationError: not a parcel, or a longer one than there is.
    """
    if not isinstance(data, bytes) or len(data) > MOST:
        raise VerificationError("not a consent with its contribution, or longer than one: ask for it again")
    consent, contribution = fields.items(cbor.decode(data), 2, 2)
    return fields.blob(consent, MAX_BUNDLE), fields.blob(contribution, MAX_MESSAGE)
