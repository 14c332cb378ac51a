"""Ticks: admissions and revocations enter the log in padded batches, at times that do not depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from datasov.tlog.leaves import BatchKind, batch_leaves, encode_leaf
from datasov.wire import cbor

_BATCHES: tuple[tuple[bytes, BatchKind], ...] = ((b"A", "admissions"), (b"R", "revocations"))
ADMISSION, REVOCATION = (mark for mark, _ in _BATCHES)


class Store(Protocol):
    """Streams with compare-and-append: `commitments` wait, `ticks` say what was published, `log` has the leaves."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


def commitment(mark: bytes, now: int, salted: bytes) -> bytes:
    """An entry of the stream `commitments`: a salted hash (32 bytes) that waits for its tick to end."""
    return mark + now.to_bytes(8, "big") + salted


def publish(store: Store, founded: int, tick: int, now: int) -> bool:
    """Append a padded batch of each kind for the ticks that are over since the last; False where none is.

    Args:
        founded, now: Unix seconds. tick: seconds of a tick.

    Raises:
        ConflictError: another process was first, or the log moved on: try again.
    """
    present, done, length = now // tick, store.length("ticks"), store.length("log")
    first, start = cbor.decode(store.read("ticks", done - 1, 1)[0]) if done else (founded // tick, 0)
    if present <= first:
        return False
    waiting = []
    for body in store.read("commitments", start):
        if int.from_bytes(body[1:9], "big") >= present * tick:
            break
        waiting.append(body)
    leaves = [
        encode_leaf(leaf)
        for mark, kind in _BATCHES
        for leaf in batch_leaves(kind, first, present - 1, {body[9:] for body in waiting if body[:1] == mark})
    ]
    store.append({"log": (length, leaves), "ticks": (done, [cbor.encode([present, start + len(waiting)])])})
    return True
