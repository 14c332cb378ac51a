"""Sealing to a public key: HPKE base mode (RFC 9180) with X25519, HKDF-SHA-256 and AES-256-GCM."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from datasov.errors import DecryptionError

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class OpeningKey:
    """An X25519 private key from 32 bytes. Its repr shows the public half alone."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed to this key under the same info; DecryptionError otherwise."""
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise DecryptionError("not sealed to this key, or changed on the way: send it again") from None

    def __repr__(self) -> str:
        return f"OpeningKey(public={self.public.hex()})"


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt to an X25519 public key, 32 bytes; info binds the context."""
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info)
