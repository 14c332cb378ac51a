"""What every file of a vault has in common: its magic, its key derivation, its padding (docs/spec/vault.md)."""

from __future__ import annotations

import struct
from typing import TypeGuard

from datasov.crypto import kdf
from datasov.errors import DecryptionError

VERSION = 1
FEATURES = 0
"""Bits of features that a reader must know to read the file; this version knows none."""

MAGIC_VAULT, MAGIC_MANIFEST, MAGIC_SEGMENT, MAGIC_LOG = b"dsvVAULT", b"dsvMANIF", b"dsvSEGMT", b"dsvLOG\0\0"
MAGIC_PACK = b"dsvPACK\0"

ID = 16
ZERO_NONCE = bytes(12)
_PREAMBLE = struct.Struct(">8sHI16s")
PREAMBLE = _PREAMBLE.size


def damaged() -> DecryptionError:
    """The one answer to bytes that do not verify, whichever check failed."""
    return DecryptionError(
        "the vault cannot be read with this key: check the key; if it is right, a file is damaged, foreign, stale or"
        " written by a newer version, and a copy must be restored"
    )


def preamble(magic: bytes, vault_id: bytes) -> bytes:
    """The first 30 bytes of every file: magic, version, features, vault id."""
    return _PREAMBLE.pack(magic, VERSION, FEATURES, vault_id)


def check_preamble(data: bytes, magic: bytes, vault_id: bytes | None = None) -> bytes:
    """The vault id of a file that is of this kind, version and (where given) vault."""
    if len(data) < PREAMBLE:
        raise damaged()
    found, version, features, owner = _PREAMBLE.unpack_from(data)
    if found != magic or version != VERSION or features != FEATURES or (vault_id is not None and owner != vault_id):
        raise damaged()
    return bytes(owner)


def context(role: bytes, *parts: bytes) -> bytes:
    """The HKDF info of a role. The parts of a role have fixed lengths, so that no two contexts are equal."""
    return b"datasov/vault/v1/" + role + b"\0" + b"".join(parts)


def committed_key(key: bytes, salt: bytes, commitment: bytes, info: bytes) -> bytes:
    """The AEAD key under a salt, once its commitment is the one that the file holds."""
    derived, expected = kdf.derive_committed(key, salt=salt, info=info)
    if not kdf.same(expected, commitment):
        raise damaged()
    return derived


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that UTF-8 can hold: half of a surrogate pair is none."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def pad(body: bytes, step: int) -> bytes:
    """Length (u32), body, and zeros up to a multiple of `step`: sizes then tell less."""
    framed = struct.pack(">I", len(body)) + body
    return framed + bytes(-len(framed) % step)


def unpad(framed: bytes) -> bytes:
    """The body of what :func:`pad` gave."""
    if len(framed) < 4:
        raise damaged()
    (length,) = struct.unpack_from(">I", framed)
    if length > len(framed) - 4 or framed[4 + length :].strip(b"\0"):
        raise damaged()
    return framed[4 : 4 + length]
