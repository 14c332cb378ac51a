"""Tiles against the tree, for any sizes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.tlog import tiles
from datasov.tlog.mirror import TileLog
from datasov.tlog.tree import Tree, leaf_hash, verify_consistency, verify_inclusion
from tests.logs import KEY, files_of, grow, leaf, log_of, served, tiles_of

sizes = st.one_of(st.integers(1, 1100), st.sampled_from([255, 256, 257, 511, 512, 513, 65_536, 65_537]))


@settings(max_examples=30, deadline=None)
@given(sizes, st.data())
def test_proofs_from_tiles_are_those_of_the_tree(size, data):
    log, tree = log_of(size), Tree(leaf_hash(leaf(n)) for n in range(size))
    old, index = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))
    reader = TileLog(served(tiles_of(log)), KEY.public)
    assert reader.checkpoint().root == tree.root()
    assert reader.inclusion(index, size) == tree.inclusion(index, size)
    assert reader.consistency(old, size) == tree.consistency(old, size)
    verify_inclusion(leaf_hash(leaf(index)), index, size, reader.inclusion(index, size), tree.root())
    verify_consistency(old, size, tree.root(old), tree.root(), reader.consistency(old, size))
    if index < old:
        assert reader.inclusion(index, old) == tree.inclusion(index, old), "of an earlier size too"
    assert reader.leaves(index, min(index + 300, size)) == [leaf(n) for n in range(index, min(index + 300, size))]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_a_log_published_step_by_step_is_the_log_published_at_once(steps):
    with tempfile.TemporaryDirectory() as name:
        folder, log, reader = Path(name), log_of(0), None
        for step in steps:
            start = log.size
            grow(log, *(leaf(n) for n in range(start, start + step)))
            log.publish(folder / "a")
            reader = reader or TileLog(folder / "a", KEY.public)
            assert reader.checkpoint().size == start + step
            assert reader.leaves(start) == log.leaves(start)
        whole = tiles_of(log_of(sum(steps)))
        assert {name: data for name, data in files_of(folder / "a").items() if name in whole} == whole


@given(st.integers(0, 2**62), st.integers(0, 8))
def test_the_partial_tiles_of_a_size_hold_just_its_peaks(size, level):
    width = (size >> 8 * level) % 256
    index = size >> 8 * (level + 1)
    assert tiles.width_at(size, level, index) == width
    assert index == 0 or tiles.width_at(size, level, index - 1) == 256


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256), st.booleans())
def test_bundles_read_back(leaves, long):
    leaves = [*leaves[:-1], leaves[-1] + bytes(tiles.MAX_ENTRY)] if long else leaves
    data = tiles.write_bundle(leaves)
    assert tiles.read_bundle(data, len(leaves), wide=tiles.is_wide(leaves)) == leaves
