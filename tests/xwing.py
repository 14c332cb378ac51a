"""X-Wing (draft-connolly-cfrg-xwing-kem) and HPKE base mode (RFC 9180) by hand, from ML-KEM, X25519, SHA-3 and HMAC.

It shares no code with the package, which leaves both to `cryptography`.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SUITE = b"HPKE" + bytes.fromhex("647a00010002")


def keys(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey, bytes]:
    """ML-KEM key, X25519 key, and the public key, from a seed of 32 bytes."""
    expanded = hashlib.shake_256(seed).digest(96)
    kem, curve = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    return kem, curve, kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def decapsulate(seed: bytes, enc: bytes) -> bytes:
    kem, curve, public = keys(seed)
    shared = curve.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    label = rb"\./" + rb"/^\ "[:3]
    return hashlib.sha3_256(kem.decapsulate(enc[:1088]) + shared + enc[1088:] + public[1184:] + label).digest()


def _extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + _SUITE + label + ikm, "sha256")


def _expand(secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + _SUITE + label + info + b"\1"
    return hmac.digest(secret, labelled, "sha256")[:length]


def unseal(seed: bytes, sealed: bytes, info: bytes) -> bytes:
    """What was sealed by HPKE to the key of the seed: encapsulated key of 1,120 bytes, ciphertext, tag."""
    context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    secret = _extract(decapsulate(seed, sealed[:1120]), b"secret", b"")
    key, nonce = _expand(secret, b"key", context, 32), _expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed[1120:], b"")
