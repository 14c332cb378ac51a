"""COSE_Sign1 (RFC 9052) with Ed25519 (`alg` -19, RFC 9864): an empty unprotected header, the AAD naming the document.

The algorithm is fixed here and only compared with the header, never chosen by it. So a message has one form, all of it
constant but the payload and the signature, and it is read by comparing bytes: a city reads many.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey, verify
from datasov.errors import SignatureError
from datasov.wire import cbor

_PROTECTED = cbor.encode({1: -19})
_OPENING = b"\x84" + cbor.encode(_PROTECTED) + b"\xa0"
_SIGNATURE = 64
_CLOSING = b"\x58\x40"


class Parts(NamedTuple):
    """A message taken apart, nothing verified: its payload, the bytes that its signature is over, the signature."""

    payload: bytes
    signed: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """The identity of the message: SHA-256 of what was signed, not of its bytes (32 bytes)."""
        return sha256(self.signed)

    def verify(self, public: bytes) -> None:
        """Raise SignatureError unless the signature is that of an Ed25519 key, which was checked where it entered."""
        verify(public, self.signed, self.signature)


@lru_cache(maxsize=64)
def _before_payload(kind: str) -> bytes:
    return cbor.encode(["Signature1", _PROTECTED, kind.encode(), b""])[:-1]


def _to_be_signed(payload: bytes, kind: str) -> bytes:
    return _before_payload(kind) + cbor.encode(payload)


def sign1(payload: bytes, key: SigningKey, kind: str) -> bytes:
    """A COSE_Sign1 message (untagged) over a payload; `kind` is the external AAD."""
    return cbor.encode([_PROTECTED, {}, payload, key.sign(_to_be_signed(payload, kind))])


def parts1(message: bytes, kind: str) -> Parts:
    """The parts of a message of this kind, before any check of its signature: to find the key that must verify it.

    Raises:
        SignatureError: the bytes are not those that :func:`sign1` would give for any payload.
    """
    if not isinstance(message, bytes) or not message.startswith(_OPENING):
        raise _not_of_this_form()
    end = len(message) - _SIGNATURE - len(_CLOSING)
    at = len(_OPENING)
    start = cbor.start_of_blob(message, at, end)
    if start < 0 or message[end : end + len(_CLOSING)] != _CLOSING:
        raise _not_of_this_form()
    return Parts(message[start:end], _before_payload(kind) + message[at:end], message[-_SIGNATURE:])


def open1(message: bytes, public: bytes, kind: str) -> bytes:
    """The payload, once the signature verifies under the key; SignatureError otherwise."""
    parts = parts1(message, kind)
    parts.verify(public)
    return parts.payload


def peek1(message: bytes) -> bytes:
    """The payload before any check of its signature: only to find the key that must verify it."""
    return parts1(message, "").payload


def digest1(message: bytes, kind: str) -> bytes:
    """The identity of a message: SHA-256 of what was signed, not of its bytes (32 bytes)."""
    return parts1(message, kind).digest


def _not_of_this_form() -> SignatureError:
    return SignatureError("not a signed document of this format: ask the sender for the original bytes")
