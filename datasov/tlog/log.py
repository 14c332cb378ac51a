"""A log over the leaves that a store keeps: it reads, hashes, proves and signs; the store appends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from datasov.crypto.sign import SigningKey
from datasov.errors import ProofError
from datasov.tlog.note import Checkpoint, sign_checkpoint
from datasov.tlog.tree import Tree, leaf_hash


class LogReader(Protocol):
    """What a resident or a monitor asks of a log, near or far. Whatever it answers is verified, never believed."""

    def checkpoint(self) -> Checkpoint:
        """The latest signed checkpoint."""
        ...

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """The bytes of the leaves from `start` to `end` (exclusive; the present end where None)."""
        ...

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` in the first `size` leaves."""
        ...

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` leaves are a prefix of the first `new`."""
        ...


class Log:
    """A view of the leaves of a store's stream, with the key that signs its checkpoints. Safe to share by threads.

    Args:
        read: `read(after)` gives the bytes of the leaves from index `after` on, in order. Leaves are appended
            elsewhere, in the same database transaction as what they record.
        key: the city's signing key.
        origin: the log's name; :func:`datasov.tlog.note.origin_of` derives it from the key.
    """

    __slots__ = ("_key", "_last", "_lock", "_read", "_tree", "origin")

    def __init__(self, read: Callable[[int], Sequence[bytes]], key: SigningKey, origin: str) -> None:
        self._read, self._key, self.origin = read, key, origin
        self._tree, self._lock = Tree(), threading.Lock()
        self._last: Checkpoint | None = None

    @property
    def public(self) -> bytes:
        """The key that verifies the checkpoints, 32 bytes."""
        return self._key.public

    @property
    def size(self) -> int:
        """Leaves that the store holds now."""
        with self._lock:
            return self._refresh()

    def checkpoint(self) -> Checkpoint:
        """The signed checkpoint over all leaves that the store holds now."""
        with self._lock:
            size = self._refresh()
            if self._last is None or self._last.size != size:
                self._last = sign_checkpoint(self.origin, size, self._tree.root(), self._key)
            return self._last

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """The bytes of the leaves from `start` to `end` (exclusive; all that there are where None).

        Raises:
            ProofError: the log has no such leaves.
        """
        if start < 0 or (end is not None and end < start):
            raise ProofError("no such leaves: give 0 <= start <= end")
        found = list(self._read(start))
        if end is not None and len(found) < end - start:
            raise ProofError("the log has fewer leaves: ask for its checkpoint again")
        return found if end is None else found[: end - start]

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` in the first `size` leaves; ProofError where the log is smaller."""
        with self._lock:
            self._grow(size)
            return self._tree.inclusion(index, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` leaves are a prefix of the first `new`; ProofError unless 1 <= old <= new."""
        with self._lock:
            self._grow(new)
            return self._tree.consistency(old, new)

    def _grow(self, size: int) -> None:
        if size > self._tree.size:
            self._refresh()

    def _refresh(self) -> int:
        for leaf in self._read(self._tree.size):
            self._tree.append(leaf_hash(leaf))
        return self._tree.size
