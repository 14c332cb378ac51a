"""Ticks: admissions and revocations enter the log in padded batches, at times that do not depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from datasov.crypto.kdf import random
from datasov.errors import ConflictError, StoreError
from datasov.tlog.leaves import BatchKind, batch_leaves, encode_leaf
from datasov.wire import cbor

_BATCHES: tuple[tuple[bytes, BatchKind], ...] = ((b"A", "admissions"), (b"R", "revocations"))
ADMISSION, REVOCATION = (mark for mark, _ in _BATCHES)


class Store(Protocol):
    """Streams and blobs: `commitments` wait, `ticks` say what was published, `log` has the leaves."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(
        self, batch: Mapping[str, tuple[int, Sequence[bytes]]], blobs: Mapping[str, bytes | None] | None = None
    ) -> None: ...
    def length(self, stream: str) -> int: ...
    def blob(self, name: str) -> bytes: ...


def waiting(mark: bytes, now: int, salted: Sequence[bytes]) -> tuple[list[bytes], dict[str, bytes]]:
    """What a transaction adds for the salted hashes (32 bytes each) of what it records: they wait for a tick to end.

    An entry of the stream `commitments`, and a blob with the hashes, which publishing takes away: after that nothing in
    the store says which of a batch's hashes came with which transaction. A stream forgets nothing, so they are in none;
    and what the chain keeps of a blob, its hash, tells nothing, since the blob begins with 32 random bytes.
    """
    if not salted:
        return [], {}
    name = random(16)
    return [mark + now.to_bytes(8, "big") + name], {_blob(name): random(32) + b"".join(salted)}


def _blob(name: bytes) -> str:
    return f"waiting/{name.hex()}"


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
    over: dict[bytes, set[bytes]] = {mark: set() for mark, _ in _BATCHES}
    named: list[str] = []
    for body in store.read("commitments", start):
        if int.from_bytes(body[1:9], "big") >= present * tick:
            break
        named.append(_blob(body[9:]))
        over[body[:1]].update(_hashes(store, named[-1], done))
    leaves = [
        encode_leaf(leaf) for mark, kind in _BATCHES for leaf in batch_leaves(kind, first, present - 1, over[mark])
    ]
    ended = {"log": (length, leaves), "ticks": (done, [cbor.encode([present, start + len(named)])])}
    store.append(ended, dict.fromkeys(named))
    return True


def _hashes(store: Store, name: str, done: int) -> list[bytes]:
    try:
        held = store.blob(name)[32:]
    except StoreError:
        if store.length("ticks") == done:
            raise
        raise ConflictError("another process published first: read again") from None
    return [held[at : at + 32] for at in range(0, len(held), 32)]
