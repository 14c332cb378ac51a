"""The partially oblivious pseudorandom function of RFC 9497: mode 2 (POPRF) with P256-SHA256.

A server holds a key, a client an input, both know `info`. The client learns the function's output and a proof that it
is the output under the public key that everybody knows; the server learns nothing of the input. Later the client shows
input and output, and the server, which computes the output again, cannot tell which evaluation they came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from datasov.crypto import p256
from datasov.crypto.kdf import same
from datasov.crypto.p256 import ORDER, Point, Scalar
from datasov.errors import InternalError, InvalidDataError, ProofError, VerificationError

ELEMENT, PROOF, OUTPUT = p256.COMPRESSED, 64, 32
"""Bytes of a point, of a proof and of an output."""
MAX_BATCH = 64
"""Most evaluations under one proof here (the RFC allows 65,535): who checks it multiplies twice for each."""
_CONTEXT = b"OPRFV1-\x02-P256-SHA256"
_GROUP, _SCALAR = b"HashToGroup-" + _CONTEXT, b"HashToScalar-" + _CONTEXT
_SEED, _DERIVE = b"Seed-" + _CONTEXT, b"DeriveKeyPair" + _CONTEXT


class Evaluation(NamedTuple):
    """A server's answer.

    Attributes:
        elements: an evaluated element for each blinded one, 33 bytes each.
        proof: that all were evaluated under the same key, 64 bytes.
    """

    elements: tuple[bytes, ...]
    proof: bytes


class PrivateKey:
    """A server's key. Its repr shows the public half alone."""

    __slots__ = ("_value", "public")

    def __init__(self, value: int) -> None:
        self._value = value
        self.public = Scalar(value).base.encoded()

    @classmethod
    def derive(cls, seed: bytes, info: bytes) -> PrivateKey:
        """The key of a seed of 32 bytes, by DeriveKeyPair (section 3.2.1)."""
        if len(seed) != 32:
            raise InvalidDataError("a seed is 32 random bytes: draw them with os.urandom(32)")
        for counter in range(256):
            value = p256.hash_to_scalar(seed + _sized(info) + bytes([counter]), _DERIVE)
            if value:
                return cls(value)
        raise InternalError("256 zero scalars: no such seed is known")

    def under(self, info: bytes) -> Evaluator:
        """What evaluates under this key and one `info`."""
        return Evaluator(self._value, info)

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()})"


class Evaluator:
    """Evaluates under one key and one `info`. Its repr shows nothing of the key."""

    __slots__ = ("_info", "_inverse", "_secret", "_tweaked")

    def __init__(self, value: int, info: bytes) -> None:
        secret = (value + _tweak(info)) % ORDER
        if not secret:
            raise InternalError("this info is the key's negative: no such info is known")
        self._info, self._secret, self._tweaked = info, secret, Scalar(secret)
        self._inverse = Scalar(p256.inverse(secret))

    def evaluate(self, blinded: Sequence[bytes], nonce: int | None = None) -> Evaluation:
        """Blinded elements evaluated, 1 to `MAX_BATCH` of them, with one proof (BlindEvaluate, section 3.3.3).

        Args:
            nonce: for published vectors only: the same one twice under one key gives the key away.

        Raises:
            VerificationError: an element is no point, or there are none or too many.
        """
        if not 1 <= len(blinded) <= MAX_BATCH:
            raise VerificationError(f"one proof is over 1 to {MAX_BATCH} elements: send fewer")
        points = [p256.decoded(element) for element in blinded]
        evaluated = [self._inverse.times(point) for point in points]
        elements = tuple(point.encoded() for point in evaluated)
        return Evaluation(elements, self._prove(evaluated, elements, blinded, nonce))

    def _prove(
        self, evaluated: Sequence[Point], elements: Sequence[bytes], blinded: Sequence[bytes], nonce: int | None
    ) -> bytes:
        """That the key's multiple of each evaluated element is the blinded one (GenerateProof, section 2.2.1)."""
        key = self._tweaked.base.encoded()
        composite = _weighed(evaluated, _weights(key, elements, blinded))
        random = p256.random_scalar() if nonce is None else nonce
        commitment = Scalar(random)
        challenge = _challenge(
            key, composite, self._tweaked.times(composite), commitment.base, commitment.times(composite)
        )
        response = (random - challenge * self._secret) % ORDER
        return challenge.to_bytes(32, "big") + response.to_bytes(32, "big")

    def check(self, inputs: Sequence[bytes], outputs: Sequence[bytes]) -> list[bool]:
        """Whether each output is the function's of its input (Evaluate, section 3.3.3).

        The multiple's y-coordinate is not computed: the outputs for both signs are compared.
        """
        hashed = p256.hash_to_group([_checked(data) for data in inputs], _GROUP)
        found = []
        for data, point, output in zip(inputs, hashed, outputs, strict=True):
            x = bytes(32) if point is None else self._inverse.x_of(point)
            signs = [same(_output(data, self._info, sign + x), output) for sign in (b"\x02", b"\x03")]
            found.append(any(signs) and point is not None)
        return found

    def __repr__(self) -> str:
        return "Evaluator()"


def blind(data: bytes, scalar: int) -> bytes:
    """The input's point times a secret scalar in [1, ORDER), 33 bytes: uniform and independent of the input."""
    return Scalar(scalar).times(_hashed(data)).encoded()


def finalize(
    data: bytes, scalar: int, info: bytes, public: bytes, blinded: Sequence[bytes], evaluation: Evaluation, at: int = 0
) -> bytes:
    """The output for the input at place `at` of a batch, 32 bytes, once the proof is verified (Finalize).

    Args:
        scalar: what the input was blinded with. blinded: those that the proof is over; `blinded[at]` is, as the caller
            has compared, what :func:`blind` gave for the input.
        public: the server's key, as everybody knows it.

    Raises:
        ProofError: not the answer under this key and info to these elements.
        VerificationError: bytes that are no point of the curve, or that do not belong together.
    """
    verify(info, public, blinded, evaluation)
    unblinded = Scalar(p256.inverse(scalar)).times(p256.decoded(evaluation.elements[at]))
    return _output(data, info, unblinded.encoded())


def verify(info: bytes, public: bytes, blinded: Sequence[bytes], evaluation: Evaluation) -> None:
    """Raise unless the proof shows that the elements were evaluated under this key and info (VerifyProof).

    Raises:
        ProofError: it does not.
        VerificationError: bytes that are no point of the curve.
    """
    elements, proof = evaluation
    if not 1 <= len(elements) <= MAX_BATCH or len(elements) != len(blinded) or len(proof) != PROOF:
        raise _not_proven()
    tweak = _tweak(info)
    sum_ = p256.total([p256.decoded(public), Scalar(tweak).base if tweak else None])
    challenge, response = int.from_bytes(proof[:32], "big"), int.from_bytes(proof[32:], "big")
    if sum_ is None or not 0 < challenge < ORDER or not 0 < response < ORDER:
        raise _not_proven()
    key, weights = sum_.encoded(), _weights(sum_.encoded(), elements, blinded)
    composite = _weighed([p256.decoded(element) for element in elements], weights)
    image = _weighed([p256.decoded(element) for element in blinded], weights)
    c, s = Scalar(challenge), Scalar(response)
    commitment, other = p256.sums([(s.base, c.times(sum_)), (s.times(composite), c.times(image))])
    if commitment is None or other is None or _challenge(key, composite, image, commitment, other) != challenge:
        raise _not_proven()


def _not_proven() -> ProofError:
    return ProofError("the issuer did not answer under the key that it published: keep the answer, and tell others")


def _checked(data: bytes) -> bytes:
    if not isinstance(data, bytes) or len(data) >= 2**16:
        raise VerificationError("an input has fewer than 65,536 bytes: send the original")
    return data


def _hashed(data: bytes) -> Point:
    (point,) = p256.hash_to_group([_checked(data)], _GROUP)
    if point is None:
        raise InvalidDataError("this input hashes to the identity: choose another")
    return point


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _tweak(info: bytes) -> int:
    if len(info) >= 2**16:
        raise InvalidDataError("info has fewer than 65,536 bytes: give its hash")
    return p256.hash_to_scalar(b"Info" + _sized(info), _SCALAR)


def _output(data: bytes, info: bytes, element: bytes) -> bytes:
    return hashlib.sha256(_sized(data) + _sized(info) + _sized(element) + b"Finalize").digest()


def _weights(key: bytes, evaluated: Sequence[bytes], blinded: Sequence[bytes]) -> list[int]:
    """The weight of each pair in the proof (ComputeComposites, section 2.2.1)."""
    seed = hashlib.sha256(_sized(key) + _sized(_SEED)).digest()
    return [
        p256.hash_to_scalar(_sized(seed) + i.to_bytes(2, "big") + _sized(c) + _sized(d) + b"Composite", _SCALAR)
        for i, (c, d) in enumerate(zip(evaluated, blinded, strict=True))
    ]


def _weighed(points: Sequence[Point], weights: Sequence[int]) -> Point:
    found = p256.total([Scalar(weight).times(point) for point, weight in zip(points, weights, strict=True) if weight])
    if found is None:
        raise _not_proven()
    return found


def _challenge(key: bytes, composite: Point, image: Point, commitment: Point, other: Point) -> int:
    parts = [key, *(point.encoded() for point in (composite, image, commitment, other))]
    return p256.hash_to_scalar(b"".join(map(_sized, parts)) + b"Challenge", _SCALAR)
