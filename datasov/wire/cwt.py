"""A CWT (RFC 8392) whose type stands in its protected header (RFC 9596), as other libraries read it: tag 18, no AAD.

The header names the type, and is signed: no other document of this project has such a header, so none can be taken for
one of these. As in :mod:`datasov.wire.cose`, the algorithm (`alg` -19, Ed25519) is compared and never chosen by.
"""

from __future__ import annotations

from typing import Any

from datasov.crypto.sign import SigningKey, verify
from datasov.errors import SignatureError, VerificationError
from datasov.wire import cbor

_TAG = b"\xd2"
"""18, COSE_Sign1, as CBOR writes it."""


def _protected(kind: str) -> bytes:
    return cbor.encode({1: -19, 16: kind})


def sign(claims: dict[int, Any], key: SigningKey, kind: str) -> bytes:
    """The claims, signed; `kind` is a media type."""
    payload, protected = cbor.encode(claims), _protected(kind)
    signature = key.sign(cbor.encode(["Signature1", protected, b"", payload]))
    return _TAG + cbor.encode([protected, {}, payload, signature])


def read(token: bytes, public: bytes, kind: str) -> Any:
    """The claims of a token of this kind, once its signature verifies under the key; they are not looked at further.

    Raises:
        SignatureError: the bytes are of another form or kind, or the signature does not verify.
        VerificationError: the claims are not deterministic CBOR.
    """
    try:
        value = cbor.decode(token[1:]) if token[:1] == _TAG else None
    except VerificationError:
        value = None
    match value:
        case [bytes(protected), dict(rest), bytes(payload), bytes(signature)] if (
            protected == _protected(kind) and not rest and len(signature) == 64
        ):
            verify(public, cbor.encode(["Signature1", protected, b"", payload]), signature)
            return cbor.decode(payload)
    raise SignatureError(f"not a signed {kind}: ask its issuer for the original bytes")
