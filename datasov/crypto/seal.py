"""Sealing to a public key: HPKE base mode (RFC 9180) with X25519 or X-Wing, HKDF-SHA-256 and AES-256-GCM."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from datasov.errors import DecryptionError, InvalidDataError, StoreError

HYBRID_PUBLIC, HYBRID_OVERHEAD = 1216, 1120 + 16
"""Bytes of an X-Wing public key, and by how many bytes what is sealed to one is longer than what it holds."""
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _hybrid() -> bool:
    """Whether X-Wing works here: the names are there from version 47, ML-KEM only with some backends."""
    try:
        mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except (AttributeError, UnsupportedAlgorithm):
        return False
    return hasattr(KEM, "MLKEM768_X25519")


HYBRID = _hybrid()
if HYBRID:
    _HYBRID_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


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


class HybridKey:
    """An X-Wing private key (ML-KEM-768 with X25519) from a seed of 32 bytes. Its repr shows the public half alone.

    The seed is expanded as in draft-connolly-cfrg-xwing-kem: SHAKE-256 to 96 bytes, 64 of them the seed of ML-KEM
    (FIPS 203), 32 the key of X25519.
    """

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """StoreError where the installed `cryptography` has no ML-KEM."""
        require_hybrid()
        expanded = hashlib.shake_256(seed).digest(96)
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        curve = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._key = hpke.MLKEM768X25519PrivateKey(kem, curve)
        self.public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What :func:`seal_hybrid` sealed to this key under the same info; DecryptionError otherwise."""
        try:
            return _HYBRID_SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise DecryptionError("not sealed to this key, or changed on the way: send it again") from None

    def __repr__(self) -> str:
        return f"HybridKey(public={hashlib.sha256(self.public).hexdigest()})"


def seal_hybrid(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt to an X-Wing public key (HPKE base mode): 1,120 bytes of encapsulated key, then ciphertext and tag.

    Raises:
        InvalidDataError: the key is not one.
        StoreError: the installed `cryptography` has no ML-KEM.
    """
    require_hybrid()
    try:
        if len(public) != HYBRID_PUBLIC:
            raise ValueError
        kem = mlkem.MLKEM768PublicKey.from_public_bytes(public[:-32])
        curve = X25519PublicKey.from_public_bytes(public[-32:])
        return _HYBRID_SUITE.encrypt(plaintext, hpke.MLKEM768X25519PublicKey(kem, curve), info)
    except ValueError:
        raise InvalidDataError("not an X-Wing public key of 1,216 bytes: ask its holder for it again") from None


def require_hybrid() -> None:
    """StoreError unless the installed `cryptography` can do X-Wing."""
    if not HYBRID:
        raise StoreError(
            "the installed cryptography has no X-Wing (ML-KEM-768 with X25519): install cryptography 47 or newer, with"
            " a backend that has ML-KEM, as its wheels on PyPI do"
        )
