"""What aggregators say to each other and to the city: signed, and bound to what it answers. docs/spec/two-server.md"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from datasov.crypto.kdf import sha256
from datasov.crypto.seal import OpeningKey, seal
from datasov.crypto.sign import SigningKey
from datasov.errors import VerificationError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId
from datasov.mpc.task import Task
from datasov.wire import cbor, cose, fields

Post: TypeAlias = Callable[[AggregatorId, str, bytes], bytes]
"""Sends a body to a path of an aggregator, and gives its answer; a DatasovError where it is refused."""

REQUEST, REPLY, SHARE = "datasov aggregator request v1", "datasov aggregator reply v1", "datasov aggregate share v1"
MOST_BODY = 64 * 1024 * 1024
"""Bytes in a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A signed request to the other aggregator, ready to be sent."""

    to: AggregatorId
    path: str
    digest: bytes
    message: bytes

    def send(self, post: Post) -> Any:
        """Send it; what the other answered, once that is signed for this very request.

        Raises:
            VerificationError: the answer is not signed by that aggregator for this request.
        """
        answer = post(self.to, self.path, self.message)
        digest, found = fields.items(cbor.decode(cose.open1(answer, self.to.verify_key, REPLY)), 2, 2)
        if digest != self.digest:
            raise VerificationError("an answer to another request: ask the other aggregator again")
        return cbor.decode(fields.blob(found, MOST_BODY))


def request(key: SigningKey, to: AggregatorId, path: str, body: object) -> Request:
    """A request that is signed for that aggregator and path."""
    content = cbor.encode([to.verify_key, path, cbor.encode(body)])
    return Request(to, path, sha256(content), cose.sign1(content, key, REQUEST))


def asked(request: bytes, path: str, me: AggregatorId, sender: Callable[[Any], bytes]) -> tuple[Any, bytes]:
    """The body of a request that was signed for this aggregator and path, and its digest (32 bytes).

    Args:
        sender: gives, of the body that is not verified yet, the key that must have signed it.

    Raises:
        VerificationError: (or its subclasses) from somebody else, for somebody else, or for another path.
    """
    parts = cose.parts1(request, REQUEST)
    to, where, told = fields.items(cbor.decode(parts.payload), 3, 3)
    body = cbor.decode(fields.blob(told, MOST_BODY))
    parts.verify(sender(body))
    if to != me.verify_key or where != path:
        raise VerificationError("a request to another aggregator, or for another path")
    return body, sha256(parts.payload)


def reply(digest: bytes, body: bytes, key: SigningKey) -> bytes:
    """A signed answer to the request with this digest; `body` is its encoding."""
    return cose.sign1(cbor.encode([digest, body]), key, REPLY)


def pack(items: Sequence[bytes | None], size: int) -> bytes:
    """Byte strings of one size, one after the other, each behind a byte of 1; for None, zeros."""
    blank = bytes(1 + size)
    return b"".join([blank if item is None else b"\1" + item for item in items])


def unpack(data: object, size: int, count: int) -> list[bytes | None]:
    """What :func:`pack` was given, so many; VerificationError where it is of another length or form."""
    whole, step = fields.octets(data, count * (1 + size)), 1 + size
    flags = whole[::step]
    if flags.translate(None, b"\0\1"):
        raise VerificationError("neither there nor left out: these bytes are not of this format")
    return [whole[at * step + 1 : (at + 1) * step] if flag else None for at, flag in enumerate(flags)]


@dataclass(frozen=True, slots=True)
class Share:
    """An aggregate share as the city opens it.

    Attributes:
        reports: how many are in it.
        checksum: exclusive or of the SHA-256 of their nonces, 32 bytes.
        shares: with its aggregator's noise, one for each statistic.
    """

    reports: int
    checksum: bytes
    shares: tuple[bytes, ...]


def pack_share(task: Task, role: int, share: Share, key: SigningKey) -> bytes:
    """A share signed by its aggregator and sealed to the city."""
    sealed = seal(CityId.parse(task.city).seal_key, cbor.encode(list(share.shares)), _info(task, role))
    return cose.sign1(cbor.encode([task.id, role, share.reports, share.checksum, sealed]), key, SHARE)


def open_share(data: bytes, task: Task, role: int, key: OpeningKey) -> Share:
    """The share of an aggregator.

    Raises:
        VerificationError: (or its subclasses) not signed by it for this task, or not sealed to this key.
    """
    content = cose.open1(data, task.trust.aggregators[role].verify_key, SHARE)
    found, number, reports, checksum, sealed = fields.items(cbor.decode(content), 5, 5)
    if found != task.id or number != role:
        raise VerificationError("an aggregate share of another task: ask the aggregators again")
    opened = fields.items(cbor.decode(key.open(fields.blob(sealed, MOST_BODY), _info(task, role))), 1, 1024)
    shares = tuple(fields.blob(share, MOST_BODY) for share in opened)
    return Share(fields.integer(reports, 0, 2**62), fields.octets(checksum, 32), shares)


def _info(task: Task, role: int) -> bytes:
    return SHARE.encode() + task.id + bytes([role])
