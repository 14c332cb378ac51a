"""A city's trust, signed by the city: what a resident's device is given before its owner chooses.

A COSE_Sign1 message of the city's key, kind `datasov trust v1`, over the canonical JSON `{"city", "trust"}`. Two
aggregators' keys are in it, and a consent under two servers commits to them: docs/spec/two-server.md.
"""

from __future__ import annotations

import json

from datasov.crypto.sign import SigningKey
from datasov.errors import DatasovError, VerificationError
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.model.privacy import Trust
from datasov.wire import cose

KIND = "datasov trust v1"
MOST = 16 * 1024
"""Bytes of a signed trust."""


def sign_trust(city: CityId, trust: Trust, key: SigningKey) -> bytes:
    """The trust as a city gives it out."""
    return cose.sign1(canonical({"city": str(city), "trust": trust.document()}), key, KIND)


def read_trust(data: bytes, city: CityId) -> Trust:
    """The trust that this city signed, with its parties and its parts.

    Args:
        city: its id, from elsewhere than the data.

    Raises:
        VerificationError: anything else, or another city's.
    """
    if not isinstance(data, bytes) or len(data) > MOST:
        raise _not_one()
    payload = cose.open1(data, city.verify_key, KIND)
    try:
        doc = json.loads(payload)
        trust = Trust.from_document(doc["trust"])
        same = canonical({"city": str(city), "trust": trust.document()}) == payload
    except (DatasovError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _not_one() from None
    if not same:
        raise _not_one()
    return trust


def _not_one() -> VerificationError:
    return VerificationError("not this city's trust: ask the city for the file of `datasov city trust`, and for its id")
