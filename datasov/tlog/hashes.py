"""The hashes of a log's tree: whole tiles of leaf hashes in the store, beside the leaves, and the rest in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

from datasov.errors import StoreError
from datasov.tlog.tiles import HEIGHT, TILE, read_tile
from datasov.tlog.tree import HASH, Tree, leaf_hash

LEAVES, TILES, ROOTS = "log", "log/tiles", "log/roots"
"""Streams: the leaves; of every 256 of them the hashes, joined; and the root of these."""
_PAGE, _CACHED = 256 * TILE, 256


class Store(Protocol):
    """Streams with compare-and-append."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


class Hashes:
    """The complete subtrees of a growing log, by :data:`datasov.tlog.tree.Node`. Not for several threads at once.

    A leaf is hashed once: whoever opens the store again reads what was kept, under the store's own chain, and hashes
    the leaves after the last whole tile. In memory are the roots of the tiles (a quarter of a byte a leaf), the last
    tile, and the few tiles that were looked at last.
    """

    __slots__ = ("_last", "_looked", "_opened", "_roots", "_store", "_unkept")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._roots, self._last, self._opened = Tree(), Tree(), False
        self._unkept: dict[int, Tree] = {}
        self._looked: OrderedDict[int, Tree] = OrderedDict()

    @property
    def size(self) -> int:
        """Leaves that are hashed."""
        return self._roots.size * TILE + self._last.size

    def refresh(self) -> int:
        """Take in the leaves that the store has got since; how many there are now.

        Raises:
            StoreError: the store fails, or has hashes of more leaves than it has.
        """
        if not self._opened:
            self._roots.extend(self._store.read(ROOTS))
            if self._roots.size * TILE > self._store.length(LEAVES):
                raise StoreError("the log is shorter than its hashes: restore the city from a backup")
            self._opened = True
        while True:
            leaves = self._store.read(LEAVES, self.size, _PAGE)
            self._add([leaf_hash(leaf) for leaf in leaves])
            self._keep()
            if len(leaves) < _PAGE:
                return self.size

    def node(self, level: int, index: int) -> bytes:
        """The root over the 2**level leaves from index * 2**level on; ProofError where they are not there."""
        if level >= HEIGHT:
            return self._roots.node(level - HEIGHT, index)
        tile, at = divmod(index, TILE >> level)
        return self._tile(tile).node(level, at)

    def _tile(self, index: int) -> Tree:
        if index >= self._roots.size:
            return self._last if index == self._roots.size else Tree()
        if index in self._unkept:
            return self._unkept[index]
        if index not in self._looked:
            kept = self._store.read(TILES, index, 1)
            if not kept or len(kept[0]) != TILE * HASH:
                raise StoreError("a tile of the log is missing: restore the city from a backup")
            self._looked[index] = read_tile(kept[0], TILE)
            if len(self._looked) > _CACHED:
                self._looked.popitem(last=False)
        self._looked.move_to_end(index)
        return self._looked[index]

    def _add(self, hashes: Sequence[bytes]) -> None:
        at = 0
        while at < len(hashes):
            part = hashes[at : at + TILE - self._last.size]
            self._last.extend(part)
            at += len(part)
            if self._last.size == TILE:
                self._unkept[self._roots.size] = self._last
                self._roots.append(self._last.root())
                self._last = Tree()

    def _keep(self) -> None:
        """Keep whole tiles; where the store refuses, or another process is first, they stay here until next time."""
        if not self._unkept:
            return
        try:
            kept = self._store.length(ROOTS)
            new = [tree for index, tree in sorted(self._unkept.items()) if index >= kept]
            if new:
                self._store.append({TILES: (kept, [t.hashes() for t in new]), ROOTS: (kept, [t.root() for t in new])})
        except StoreError:
            return
        self._unkept.clear()
