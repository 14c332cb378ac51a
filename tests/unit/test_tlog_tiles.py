"""Paths, widths and forms of tiles and bundles, as C2SP tlog-tiles gives them."""

from __future__ import annotations

import pytest

from datasov.errors import ProofError
from datasov.tlog import tiles
from datasov.tlog.tree import Tree, leaf_hash


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"), (1, 256, "tile/0/001"), (999, 256, "tile/0/999"), (1000, 256, "tile/0/x001/000"),
        (1234067, 256, "tile/0/x001/x234/067"), (273, 112, "tile/0/273.p/112"), (1000, 1, "tile/0/x001/000.p/1"),
        (10**9, 255, "tile/0/x001/x000/x000/000.p/255"),
    ],
)  # fmt: skip
def test_paths_have_three_digits_a_step(index, width, path):
    assert tiles.path(tiles.tile_folder(0), index, width) == path


def test_a_tree_of_seventy_thousand_leaves_has_the_tiles_of_the_specification():
    found = {
        level: [w for i in range(300) if (w := tiles.width_at(70_000, level, i))] for level in tiles.levels(70_000)
    }
    assert found == {0: [256] * 273 + [112], 1: [256, 17], 2: [1]}


@pytest.mark.parametrize(("size", "levels"), [(0, 0), (1, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 3), (2**62, 8)])
def test_levels_begin_with_the_first_full_tile_below(size, levels):
    assert len(tiles.levels(size)) == levels
    assert all(tiles.width_at(size, level, 0) for level in tiles.levels(size))
    assert tiles.width_at(size, levels, 0) == 0


def test_a_tile_is_its_hashes_joined():
    hashes = [leaf_hash(bytes([n])) for n in range(5)]
    assert tiles.read_tile(b"".join(hashes), 5).root() == Tree(hashes).root()
    assert tiles.read_tile(b"".join(hashes), 5, 3).root() == Tree(hashes[:3]).root()
    for wrong in (b"", b"".join(hashes)[:-1], b"".join(hashes[:4]), b"".join(hashes) + bytes(32), None, "x" * 160):
        with pytest.raises(ProofError):
            tiles.read_tile(wrong, 5)


def test_a_bundle_is_leaves_with_their_lengths_in_two_bytes():
    data = tiles.write_bundle([b"", b"ab", b"\x00" * 300])
    assert data == b"\x00\x00" + b"\x00\x02ab" + b"\x01\x2c" + bytes(300)
    assert tiles.read_bundle(data, 3) == [b"", b"ab", bytes(300)]


def test_a_leaf_of_more_than_two_bytes_can_tell_makes_the_bundle_wide():
    long = [b"x" * tiles.MAX_ENTRY, b"y"]
    assert not tiles.is_wide(long)
    assert tiles.read_bundle(tiles.write_bundle(long), 2) == long
    long[0] += b"x"
    assert tiles.is_wide(long)
    data = tiles.write_bundle(long)
    assert data[:4] == b"\x00\x01\x00\x00"
    assert tiles.read_bundle(data, 2, wide=True) == long


def test_malformed_bundles_are_refused():
    data = tiles.write_bundle([b"one", b"two"])
    for wrong, width in (
        (data, 1), (data, 3), (data[:-1], 2), (data + b"\x00", 2), (data + b"\x00\x00", 2), (b"", 1), (b"\x00", 1),
        (None, 2), (data[:6], 2),
    ):  # fmt: skip
        with pytest.raises(ProofError, match="bundle"):
            tiles.read_bundle(wrong, width)
    with pytest.raises(ProofError, match="bundle"):
        tiles.read_bundle(data, 2, wide=True)
