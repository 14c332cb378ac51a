"""The chain of a store's appends: the same bytes whatever database keeps them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from datasov.errors import StoreError

Batch = Mapping[str, tuple[int, Sequence[bytes]]]
"""Stream to (the length it must have, bodies to append); no bodies means only that the length is compared."""
Blobs = Mapping[str, bytes | None]
"""Name to the bytes that a blob gets; None: it is deleted."""


def record(batch: Batch, blobs: Blobs) -> str:
    """What an append says of itself: its streams, with where they stood and how many bodies, and its blobs' hashes."""
    return json.dumps(
        [
            [[stream, at, len(bodies)] for stream, (at, bodies) in sorted(batch.items())],
            [[n, None if b is None else hashlib.sha256(b).hexdigest()] for n, b in sorted(blobs.items())],
        ]
    )


def link(key: bytes, chain: bytes, appended: str, bodies: Sequence[bytes]) -> bytes:
    """The chain's next value (32 bytes), from the last one, what an append says of itself, and its bodies."""
    mac = hmac.new(key, chain + hashlib.sha256(appended.encode()).digest(), "sha256")
    for body in bodies:
        mac.update(hashlib.sha256(body).digest())
    return mac.digest()


def extended(key: bytes, chain: bytes, batch: Batch, blobs: Blobs) -> tuple[str, bytes]:
    """The record of an append, and the value of the chain after it."""
    appended = record(batch, blobs)
    return appended, link(key, chain, appended, [body for _, (_, bodies) in sorted(batch.items()) for body in bodies])


def follow(
    key: bytes, heads: Iterable[tuple[int, bytes, str]], read: Callable[[str, int, int], list[bytes]]
) -> tuple[set[tuple[str, int, int]], dict[str, str]]:
    """Follow a chain from its start, and give what must then be there.

    Args:
        heads: position, value and record of every append, in order.
        read: the bodies of a stream from an index on, at most so many.

    Returns:
        (stream, number of bodies, the same number) of every stream that holds any; hexadecimal SHA-256 of each blob.

    Raises:
        StoreError: what is there is not what was appended under this key. Or ValueError, TypeError, LookupError, where
            a record is none at all.
    """
    chain, lengths, blobs = bytes(32), dict[str, int](), dict[str, str]()
    for count, (position, found, appended) in enumerate(heads, 1):
        streams, named = json.loads(appended)
        bodies: list[bytes] = []
        for stream, at, many in streams:
            held = read(stream, at, many)
            if lengths.get(stream, 0) != at or len(held) != many:
                raise changed()
            lengths[stream] = at + many
            bodies += held
        chain = link(key, chain, appended, bodies)
        if position != count or not hmac.compare_digest(chain, found):
            raise changed()
        blobs.update(named)
    return {(stream, many, many) for stream, many in lengths.items() if many}, {n: p for n, p in blobs.items() if p}


def changed() -> StoreError:
    """The error where a store was written to without its key."""
    return StoreError("the city's database was changed without its key: bring back an unchanged copy")


def behind() -> StoreError:
    """The error where a store does not reach a position that it must have."""
    return StoreError("the store lies behind its anchor: bring back the newest copy")


def no_blob() -> StoreError:
    """The error where a blob is missing."""
    return StoreError("a blob that the registry names is missing: restore the city from a backup")
