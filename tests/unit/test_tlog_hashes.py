"""The hashes that a store keeps beside the leaves: none is computed twice, and none can go astray."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasov.errors import ConflictError, StoreError
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.hashes import LEAVES, ROOTS, TILES, Hashes
from datasov.tlog.log import Log
from datasov.tlog.tree import Tree, consistency_of, inclusion_of, leaf_hash, root_of
from tests.helpers import MemoryStore
from tests.logs import KEY, ORIGIN, leaf


class Watched(MemoryStore):
    """A store that tells which leaves were read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
        found = super().read(stream, after, limit)
        if stream == LEAVES:
            self.seen += range(after, after + len(found))
        return found


def filled(size: int, store: MemoryStore | None = None) -> MemoryStore:
    store = store or MemoryStore()
    store.streams[LEAVES] = [leaf(n) for n in range(size)]
    return store


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 513, 1000])
def test_it_is_the_tree_of_all_leaves(size):
    hashes, tree = Hashes(filled(size)), Tree(leaf_hash(leaf(n)) for n in range(size))
    assert hashes.refresh() == hashes.size == size
    for part in {0, 1, size // 3, size // 2, max(size - 1, 0), size} & set(range(size + 1)):
        assert root_of(hashes.node, part) == tree.root(part)
        if part:
            assert inclusion_of(hashes.node, part - 1, size) == tree.inclusion(part - 1, size)
            assert consistency_of(hashes.node, part, size) == tree.consistency(part, size)


def test_who_opens_the_store_again_reads_only_the_leaves_after_the_last_whole_tile():
    store = filled(700, Watched())
    first = Hashes(store)
    first.refresh()
    assert store.seen == [*range(700)]
    assert (store.length(TILES), store.length(ROOTS)) == (2, 2)
    store.seen.clear()
    again = Hashes(store)
    assert again.refresh() == 700
    assert root_of(again.node, 700) == root_of(first.node, 700)
    assert inclusion_of(again.node, 3, 700) == inclusion_of(first.node, 3, 700)
    assert store.seen == [*range(512, 700)]


def test_leaves_in_memory_are_hashed_once_as_the_log_grows():
    store = Watched()
    hashes = Hashes(store)
    for n in range(600):
        store.streams.setdefault(LEAVES, []).append(leaf(n))
        hashes.refresh()
    assert store.seen == [*range(600)]
    assert root_of(hashes.node, 600) == Tree(leaf_hash(leaf(n)) for n in range(600)).root()


def test_a_store_that_cannot_keep_tiles_now_is_read_all_the_same_and_keeps_them_later():
    class Full(MemoryStore):
        full = True

        def append(self, batch, blobs=None):
            if self.full:
                raise StoreError("the disk is full")
            super().append(batch, blobs)

    store = filled(600, Full())
    hashes, tree = Hashes(store), Tree(leaf_hash(leaf(n)) for n in range(601))
    hashes.refresh()
    assert root_of(hashes.node, 600) == tree.root(600)
    assert store.length(TILES) == 0
    store.full = False
    store.streams[LEAVES].append(leaf(600))
    hashes.refresh()
    assert store.length(TILES) == store.length(ROOTS) == 2
    assert root_of(Hashes(store).node, 0) == tree.root(0)
    again = Hashes(store)
    again.refresh()
    assert root_of(again.node, 601) == tree.root(601)


def test_two_processes_keep_each_tile_once():
    class Racing(MemoryStore):
        other: Hashes | None = None

        def append(self, batch, blobs=None):
            if self.other is not None:
                other, self.other = self.other, None
                other.refresh()
                raise ConflictError("the other was first")
            super().append(batch, blobs)

    store = filled(256, Racing())
    slow, fast = Hashes(store), Hashes(store)
    store.other = fast
    slow.refresh()
    assert store.length(TILES) == 1
    store.streams[LEAVES] += [leaf(n) for n in range(256, 600)]
    slow.refresh()
    fast.refresh()
    tree = Tree(leaf_hash(leaf(n)) for n in range(600))
    assert store.streams[TILES] == [tree.hashes()[:8192], tree.hashes()[8192:16384]]
    assert store.streams[ROOTS] == [tree.node(8, 0), tree.node(8, 1)]
    for hashes in (slow, fast):
        assert root_of(hashes.node, 600) == tree.root()
        assert inclusion_of(hashes.node, 300, 600) == tree.inclusion(300, 600)


def test_a_log_that_lost_leaves_is_not_read():
    store = filled(512)
    Hashes(store).refresh()
    del store.streams[LEAVES][500:]
    with pytest.raises(StoreError, match="backup"):
        Hashes(store).refresh()


@pytest.mark.parametrize("wrong", [[], [b""], [bytes(8191)]])
def test_a_missing_tile_is_said(wrong):
    store = filled(512)
    Hashes(store).refresh()
    store.streams[TILES] = wrong
    again = Hashes(store)
    again.refresh()
    with pytest.raises(StoreError, match="tile"):
        inclusion_of(again.node, 3, 512)


def test_the_tiles_stand_under_the_chain_of_the_store(tmp_path: Path):
    store = SQLiteStore(tmp_path / "a.db", create=True, key=b"k" * 32)
    store.append({LEAVES: (0, [leaf(n) for n in range(600)])})
    root = Log(store, KEY, ORIGIN).checkpoint().root
    store.verify()
    store.close()
    store = SQLiteStore(tmp_path / "a.db", key=b"k" * 32)
    assert Log(store, KEY, ORIGIN).checkpoint().root == root
    store._db.execute("UPDATE entries SET body = ? WHERE stream = ? AND seq = 1", (bytes(8192), TILES))
    with pytest.raises(StoreError, match="changed"):
        store.verify()
    store.close()
