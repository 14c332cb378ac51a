"""A consent on paper: one text that a QR code holds in its alphanumeric mode. docs/spec/consent.md.

The text is a prefix and the Base45 (RFC 9285) of the token, or of the token with its chain of delegations, and four
bytes of a hash, so that a misread code is told from a forged token. Drawing the code is left to any QR library; error
correction level M is meant.
"""

from __future__ import annotations

from bisect import bisect_left

from datasov.authority.delegation import bundle, unbundle
from datasov.crypto.kdf import sha256
from datasov.errors import ConsentError, VerificationError
from datasov.model.consent import Consent
from datasov.wire import base45

PREFIX = "DSC1:"
_CHECK = 4
_CAPACITY = (
    20, 38, 61, 90, 122, 154, 178, 221, 262, 311, 366, 419, 483, 528, 600, 656, 734, 816, 909, 970, 1035, 1134, 1248,
    1326, 1451, 1542, 1637, 1732, 1839, 1994, 2113, 2238, 2369, 2506, 2632, 2780, 2894, 3054, 3220, 3391,
)  # fmt: skip
"""Alphanumeric characters in a QR code of version 1, 2, ... 40 at level M (ISO/IEC 18004)."""
MOST = _CAPACITY[-1]
"""Characters in the text of a consent."""


def consent_to_text(consent: Consent) -> str:
    """The text of a consent.

    Raises:
        ConsentError: it is longer than one QR code holds.
    """
    data = bundle(consent)
    text = PREFIX + base45.encode(data + _check(data))
    if len(text) > MOST:
        raise ConsentError("the consent is longer than a QR code holds: cover fewer columns, or hand over its bytes")
    return text


def consent_from_text(text: str) -> Consent:
    """The consent of a text, verified as :func:`datasov.authority.delegation.unbundle` does.

    A chain is verified where the consent is admitted or accepted.

    Raises:
        VerificationError: the text was misread, or is none of a consent; or the token does not verify.
        ConsentError: well-formed claims that no city may accept.
    """
    if not isinstance(text, str) or not text.startswith(PREFIX) or len(text) > MOST:
        raise VerificationError(f"not the text of a consent, which begins with {PREFIX}: read the whole code again")
    data = base45.decode(text.removeprefix(PREFIX))
    signed, check = data[:-_CHECK], data[-_CHECK:]
    if check != _check(signed):
        raise VerificationError("the code was misread: read it again")
    return unbundle(signed)


def qr_version(text: str) -> int:
    """The least version, 1 to 40, of a QR code at level M that holds a text of :func:`consent_to_text`."""
    if len(text) > MOST:
        raise ConsentError("longer than a QR code holds: cover fewer columns, or hand over the consent's bytes")
    return bisect_left(_CAPACITY, len(text)) + 1


def _check(signed: bytes) -> bytes:
    return sha256(PREFIX.encode(), signed)[:_CHECK]
