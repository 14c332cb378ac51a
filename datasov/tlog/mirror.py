"""Reading a log from tiles: from a folder, or from whatever gives the bytes at a path. Nothing it gives is believed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from datasov.errors import ProofError
from datasov.tlog import tiles
from datasov.tlog.leaves import MAX_LEAF
from datasov.tlog.note import MAX_NOTE, Checkpoint, open_checkpoint, origin_of
from datasov.tlog.tiles import HEIGHT, TILE
from datasov.tlog.tree import (
    HASH,
    Tree,
    check_size,
    consistency_of,
    inclusion_of,
    leaf_hash,
    root_of,
    verify_consistency,
)

Read: TypeAlias = Callable[[str], bytes]
"""`read(path)`: the bytes at a path such as `tile/0/000`; an OSError or a LookupError where there are none."""
_CACHED = 256


class TileLog:
    """A :class:`datasov.tlog.log.LogReader` over tiles, for any number of threads.

    Every hash and every leaf that it gives was checked up to the root of a checkpoint that the log's key signed: the
    partial tiles hash to the root, a full tile to its place in the tile above, a leaf to its place in a tile. The
    checkpoints that one reader sees only grow, each shown to continue the one before.

    Args:
        place: a folder that :meth:`datasov.tlog.log.Log.publish` wrote, or `read(path)`.
        public: the log's key, 32 bytes: take it from the city's id, never from the mirror.
        seen: the note of a checkpoint that was seen before: an older log is refused.
        origin: the log's name, where it does not follow from the key: of a log whose key was replaced.
    """

    __slots__ = ("_lock", "_read", "_view", "origin", "public")

    def __init__(
        self, place: str | Path | Read, public: bytes, *, seen: bytes | None = None, origin: str | None = None
    ) -> None:
        self._read = folder(Path(place)) if isinstance(place, str | Path) else place
        self.public, self._lock = public, threading.RLock()
        self.origin = origin_of(public) if origin is None else origin
        self._view: _View | None = None
        if seen is not None:
            self._view = _View(self._read, open_checkpoint(seen, self.origin, public))

    def checkpoint(self) -> Checkpoint:
        """The mirror's checkpoint, read anew.

        Raises:
            ProofError: missing, not signed by the log's key, or not shown to continue what this reader saw before.
        """
        with self._lock:
            found = open_checkpoint(_get(self._read, tiles.CHECKPOINT, MAX_NOTE), self.origin, self.public)
            view, before = _View(self._read, found), self._view
            view.check()
            if before is not None:
                old = before.checkpoint
                if found.size < old.size:
                    raise ProofError("the log is shorter than it was: keep the old checkpoint, ask another mirror")
                if old.size:
                    proof = consistency_of(view.node, old.size, found.size)
                    verify_consistency(old.size, found.size, old.root, found.root, proof)
                view.take(before)
            self._view = view
            return found

    def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """The leaves from `start` to `end` (exclusive; the end of the last checkpoint where None), verified."""
        view = self._at(0 if end is None else end)
        end = view.checkpoint.size if end is None else end
        if not 0 <= start <= end:
            raise ProofError("no such leaves: give 0 <= start <= end")
        found: list[bytes] = []
        for index in range(start // TILE, -(-end // TILE)):
            bundle, first = view.bundle(index), index * TILE
            found += bundle[max(start - first, 0) : end - first]
        return found

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` in the first `size` leaves."""
        return inclusion_of(self._at(size).node, index, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` leaves are a prefix of the first `new`."""
        return consistency_of(self._at(new).node, old, new)

    def node(self, level: int, index: int) -> bytes:
        """The root over the 2**level leaves from index * 2**level on, verified."""
        return self._at((index + 1) << level).node(level, index)

    def _at(self, size: int) -> _View:
        with self._lock:
            if self._view is None or size > self._view.checkpoint.size or not self._view.checked:
                self.checkpoint()
            assert self._view is not None
            check_size(size, self._view.checkpoint.size)
            return self._view


class _View:
    """The tree of one checkpoint. Tiles are asked for once, verified, and the last few of them kept."""

    def __init__(self, read: Read, checkpoint: Checkpoint) -> None:
        self._read, self.checkpoint, self.checked = read, checkpoint, False
        self._edges: dict[int, Tree] = {}
        self._full: OrderedDict[tuple[int, int], Tree] = OrderedDict()
        self._lock = threading.RLock()

    def check(self) -> None:
        """Raise ProofError unless the mirror has the partial tiles of this tree, and they hash to its root."""
        size = self.checkpoint.size
        for level in tiles.levels(size):
            index = size >> HEIGHT * (level + 1)
            width = tiles.width_at(size, level, index)
            if width:
                self._edges[level] = self._tile_file(level, index, width)
        if root_of(self.node, size) != self.checkpoint.root:
            raise ProofError("the tiles do not hash to the checkpoint's root: read the log from another place")
        self.checked = True

    def take(self, before: _View) -> None:
        """Keep the verified full tiles of a tree that this one is shown to continue."""
        self._full = OrderedDict({**before._full, **self._full})

    def node(self, level: int, index: int) -> bytes:
        height, rest = divmod(level, HEIGHT)
        tile, at = divmod(index, TILE >> rest)
        return self._tile(height, tile).node(rest, at)

    def bundle(self, index: int) -> list[bytes]:
        """The leaves of a bundle, verified."""
        width = tiles.width_at(self.checkpoint.size, 0, index)
        leaves = self._bundle_file(index, width)
        hashes = self._tile(0, index)
        if any(leaf_hash(leaf) != hashes.node(0, at) for at, leaf in enumerate(leaves)):
            raise ProofError("a leaf that the log does not hold: read the log from another place")
        return leaves

    def _tile(self, level: int, index: int) -> Tree:
        size = self.checkpoint.size
        if tiles.width_at(size, level, index) < TILE:
            return self._edges[level] if index == size >> HEIGHT * (level + 1) and level in self._edges else Tree()
        with self._lock:
            found = self._full.get((level, index))
            if found is None:
                found = self._tile_file(level, index, TILE)
                if found.root() != self._tile(level + 1, index // TILE).node(0, index % TILE):
                    raise ProofError("a tile that does not hash to its place: read the log from another place")
                self._full[level, index] = found
                if len(self._full) > _CACHED:
                    self._full.popitem(last=False)
            self._full.move_to_end((level, index))
            return found

    def _tile_file(self, level: int, index: int, width: int) -> Tree:
        data, found = _part(self._read, tiles.tile_folder(level), index, width, HASH)
        return tiles.read_tile(data, found, width)

    def _bundle_file(self, index: int, width: int) -> list[bytes]:
        try:
            data, found = _part(self._read, tiles.ENTRIES, index, width, tiles.MAX_ENTRY + 2)
            return tiles.read_bundle(data, found)[:width]
        except ProofError:
            data, found = _part(self._read, tiles.WIDE, index, width, MAX_LEAF + 4)
            return tiles.read_bundle(data, found, wide=True)[:width]


def _part(read: Read, where: str, index: int, width: int, most: int) -> tuple[bytes, int]:
    """A partial tile or bundle, or where it is gone the full one that took its place; and how many it holds.

    Args:
        most: bytes for each of what it holds.
    """
    try:
        return _get(read, tiles.path(where, index, width), width * most), width
    except ProofError:
        if width == TILE:
            raise
        return _get(read, tiles.path(where, index), TILE * most), TILE


def _get(read: Read, path: str, most: int) -> bytes:
    try:
        data = read(path)
    except (OSError, LookupError):
        raise ProofError(f"the log's {path} cannot be read: try again, or read it from another place") from None
    if type(data) is not bytes or len(data) > most:
        raise ProofError(f"the log's {path} is too long or no bytes: read the log from another place")
    return data


def folder(path: Path) -> Read:
    """Reading from a folder."""

    def read(name: str) -> bytes:
        with open(path / name, "rb") as file:
            return file.read(TILE * (MAX_LEAF + 4) + 1)

    return read
