"""Keys from keys (HKDF-SHA-256, RFC 5869) and from passphrases (Argon2id, RFC 9106)."""

from __future__ import annotations

import hashlib
import hmac
import os

import nacl.pwhash.argon2id
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from datasov.errors import DecryptionError, InvalidDataError

_SHA256 = hashes.SHA256()
ARGON2_DEFAULT = (3, 64 * 1024 * 1024)
"""Passes and memory in bytes."""
_MAX_OPS, _MAX_MEMORY, _MIN_MEMORY = 16, 1024 * 1024 * 1024, 8 * 1024 * 1024


def hkdf(key: bytes, *, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """`length` bytes from a uniform key."""
    return HKDF(algorithm=_SHA256, length=length, salt=salt, info=info).derive(key)


def derive_committed(key: bytes, *, salt: bytes, info: bytes) -> tuple[bytes, bytes]:
    """A 32-byte AEAD key and a 32-byte commitment to it.

    AES-GCM does not commit to its key (Len, Grubbs and Ristenpart 2021, "Partitioning Oracle Attacks"): compare the
    commitment before decrypting.
    """
    both = HKDF(_SHA256, 64, salt, info).derive(key)
    return both[:32], both[32:]


def argon2id(passphrase: bytes, *, salt: bytes, ops: int, memory: int) -> bytes:
    """32 bytes from a passphrase; salt is 16 bytes.

    Raises:
        DecryptionError: parameters outside what a vault may ask for (they come from a file).
    """
    if not (1 <= ops <= _MAX_OPS and _MIN_MEMORY <= memory <= _MAX_MEMORY and len(salt) == 16):
        raise DecryptionError("the vault cannot be opened with this key")
    return nacl.pwhash.argon2id.kdf(32, passphrase, salt, opslimit=ops, memlimit=memory)


def same(a: bytes, b: bytes) -> bool:
    """Equality in time that does not depend on the contents."""
    return hmac.compare_digest(a, b)


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one after the other."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def random(length: int) -> bytes:
    """Bytes from the operating system's generator."""
    return os.urandom(length)


def check_passphrase(passphrase: str) -> bytes:
    """The passphrase as UTF-8 bytes (NFC is the caller's); InvalidDataError where it is empty."""
    if not isinstance(passphrase, str) or not passphrase:
        raise InvalidDataError("a passphrase is a text that is not empty")
    try:
        return passphrase.encode()
    except UnicodeEncodeError:
        raise InvalidDataError("the passphrase holds what is no character: check the terminal's encoding") from None
