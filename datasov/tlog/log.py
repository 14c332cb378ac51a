"""A log over the leaves that a store keeps: it reads, hashes, proves, signs and publishes; the store appends."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from datasov.crypto.sign import SigningKey
from datasov.errors import ConflictError, ProofError
from datasov.tlog.cosignature import Cosigner, attach
from datasov.tlog.hashes import LEAVES, Hashes, Store
from datasov.tlog.note import Checkpoint, open_checkpoint, sign_checkpoint
from datasov.tlog.publish import publish
from datasov.tlog.tree import check_size, consistency_of, inclusion_of, root_of

COSIGNED = "log/cosigned"
"""Stream: notes of checkpoints with cosignatures; the last one counts."""


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
    """A view of the stream `log` of a store, with the key that signs its checkpoints. Safe to share by threads.

    Args:
        store: leaves are appended to it elsewhere, in the same transaction as what they record. The log itself keeps
            hashes and cosignatures there.
        key: the city's signing key.
        origin: the log's name; :func:`datasov.tlog.note.origin_of` derives it from the key.
    """

    __slots__ = ("_hashes", "_key", "_last", "_lock", "_store", "origin")

    def __init__(self, store: Store, key: SigningKey, origin: str) -> None:
        self._store, self._key, self.origin = store, key, origin
        self._hashes, self._lock = Hashes(store), threading.RLock()
        self._last: Checkpoint | None = None

    @property
    def public(self) -> bytes:
        """The key that verifies the checkpoints, 32 bytes."""
        return self._key.public

    @property
    def size(self) -> int:
        """Leaves that the store holds now."""
        with self._lock:
            return self._hashes.refresh()

    def checkpoint(self) -> Checkpoint:
        """The signed checkpoint over all leaves that the store holds now, with what :meth:`cosign` attached to it."""
        with self._lock:
            size = self._hashes.refresh()
            if self._last is None or self._last.size != size:
                self._last = self._signed(size)
            cosigned = self.cosigned()
            return cosigned if cosigned is not None and cosigned.size == size else self._last

    def cosigned(self) -> Checkpoint | None:
        """The last checkpoint that :meth:`cosign` was given cosignatures of, which the log may have outgrown."""
        with self._lock:
            count = self._store.length(COSIGNED)
            note = self._store.read(COSIGNED, count - 1, 1)[0] if count else None
            try:
                return None if note is None else open_checkpoint(note, self.origin, self.public)
            except ProofError:  # signed by a key that this city had before
                return None

    def cosign(self, cosignatures: str | bytes, witnesses: Iterable[str | Cosigner]) -> Checkpoint:
        """Attach cosignatures to the checkpoint that is served; the checkpoint with them. Durable.

        Args:
            cosignatures: signature lines of the present checkpoint; or a whole note, of this log's checkpoint at the
                present or an earlier size, with such lines.
            witnesses: whose lines are taken, as verifier keys: those of others are passed over.

        Raises:
            ProofError: no line of these witnesses is there, one does not verify, or the note is not this log's.
        """
        data = cosignatures.encode() if isinstance(cosignatures, str) else cosignatures
        known = [w if isinstance(w, Cosigner) else Cosigner.parse(w) for w in witnesses]
        while True:
            with self._lock:
                count, before = self._store.length(COSIGNED), self.cosigned()
                given = self.checkpoint().note + data if data.startswith("— ".encode()) else data
                found = open_checkpoint(given, self.origin, self.public)
                own = self._signed(check_size(found.size, self._hashes.refresh()))
                if own.root != found.root:
                    raise ProofError("a checkpoint of another tree than this log's: keep it, somebody forked the log")
                if before is not None and before.size > own.size:
                    raise ProofError("a later checkpoint is cosigned already: ask the witness for that one")
                base = before if before is not None and before.size == own.size else own
                merged = attach(base.note, given, known)
                try:
                    self._store.append({COSIGNED: (count, [merged])})
                except ConflictError:
                    continue
                return open_checkpoint(merged, self.origin, self.public)

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """The bytes of the leaves from `start` to `end` (exclusive; all that there are where None).

        Raises:
            ProofError: the log has no such leaves.
        """
        if start < 0 or (end is not None and end < start):
            raise ProofError("no such leaves: give 0 <= start <= end")
        found = list(self._store.read(LEAVES, start, -1 if end is None else end - start))
        if end is not None and len(found) < end - start:
            raise ProofError("the log has fewer leaves: ask for its checkpoint again")
        return found

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` in the first `size` leaves; ProofError where the log is smaller."""
        with self._lock:
            return inclusion_of(self._hashes.node, index, self._grown(size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` leaves are a prefix of the first `new`; ProofError unless 1 <= old <= new."""
        with self._lock:
            return consistency_of(self._hashes.node, old, self._grown(new))

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves; ProofError where the log is smaller."""
        with self._lock:
            return root_of(self._hashes.node, self._grown(size))

    def node(self, level: int, index: int) -> bytes:
        """The root over the 2**level leaves from index * 2**level on, for tiles; ProofError where there are fewer."""
        with self._lock:
            if (index + 1) << level > self._hashes.size:
                self._hashes.refresh()
            return self._hashes.node(level, index)

    def publish(self, folder: str | Path, *, cosigned: bool = False) -> Checkpoint:
        """Write the log to a folder as tiles, for any static host: what is new since the last time; the checkpoint.

        Args:
            folder: made where nothing is. :class:`datasov.tlog.mirror.TileLog` reads it.
            cosigned: up to the last checkpoint that is cosigned, and not to the present end.

        Raises:
            ProofError: the folder holds another log, or a tree that this one does not continue. StoreError: the disk.
        """
        at = self.cosigned() if cosigned else self.checkpoint()
        if at is None:
            raise ProofError("no checkpoint of this log is cosigned: ask its witnesses first")
        return publish(self, Path(folder), at)

    def _signed(self, size: int) -> Checkpoint:
        return sign_checkpoint(self.origin, size, root_of(self._hashes.node, size), self._key)

    def _grown(self, size: int) -> int:
        if not isinstance(size, int) or size > self._hashes.size:
            self._hashes.refresh()
        return check_size(size, self._hashes.size)
