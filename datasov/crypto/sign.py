"""Ed25519 (RFC 8032), by PyNaCl, with keys checked where they enter.

libsodium refuses small-order and non-canonical points; cryptography accepts a signature with R = identity and S = 0
under the identity key on any message, so it does not verify here.
"""

from __future__ import annotations

from functools import lru_cache

import nacl.bindings
import nacl.exceptions
import nacl.signing

from datasov.errors import SignatureError


class SigningKey:
    """An Ed25519 signing key from a 32-byte seed. Its repr shows the public half alone."""

    __slots__ = ("_key", "public")
    alg = -19

    @property
    def name(self) -> bytes:
        """What tokens name the key by: its public half, 32 bytes."""
        return self.public

    def __init__(self, seed: bytes) -> None:
        self._key = nacl.signing.SigningKey(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """A signature, 64 bytes."""
        return bytes(self._key.sign(message).signature)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raise SignatureError unless the signature is the key's over the message."""
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        raise SignatureError("the signature does not verify: ask its sender for the original bytes") from None


_REMEMBERED = 2**17
"""So many keys are known to be points of the group: about 30 MB."""


@lru_cache(maxsize=_REMEMBERED)
def check_public(public: bytes) -> None:
    """Raise SignatureError unless the bytes are a point of the prime-order group, in canonical form.

    The check takes about as long as verifying a signature. It is a property of the bytes, so the keys that passed last
    are remembered: a resident's key is checked when it enrols, not at each thing that it signs.
    """
    if len(public) != 32 or not nacl.bindings.crypto_core_ed25519_is_valid_point(public):
        raise SignatureError("not an Ed25519 public key: ask its holder for it again")
