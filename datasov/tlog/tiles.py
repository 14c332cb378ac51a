"""Tiles: a log's hashes and leaves as files that never change (C2SP tlog-tiles), their paths and their forms."""

from __future__ import annotations

from collections.abc import Sequence

from datasov.errors import ProofError
from datasov.tlog.tree import HASH, Tree

HEIGHT = 8
"""Levels of the tree in a tile."""
TILE = 1 << HEIGHT
"""Hashes in a full tile, leaves in a full bundle."""
MAX_ENTRY = 65_535
"""Bytes of a leaf in a bundle of the standard form; bundles with a longer one are wide."""
CHECKPOINT = "checkpoint"
ENTRIES, WIDE = "tile/entries", "datasov/entries"
"""Where bundles are: the standard ones, with lengths of two bytes, and the wide ones, with lengths of four."""


def tile_folder(level: int) -> str:
    """Where the tiles of a level are."""
    return f"tile/{level}"


def path(folder: str, index: int, width: int = TILE) -> str:
    """The path of a tile or a bundle: `tile/0/x001/x234/067`, with `.p/W` where it is partial."""
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return f"{folder}/{name}" if width == TILE else f"{folder}/{name}.p/{width}"


def width_at(size: int, level: int, index: int) -> int:
    """How many hashes a tile has in a tree of `size` leaves: 256 where it is full, 0 where there is none."""
    return max(0, min(TILE, (size >> HEIGHT * level) - index * TILE))


def levels(size: int) -> range:
    """The levels on which a tree of `size` leaves has tiles."""
    return range(-(-size.bit_length() // HEIGHT))


def read_tile(data: object, width: int, first: int | None = None) -> Tree:
    """The tree over the `first` hashes (all where None) of a tile; ProofError unless it has exactly `width`."""
    if type(data) is not bytes or len(data) != width * HASH:
        raise ProofError("a tile of a wrong length: read the log from another place")
    tree = Tree()
    tree.extend_joined(data[: (width if first is None else first) * HASH])
    return tree


def is_wide(leaves: Sequence[bytes]) -> bool:
    """Whether a bundle of these leaves needs the wide form."""
    return any(len(leaf) > MAX_ENTRY for leaf in leaves)


def write_bundle(leaves: Sequence[bytes]) -> bytes:
    """The leaves, each after its big-endian length of two bytes, or of four where one is longer than 65,535 bytes."""
    prefix = 4 if is_wide(leaves) else 2
    return b"".join(part for leaf in leaves for part in (len(leaf).to_bytes(prefix, "big"), leaf))


def read_bundle(data: object, width: int, *, wide: bool = False) -> list[bytes]:
    """The leaves of a bundle; ProofError unless it holds exactly `width` and nothing else."""
    malformed = ProofError("a malformed bundle of leaves: read the log from another place")
    if type(data) is not bytes:
        raise malformed
    prefix, at, leaves = 4 if wide else 2, 0, list[bytes]()
    while at < len(data) and len(leaves) < width:
        end = at + prefix + int.from_bytes(data[at : at + prefix], "big")
        if at + prefix > len(data) or end > len(data):
            raise malformed
        leaves.append(data[at + prefix : end])
        at = end
    if at != len(data) or len(leaves) != width:
        raise malformed
    return leaves
