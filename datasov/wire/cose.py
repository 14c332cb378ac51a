"""COSE_Sign1 (RFC 9052) with an empty unprotected header and the AAD naming the document.

The algorithm is Ed25519 (`alg` -19, RFC 9864), or ECDSA over P-256 (ESP256, -9) where the reader's directory says that
the key is of that kind: the header is compared with the key's kind and chooses nothing. So a message has one form for
each, all of it constant but the payload and the signature, and it is read by comparing bytes: a city reads many.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

from datasov.crypto.es256 import P256Key
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import verify
from datasov.errors import SignatureError
from datasov.wire import cbor

ED25519, ESP256 = -19, -9
_PROTECTED = {alg: cbor.encode({1: alg}) for alg in (ED25519, ESP256)}
_OPENING = {alg: b"\x84" + cbor.encode(protected) + b"\xa0" for alg, protected in _PROTECTED.items()}
_HEADER = len(_OPENING[ED25519])
_ALGORITHMS = {opening: alg for alg, opening in _OPENING.items()}
_SIGNATURE = 64
_CLOSING = b"\x58\x40"
_TAIL = len(_CLOSING) + _SIGNATURE


class Signer(Protocol):
    """A key that signs: `alg` is its algorithm's number, `sign` gives 64 bytes."""

    @property
    def alg(self) -> int: ...

    def sign(self, message: bytes) -> bytes: ...


class Parts(NamedTuple):
    """A message taken apart, nothing verified: its payload, the bytes that its signature is over, the signature."""

    payload: bytes
    signed: bytes
    signature: bytes
    alg: int = ED25519

    @property
    def digest(self) -> bytes:
        """The identity of the message: SHA-256 of what was signed, not of its bytes (32 bytes)."""
        return sha256(self.signed)

    def verify(self, key: bytes | P256Key) -> None:
        """Raise SignatureError unless the signature is the key's, and the header names the algorithm of its kind.

        Bytes are an Ed25519 key, which was checked where it entered.
        """
        if self.alg != (ED25519 if isinstance(key, bytes) else ESP256):
            raise SignatureError("another algorithm than the key's: ask the sender for the original bytes")
        if isinstance(key, bytes):
            verify(key, self.signed, self.signature)
        else:
            key.verify(self.signed, self.signature)


@lru_cache(maxsize=64)
def _before_payload(kind: str, alg: int) -> bytes:
    return cbor.encode(["Signature1", _PROTECTED[alg], kind.encode(), b""])[:-1]


def sign1(payload: bytes, key: Signer, kind: str) -> bytes:
    """A COSE_Sign1 message (untagged) over a payload; `kind` is the external AAD."""
    signed = _before_payload(kind, key.alg) + cbor.encode(payload)
    return cbor.encode([_PROTECTED[key.alg], {}, payload, key.sign(signed)])


def parts1(message: bytes, kind: str) -> Parts:
    """The parts of a message of this kind, before any check of its signature: to find the key that must verify it.

    Raises:
        SignatureError: the bytes are not those that :func:`sign1` would give for any payload.
    """
    alg = _ALGORITHMS.get(message[:_HEADER]) if isinstance(message, bytes) else None
    end = len(message) - _TAIL if alg is not None else 0
    start = cbor.start_of_blob(message, _HEADER, end)
    if alg is None or start < 0 or message[end:-_SIGNATURE] != _CLOSING:
        raise _not_of_this_form()
    signed = _before_payload(kind, alg) + message[_HEADER:end]
    return Parts(message[start:end], signed, message[-_SIGNATURE:], alg)


def open1(message: bytes, key: bytes | P256Key, kind: str) -> bytes:
    """The payload, once the signature verifies under the key; SignatureError otherwise."""
    parts = parts1(message, kind)
    parts.verify(key)
    return parts.payload


def peek1(message: bytes) -> bytes:
    """The payload before any check of its signature: only to find the key that must verify it."""
    return parts1(message, "").payload


def digest1(message: bytes, kind: str) -> bytes:
    """The identity of a message: SHA-256 of what was signed, not of its bytes (32 bytes)."""
    return parts1(message, kind).digest


def _not_of_this_form() -> SignatureError:
    return SignatureError("not a signed document of this format: ask the sender for the original bytes")
