"""ECDSA over P-256 with SHA-256 (FIPS 186-5), for keys that a certificate accredits: by `cryptography`.

A signature is r || s of 32 bytes each. It is malleable: with (r, s) also (r, n - s) verifies, so nothing may be known
by its signature. A key is named by its COSE thumbprint (RFC 9679), 32 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from datasov.crypto.kdf import sha256
from datasov.errors import SignatureError

_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class P256Key:
    """A public key as SEC 1 writes it, uncompressed: 65 bytes, a point of the curve."""

    point: bytes

    def __post_init__(self) -> None:
        _load(self.point)

    @property
    def name(self) -> bytes:
        """The COSE thumbprint: SHA-256 of the key's required parameters in canonical CBOR (RFC 9679): 32 bytes."""
        x, y = self.point[1:33], self.point[33:]
        return sha256(b"\xa4\x01\x02\x20\x01\x21\x58\x20", x, b"\x22\x58\x20", y)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raise SignatureError unless the signature, 64 bytes, is the key's over the message."""
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            if len(signature) != 64:
                raise ValueError
            _load(self.point).verify(encode_dss_signature(r, s), message, _ECDSA)
        except (InvalidSignature, ValueError):
            raise SignatureError("the signature does not verify: ask its sender for the original bytes") from None


class P256SigningKey:
    """A signing key in memory, for those who keep none on a card. Its repr shows its name alone."""

    __slots__ = ("_key", "name", "public")
    alg = -9

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        self.public = P256Key(_point(self._key.public_key()))
        self.name = self.public.name

    def sign(self, message: bytes) -> bytes:
        """A signature, 64 bytes: r || s."""
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"P256SigningKey(name={self.name.hex()})"


def point_of(key: object) -> P256Key:
    """A public key of `cryptography`; SignatureError unless it is one of P-256."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("not a key of the curve P-256: only such certificates are read")
    return P256Key(_point(key))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _load(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(point) != 65:
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise SignatureError("not a point of P-256: ask the key's holder for it again") from None
