"""The Merkle tree of RFC 6962 (section 2.1) and RFC 9162 (section 2.1) over SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from datasov.errors import ProofError

HASH = 32
"""Bytes in a hash."""
MAX_SIZE = 2**63 - 1
EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf): 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


Node: TypeAlias = Callable[[int, int], bytes]
"""`node(level, index)`: the root over the 2**level leaves from index * 2**level on, 32 bytes."""


class Tree:
    """A tree that grows by leaf hashes and keeps the hash of every complete subtree, 64 bytes a leaf.

    An append costs one more hash on average; a root or a proof of any earlier size costs O(log^2 size) hashes.
    Not safe for use from several threads at once.
    """

    __slots__ = ("_levels",)

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.extend(hashes)

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return len(self._levels[0]) // HASH

    def append(self, hash_: bytes) -> None:
        """Add the hash of a leaf (32 bytes, from :func:`leaf_hash`); ProofError where it is of another length."""
        self.extend((hash_,))

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Add the hashes of leaves, in order; ProofError, and nothing added, where one is of another length."""
        added = list(hashes)
        _check_hashes(added)
        self.extend_joined(b"".join(added))

    def extend_joined(self, hashes: bytes) -> None:
        """As :meth:`extend`, of hashes that are joined; ProofError where they are no whole number of hashes."""
        if len(hashes) % HASH:
            raise ProofError("a hash that is not 32 bytes: ask the log for the proof again")
        new, level, sha256 = hashes, 0, hashlib.sha256
        while new:
            if level == len(self._levels):
                self._levels.append(bytearray())
            row = self._levels[level]
            row += new
            above = len(self._levels[level + 1]) if level + 1 < len(self._levels) else 0
            pairs = bytes(row[2 * above :])
            new = b"".join(
                [sha256(b"\x01" + pairs[at : at + 2 * HASH]).digest() for at in range(0, len(pairs) - HASH, 2 * HASH)]
            )
            level += 1

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree (:data:`Node`); ProofError where the tree does not hold it yet."""
        if not 0 <= level < len(self._levels) or not 0 <= index < len(self._levels[level]) // HASH:
            raise ProofError("the log has no such hash: ask for its checkpoint again")
        return bytes(self._levels[level][index * HASH : (index + 1) * HASH])

    def hashes(self) -> bytes:
        """The hashes of all leaves, joined."""
        return bytes(self._levels[0])

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves (all of them where None), 32 bytes.

        Raises:
            ProofError: the tree has fewer leaves.
        """
        return root_of(self.node, check_size(self.size if size is None else size, self.size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of leaf `index` (0-based) in the first `size` leaves, from the leaf's sibling upwards.

        Raises:
            ProofError: the tree has fewer leaves, or the index lies outside [0, size).
        """
        return inclusion_of(self.node, index, check_size(size, self.size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` leaves are a prefix of the first `new`; empty where they are equal.

        Raises:
            ProofError: not 1 <= old <= new <= size.
        """
        return consistency_of(self.node, old, check_size(new, self.size))


def root_of(node: Node, size: int) -> bytes:
    """The root of the first `size` leaves of a tree whose complete subtrees `node` gives."""
    return range_of(node, 0, size) if size else EMPTY


def inclusion_of(node: Node, index: int, size: int) -> list[bytes]:
    """As :meth:`Tree.inclusion`, of a tree whose complete subtrees `node` gives."""
    if not 0 <= index < size:
        raise ProofError("no such leaf at that size: give an index below the size")
    proof, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append((middle, high))
            high = middle
        else:
            proof.append((low, middle))
            low = middle
    return [range_of(node, a, b) for a, b in reversed(proof)]


def consistency_of(node: Node, old: int, new: int) -> list[bytes]:
    """As :meth:`Tree.consistency`, of a tree whose complete subtrees `node` gives."""
    if not 1 <= old <= new:
        raise ProofError("no consistency proof between these sizes: give 1 <= old <= new")
    proof, low, high = [], 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            proof.append((middle, high))
            high = middle
        else:
            proof.append((low, middle))
            low = middle
    # The subtree left over is named in the proof unless it is the whole old tree, whose root the verifier holds.
    if low:
        proof.append((low, high))
    return [range_of(node, a, b) for a, b in reversed(proof)]


def range_of(node: Node, low: int, high: int) -> bytes:
    """The root over leaves [low, high), where `low` is aligned as in every subtree of the RFC's recursion."""
    width = high - low
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(width)
    return node_hash(range_of(node, low, middle), range_of(node, middle, high))


def check_size(size: int, most: int) -> int:
    """The size, which a tree of `most` leaves has; ProofError otherwise."""
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= most:
        raise ProofError("the log has no tree of that size: give one up to its own size")
    return size


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if not all(isinstance(h, bytes | bytearray) and len(h) == HASH for h in hashes):
        raise ProofError("a hash that is not 32 bytes: ask the log for the proof again")


def _check_number(value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE:
        raise ProofError("an index or a size out of range: ask the log for the proof again")


def verify_inclusion(hash_: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless `proof` shows the leaf hash at `index` under the root of a tree of `size` leaves.

    RFC 9162, section 2.1.3.2. A size of 0 and hashes that are not 32 bytes are refused.
    """
    _check_hashes((hash_, root, *proof))
    _check_number(size, 1)
    _check_number(index, 0)
    if index >= size:
        raise ProofError("the index lies outside the tree: ask the log for the proof again")
    node, last, found = index, size - 1, hash_
    for step in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long: ask the log for the proof again")
        if node & 1 or node == last:
            found = node_hash(step, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, step)
        node, last = node >> 1, last >> 1
    if last or found != root:
        raise ProofError("the leaf is not shown to be in the log: ask the log for the proof again")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless `proof` shows that the tree of `old` leaves is a prefix of the one of `new`.

    RFC 9162, section 2.1.4.2. An old size of 0 shows nothing and is refused, as are hashes that are not 32 bytes.
    """
    _check_hashes((old_root, new_root, *proof))
    _check_number(old, 1)
    _check_number(new, old)
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("two roots of one size: keep both checkpoints, the log shows different trees")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    first, second = roots_of(old, new, path)
    if first != old_root or second != new_root:
        raise ProofError("the log is not shown to have only grown: keep both checkpoints and compare with others")


def roots_of(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of the first `old` and of all `new` leaves (1 <= old < new) to which a consistency proof leads.

    Args:
        path: with its first hash, which RFC 9162 leaves out of a proof where the old tree is one complete subtree.

    Raises:
        ProofError: the path is too short or too long for these sizes.
    """
    if not path:
        raise ProofError("the consistency proof is too short: ask the log for the proof again")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long: ask the log for the proof again")
        if node & 1 or node == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, step)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the consistency proof is too short: ask the log for the proof again")
    return first, second
