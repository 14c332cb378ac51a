"""A log in one file: its checkpoint and all its leaves, for whoever reads it elsewhere or offline."""

from __future__ import annotations

import struct
from pathlib import Path

from datasov.errors import ProofError, StoreError
from datasov.tlog.leaves import MAX_LEAF
from datasov.tlog.log import LogReader
from datasov.tlog.note import MAX_NOTE, Checkpoint, peek_checkpoint
from datasov.tlog.tree import Tree, leaf_hash

MAGIC = b"DSLOG\x00\x00\x01"
_LENGTH = struct.Struct(">I")


def write_log(log: LogReader, path: Path) -> int:
    """Write a log's checkpoint and the leaves under it to a new file; how many leaves.

    Magic, then the note and each leaf with its length in 32 bits, big-endian, before it.

    Raises:
        StoreError: the path exists, or the disk refuses.
    """
    checkpoint = log.checkpoint()
    leaves = log.leaves(0, checkpoint.size) if checkpoint.size else []
    try:
        with path.open("xb") as file:
            file.write(MAGIC)
            for part in (checkpoint.note, *leaves):
                file.write(_LENGTH.pack(len(part)) + part)
    except FileExistsError:
        raise StoreError(f"{path.name} exists already: choose another path") from None
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be written: {fault.strerror or fault}") from None
    return checkpoint.size


class HeldLog:
    """A log that somebody has all of: its checkpoint's note, and its leaves. A LogReader; nothing in it is believed."""

    def __init__(self, note: bytes, leaves: list[bytes]) -> None:
        self._note, self._leaves = note, leaves
        self._tree: Tree | None = None

    def checkpoint(self) -> Checkpoint:
        return peek_checkpoint(self._note)

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
        if end is not None and end > len(self._leaves):
            raise ProofError("the log has fewer leaves than its checkpoint says: get it again")
        return self._leaves[start:end]

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return self._grown().inclusion(index, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        return self._grown().consistency(old, new)

    def _grown(self) -> Tree:
        if self._tree is None:
            self._tree = Tree(leaf_hash(leaf) for leaf in self._leaves)
        return self._tree


def read_log(path: Path) -> HeldLog:
    """The log of a file that :func:`write_log` wrote.

    Raises:
        ProofError: the file is none, or not all of one. StoreError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise StoreError(f"{path.name} cannot be read: {fault.strerror or fault}") from None
    malformed = ProofError(f"{path.name} is no exported log, or not all of one: get it again")
    if not data.startswith(MAGIC):
        raise malformed
    parts, at = list[bytes](), len(MAGIC)
    while at < len(data):
        end = at + _LENGTH.size
        if end > len(data):
            raise malformed
        (length,) = _LENGTH.unpack_from(data, at)
        at = end + length
        if length > max(MAX_LEAF, MAX_NOTE) or at > len(data):
            raise malformed
        parts.append(data[end:at])
    if not parts:
        raise malformed
    return HeldLog(parts[0], parts[1:])
