"""What all issuers of enrolment tokens share: keys from a secret, people's handles, and the way of a request."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from datasov.authority.credential import MAX_REQUEST
from datasov.crypto import oprf
from datasov.crypto.kdf import hkdf
from datasov.errors import DatasovError, InvalidDataError
from datasov.wire import cbor, fields


def issuer_key(secret: bytes, info: bytes) -> oprf.PrivateKey:
    """The key under which tokens are issued, from its owner's secret of 32 bytes."""
    return oprf.PrivateKey.derive(hkdf(secret, salt=b"", info=info), b"datasov")


def person(secret: bytes, info: bytes, who: str) -> bytes:
    """What a roll knows somebody by, 32 bytes: a keyed hash of what the operator's register calls them, in NFKC.

    Raises:
        InvalidDataError: not a printable text of 1 to 200 characters.
    """
    text = unicodedata.normalize("NFKC", who).strip() if isinstance(who, str) else ""
    if not text or len(text) > 200 or not text.isprintable():
        raise InvalidDataError("a person is named by a printable text of 1 to 200 characters")
    return hkdf(secret, salt=b"", info=info + text.encode())


def read(body: bytes) -> tuple[bytes, list[bytes]]:
    """The task (32 bytes) and the requests, 1 to 64, that a device or a relay sends.

    Raises:
        VerificationError: bytes of another form.
    """
    task, requests = fields.items(cbor.decode(body), 2, 2)
    asked = [fields.blob(request, MAX_REQUEST) for request in fields.items(requests, 1, oprf.MAX_BATCH)]
    return fields.octets(task, 32), asked


def told(outcomes: Sequence[bytes | DatasovError]) -> bytes:
    """The answer to them: for each an issuer's answer, or a text that says why there is none."""
    return cbor.encode([each if isinstance(each, bytes) else str(each) for each in outcomes])
