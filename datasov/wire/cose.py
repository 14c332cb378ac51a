"""COSE_Sign1 (RFC 9052) with Ed25519 (`alg` -19, RFC 9864): an empty unprotected header, the AAD naming the document.

The algorithm is fixed here and only compared with the header, never chosen by it.
"""

from __future__ import annotations

from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey, verify
from datasov.errors import SignatureError, VerificationError
from datasov.wire import cbor

_PROTECTED = cbor.encode({1: -19})


def _to_be_signed(payload: bytes, kind: str) -> bytes:
    return cbor.encode(["Signature1", _PROTECTED, kind.encode(), payload])


def sign1(payload: bytes, key: SigningKey, kind: str) -> bytes:
    """A COSE_Sign1 message (untagged) over a payload; `kind` is the external AAD."""
    return cbor.encode([_PROTECTED, {}, payload, key.sign(_to_be_signed(payload, kind))])


def open1(message: bytes, public: bytes, kind: str) -> bytes:
    """The payload, once the signature verifies under the key; SignatureError otherwise."""
    payload, signature = _parts(message)
    verify(public, _to_be_signed(payload, kind), signature)
    return payload


def peek1(message: bytes) -> bytes:
    """The payload before any check of its signature: only to find the key that must verify it."""
    return _parts(message)[0]


def digest1(message: bytes, kind: str) -> bytes:
    """The identity of a message: SHA-256 of what was signed, not of its bytes (32 bytes)."""
    return sha256(_to_be_signed(_parts(message)[0], kind))


def _parts(message: bytes) -> tuple[bytes, bytes]:
    try:
        value = cbor.decode(message)
    except VerificationError:
        raise SignatureError("not a signed document: ask the sender for the original bytes") from None
    if not (
        isinstance(value, list)
        and len(value) == 4
        and value[0] == _PROTECTED
        and value[1] == {}
        and isinstance(value[2], bytes)
        and isinstance(value[3], bytes)
        and len(value[3]) == 64
    ):
        raise SignatureError("not a signed document of this format: ask the sender for the original bytes")
    return value[2], value[3]
