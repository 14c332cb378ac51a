"""Anonymous enrolment credentials, the resident's side: one token for each issuer, task and epoch.

A token is an input and its output under the POPRF of RFC 9497, with `info` naming what it is for. The device blinds the
input, so that whoever issued a token cannot tell it from any other when it is shown. Everything is derived from the
vault's identity seed: a device keeps nothing between asking and showing, asking again is the same request, and two
devices of a resident have one token. docs/spec/enrolment.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from datasov.crypto import oprf
from datasov.crypto.kdf import hkdf, same, sha256
from datasov.crypto.p256 import ORDER
from datasov.crypto.sign import SigningKey
from datasov.errors import InvalidQueryError, ProofError, VerificationError
from datasov.model.consent import CityId
from datasov.wire import cbor, cose, fields

REQUEST = "datasov enrolment request v1"
MAX_REQUEST, MAX_ANSWER = 512, 8192
TOKEN = 64
"""Bytes of a token: input and output, 32 each."""
_KEY, _SECRET = b"datasov enrolment key v1 ", b"datasov credential v1 "
_INFO, _NULLIFIER = b"datasov enrolment v1", b"datasov nullifier v1"
_VERSION = 1

Derive = Callable[[bytes], bytes]
"""A PRF under the vault's identity seed, of 32 bytes: `Vault.derive`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a token is for.

    Attributes:
        issuer: the public key of the aggregator that issues it and checks it, 33 bytes. It is read from the task that
            stands in the log, the same for everybody: a key of one's own would be a mark.
        task: the task's digest, 32 bytes.
        epoch: of the task; one token each.
    """

    issuer: bytes
    task: bytes
    epoch: int
    info: bytes = field(init=False)
    """What binds the token to all three: 32 bytes."""

    def __post_init__(self) -> None:
        if len(self.issuer) != oprf.ELEMENT or len(self.task) != 32 or not 0 <= self.epoch < 2**63:
            raise InvalidQueryError("a token is for an issuer's key of 33 bytes, a task's digest of 32, and an epoch")
        object.__setattr__(self, "info", sha256(_INFO, self.issuer, self.task, self.epoch.to_bytes(8, "big")))


@dataclass(frozen=True, slots=True)
class Token:
    """What a device shows to the issuer, once, inside the share that is sealed to it. Its repr shows nothing.

    Attributes:
        data: input and output, 64 bytes.
        nullifier: what the issuer knows a second showing by, 32 bytes.
    """

    data: bytes = field(repr=False)
    nullifier: bytes = field(repr=False)


def enrolment_key(derive: Derive, city: CityId) -> SigningKey:
    """The key that a resident is enrolled by in a city: on the lists of all aggregators that serve it."""
    return SigningKey(derive(_KEY + sha256(str(city).encode())))


def request(derive: Derive, key: SigningKey, wanted: Wanted) -> bytes:
    """What the device sends to ask for a token: the same bytes each time.

    A device asks for every task's tokens, whether or not its owner takes part: who has asked is no secret of the
    issuer's.
    """
    return cose.sign1(
        cbor.encode({1: _VERSION, 2: key.name, 3: wanted.info, 4: _blinded(derive, wanted)[2]}), key, REQUEST
    )


def accept(derive: Derive, wanted: Wanted, answer: bytes) -> Token:
    """The token of an issuer's answer, once its proof is verified against the published key.

    Raises:
        ProofError: it answers another request, or under another key: the issuer marks people.
        VerificationError: the bytes are not of this format.
    """
    if not isinstance(answer, bytes) or len(answer) > MAX_ANSWER:
        raise VerificationError("not an answer of an issuer: ask again")
    found = fields.labelled(cbor.decode(answer), range(1, 6))
    fields.integer(found[1], _VERSION, _VERSION)
    blinded, elements = (
        tuple(fields.octets(item, oprf.ELEMENT) for item in fields.items(found[label], 1, oprf.MAX_BATCH))
        for label in (2, 3)
    )
    evaluation = oprf.Evaluation(elements, fields.octets(found[4], oprf.PROOF))
    at = fields.integer(found[5], 0, len(blinded) - 1)
    data, scalar, element = _blinded(derive, wanted)
    if not same(element, blinded[at]):
        raise ProofError("the answer is not to this request: ask again")
    output = oprf.finalize(data, scalar, wanted.info, wanted.issuer, blinded, evaluation, at)
    return Token(data + output, nullifier(wanted, data + output))


def nullifier(wanted: Wanted, token: bytes) -> bytes:
    """What a token is known by once it was shown: by its input, which has one output under each `info`. 32 bytes."""
    return sha256(_NULLIFIER, wanted.info, token[:32])


def answers(blinded: list[bytes], evaluation: oprf.Evaluation) -> list[bytes]:
    """The answer to each request of a batch under one proof: all of them see the same elements."""
    both = {2: blinded, 3: list(evaluation.elements), 4: evaluation.proof}
    return [cbor.encode({1: _VERSION, **both, 5: at}) for at in range(len(blinded))]


def read_request(data: bytes, wanted: Wanted) -> tuple[bytes, bytes]:
    """The enrolment key that signed a request (32 bytes), and its blinded element (33 bytes).

    Raises:
        SignatureError: not signed by the key that it names.
        VerificationError: for another issuer, task or epoch, or not of this format.
    """
    if not isinstance(data, bytes) or len(data) > MAX_REQUEST:
        raise VerificationError("not a request for a token: ask the sender for the original bytes")
    parts = cose.parts1(data, REQUEST)
    found = fields.labelled(cbor.decode(parts.payload), range(1, 5))
    fields.integer(found[1], _VERSION, _VERSION)
    key = fields.octets(found[2], 32)
    parts.verify(key)
    if fields.octets(found[3], 32) != wanted.info:
        raise VerificationError("the request is for another issuer, task or epoch: send it there")
    return key, fields.octets(found[4], oprf.ELEMENT)


def _blinded(derive: Derive, wanted: Wanted) -> tuple[bytes, int, bytes]:
    """Input (32 bytes), blinding scalar in [1, ORDER) and blinded element (33 bytes) of the token that is wanted."""
    secret = derive(_SECRET + wanted.info)
    data = hkdf(secret, salt=b"", info=b"input")
    wide = hkdf(secret, salt=b"", info=b"blind", length=48)
    scalar = 1 + int.from_bytes(wide, "big") % (ORDER - 1)
    return data, scalar, oprf.blind(data, scalar)
