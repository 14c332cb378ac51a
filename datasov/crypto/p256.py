"""The group P-256 for protocols that need its points: multiplication in OpenSSL's constant-time code, the rest here.

OpenSSL, as `cryptography` offers it, gives the x-coordinate of a product alone (ECDH). A second product by k + 1 tells
the sign of y: for R = kP and S = R + P the chord through R and P has the slope (y_R - y_P) / (x_R - x_P), whose square
is x_R + x_P + x_S. One of the two roots of the curve's equation fulfils that, and OpenSSL takes the root.

Constant in time: products by secret scalars. Not constant in time (Python's integers): sums of points, the map to the
curve, the choice of the root, arithmetic on scalars. Inverses of secret scalars are taken of a product with a random
one. What that leaves visible, and to whom: docs/spec/enrolment.md.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from datasov.errors import InternalError, VerificationError

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_A, _Z = -3, -10
_MINUS_B_OVER_A = _B * pow(3, -1, _P) % _P
_EXCEPTION = _B * pow(_Z * _A, -1, _P) % _P
_CURVE, _ECDH = ec.SECP256R1(), ec.ECDH()
COMPRESSED = 33
"""Bytes of an encoded point: 0x02 or 0x03 by the parity of y, then x (SEC 1, section 2.3.3)."""


class Point(NamedTuple):
    """A point of the curve other than the identity, by its coordinates."""

    x: int
    y: int

    def encoded(self) -> bytes:
        """33 bytes."""
        return bytes([2 + (self.y & 1)]) + self.x.to_bytes(32, "big")


Sum: TypeAlias = Point | None
"""A point, or None: the identity."""


def decoded(data: bytes) -> Point:
    """The point of an encoding; VerificationError unless it is the compressed encoding of a point of the curve.

    The identity has no such encoding, and the curve's order is prime: every point that is read generates the group.
    """
    if not isinstance(data, bytes) or len(data) != COMPRESSED or data[0] not in (2, 3):
        raise _no_point()
    try:
        return _coordinates(ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data))
    except ValueError:
        raise _no_point() from None


def _no_point() -> VerificationError:
    return VerificationError("not a point of P-256: ask the sender for the original bytes")


class Scalar:
    """A secret multiplier in [1, ORDER), held by OpenSSL. Its repr shows nothing of it."""

    __slots__ = ("_key", "_next", "base")

    def __init__(self, value: int) -> None:
        if not 0 < value < ORDER:
            raise InternalError("a scalar lies between zero and the group's order")
        self._key = ec.derive_private_key(value, _CURVE)
        self._next = ec.derive_private_key(value + 1, _CURVE) if value < ORDER - 1 else None
        self.base = _coordinates(self._key.public_key())
        """The generator times the scalar."""

    def times(self, point: Point) -> Point:
        """The point times the scalar."""
        if self._next is None:
            return Point(point.x, _P - point.y)
        public = _public(point)
        x, after = _shared(self._key, public), _shared(self._next, public)
        found = _lifted(x, 0)
        if found is None:
            raise InternalError("a product lies on the curve")
        chord = (x + point.x + after) * (x - point.x) ** 2
        agrees = (found.y**2 + point.y**2 - chord - 2 * found.y * point.y) % _P == 0
        return found if agrees else Point(x, _P - found.y)

    def x_of(self, point: Point) -> bytes:
        """The x-coordinate of the product alone, 32 bytes: half the work."""
        return self._key.exchange(_ECDH, _public(point))

    def __repr__(self) -> str:
        return "Scalar()"


def _shared(key: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> int:
    return int.from_bytes(key.exchange(_ECDH, public), "big")


def _public(point: Point) -> ec.EllipticCurvePublicKey:
    both = b"\x04" + point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, both)


def _coordinates(key: ec.EllipticCurvePublicKey) -> Point:
    both = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Point(int.from_bytes(both[1:33], "big"), int.from_bytes(both[33:], "big"))


def random_scalar() -> int:
    """Uniform in [1, ORDER)."""
    return 1 + secrets.randbelow(ORDER - 1)


def inverse(scalar: int) -> int:
    """The inverse modulo ORDER of a secret scalar: what is inverted is its product with a random one."""
    mask = random_scalar()
    return pow(scalar * mask % ORDER, -1, ORDER) * mask % ORDER


def sums(pairs: Sequence[tuple[Sum, Sum]]) -> list[Sum]:
    """The sum of each pair, with one inversion for all of them (Montgomery's trick). In time that varies."""
    slopes: list[tuple[int, int] | None] = []
    for one, other in pairs:
        if one is None or other is None or (one.x == other.x and one.y != other.y):
            slopes.append(None)
        elif one == other:
            slopes.append((3 * one.x * one.x + _A, 2 * one.y))
        else:
            slopes.append((other.y - one.y, other.x - one.x))
    inverted = iter(_inverses([slope[1] for slope in slopes if slope is not None]))
    found: list[Sum] = []
    for (one, other), slope in zip(pairs, slopes, strict=True):
        if one is None or other is None:
            found.append(one if other is None else other)
        elif slope is None:
            found.append(None)
        else:
            rise = slope[0] * next(inverted) % _P
            x = (rise * rise - one.x - other.x) % _P
            found.append(Point(x, (rise * (one.x - x) - one.y) % _P))
    return found


def total(points: Sequence[Sum]) -> Sum:
    """The sum of them all, in time that varies."""
    left = list(points) or [None]
    while len(left) > 1:
        rest = left[-1:] if len(left) % 2 else []
        left = sums(list(zip(left[::2], left[1::2], strict=False))) + rest
    return left[0]


def _inverses(values: Sequence[int]) -> list[int]:
    """Of values that are not zero modulo the field's prime."""
    products, running = [], 1
    for value in values:
        products.append(running)
        running = running * value % _P
    running = pow(running, -1, _P)
    found = [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        found[i] = running * products[i] % _P
        running = running * values[i] % _P
    return found


def hash_to_scalar(message: bytes, dst: bytes) -> int:
    """Uniform in [0, ORDER), as RFC 9497, section 4.3, has it of `hash_to_field`."""
    return int.from_bytes(_expand(message, dst, 48), "big") % ORDER


def hash_to_group(messages: Sequence[bytes], dst: bytes) -> list[Sum]:
    """P256_XMD:SHA-256_SSWU_RO_ of RFC 9380 of each message; the identity with a chance of about 2^-256."""
    us: list[int] = []
    for message in messages:
        uniform = _expand(message, dst, 96)
        us += [int.from_bytes(uniform[:48], "big") % _P, int.from_bytes(uniform[48:], "big") % _P]
    mapped = _map_to_curve(us)
    return sums(list(zip(mapped[::2], mapped[1::2], strict=True)))


def _expand(message: bytes, dst: bytes, length: int) -> bytes:
    """expand_message_xmd with SHA-256 (RFC 9380, section 5.3.1)."""
    prime = dst + bytes([len(dst)])
    first = hashlib.sha256(bytes(64) + message + length.to_bytes(2, "big") + b"\0" + prime).digest()
    block, number = hashlib.sha256(first + b"\1" + prime).digest(), int.from_bytes(first, "big")
    out = block
    for i in range(2, -(-length // 32) + 1):
        mixed = (number ^ int.from_bytes(block, "big")).to_bytes(32, "big")
        block = hashlib.sha256(mixed + bytes([i]) + prime).digest()
        out += block
    return out[:length]


def _map_to_curve(us: Sequence[int]) -> list[Point]:
    """The simplified map of Shallue, van de Woestijne and Ulas (RFC 9380, section 6.6.2)."""
    squares = [_Z * u * u % _P for u in us]
    ratios = [(t * t + t) % _P for t in squares]
    inverted = iter(_inverses([r for r in ratios if r]))
    found = []
    for u, square, ratio in zip(us, squares, ratios, strict=True):
        x = _MINUS_B_OVER_A * (1 + next(inverted)) % _P if ratio else _EXCEPTION
        found.append(_lifted(x, u & 1) or _lifted(square * x % _P, u & 1))
    if None in found:
        raise InternalError("one of the two candidates of the map lies on the curve")
    return [point for point in found if point is not None]


def _lifted(x: int, parity: int) -> Sum:
    """The point at x whose y has this parity, where there is one: OpenSSL takes the root."""
    try:
        encoded = bytes([2 + parity]) + x.to_bytes(32, "big")
        return _coordinates(ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, encoded))
    except ValueError:
        return None
