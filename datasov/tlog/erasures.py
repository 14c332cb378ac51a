"""What was erased enters the log: a padded batch in each public round, whether or not anything was erased in it.

Stream `erasures`: [time, hashes, shard or null] for each change that erased rows, as the registry writes it. Stream
`rounds`: what the log was told: [round, erasures told so far, salt, shards].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from datasov.crypto.kdf import random, sha256
from datasov.tlog.leaves import NoticeLeaf, encode_leaf, pad_batch
from datasov.wire import cbor, fields

SUBJECT = "erasure"
MAX_HASHES = 32_768
"""Hashes in one notice; a round with more of them has several."""
_KIND, _SHARDS = "datasov erasure v1", b"datasov erased shards v1"


class Store(Protocol):
    """Streams with compare-and-append."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


def due(store: Store, founded: int, every: int, now: int) -> bool:
    """Whether a round is over that the log was not told of. Rounds are counted from 1970, of `every` seconds each."""
    return now // every > _told(store, founded, every)[0]


def _told(store: Store, founded: int, every: int) -> tuple[int, int]:
    done = store.length("rounds")
    if not done:
        return founded // every, 0
    number, told, _, _ = fields.items(cbor.decode(store.read("rounds", done - 1, 1)[0]), 4, 4)
    return number, told


def publish(store: Store, founded: int, every: int, now: int) -> None:
    """Tell the log of all that was erased since the last round, where a round is over.

    Args:
        now: Unix seconds, which the notice names: what it tells of may have been erased in this very call, and no
            earlier.

    Raises:
        ConflictError: another process was first, or the log moved on: try again.
    """
    length, rounds = store.length("log"), store.length("rounds")
    first, told = _told(store, founded, every)
    present = now // every
    if present <= first:
        return
    found = [fields.items(cbor.decode(body), 3, 3) for body in store.read("erasures", told)]
    shards = [shard for _, _, shard in found if shard is not None]
    joined = b"".join(hashes for _, hashes, _ in found)
    padded = pad_batch({joined[i : i + 32] for i in range(0, len(joined), 32)})
    salt = random(32)
    leaves = []
    for at in range(0, len(padded), MAX_HASHES):
        body = cbor.encode(
            {1: _KIND, 2: first, 3: present - 1, 4: b"".join(padded[at : at + MAX_HASHES]), 5: committed(salt, shards)}
        )
        leaves.append(encode_leaf(NoticeLeaf(SUBJECT, now, sha256(body), body)))
    entry = cbor.encode([present, told + len(found), salt, shards])
    store.append({"log": (length, leaves), "rounds": (rounds, [entry])})


def committed(salt: bytes, shards: Sequence[Sequence[object]]) -> bytes:
    """What a notice says of the shards' files: a hash (32 bytes) that tells nothing without the salt (32 bytes).

    Args:
        shards: partition, number, generation and fingerprint before, generation and fingerprint after, for each change.
    """
    return sha256(_SHARDS, salt, cbor.encode([list(s) for s in shards]))


def hashes(notice: NoticeLeaf) -> frozenset[bytes]:
    """The hashes that a notice of erasures holds, decoys among them; none where it is of another subject.

    Raises:
        VerificationError: a notice of this subject in another form.
    """
    if notice.subject != SUBJECT:
        return frozenset()
    found = fields.labelled(cbor.decode(notice.body), range(1, 6))
    joined = fields.blob(found[4], MAX_HASHES * 32)
    return frozenset(joined[i : i + 32] for i in range(0, len(joined), 32))
