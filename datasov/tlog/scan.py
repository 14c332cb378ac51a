"""Leaves by kind, from their first bytes: a resident passes over what cannot concern them without reading it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from datasov.errors import ProofError
from datasov.tlog.leaves import BATCH, BatchKind, BatchLeaf, NoticeLeaf, ReleaseLeaf, decode_leaf
from datasov.wire import cbor


def _opening(kind: str, *first: str) -> bytes:
    return b"".join(map(cbor.encode, (1, f"datasov {kind} v1", 2, *first)))


_KINDS = tuple(_opening(kind) for kind in ("release", "step", "batch", "notice"))
_RELEASE, _, _, _NOTICE = _KINDS
_BATCHED = 32 * BATCH


def releases(leaves: Sequence[bytes], purposes: Collection[str]) -> Iterator[tuple[int, ReleaseLeaf]]:
    """The releases for these purposes, by index.

    Raises:
        ProofError: such a leaf is malformed, or any leaf is of an unknown kind.
    """
    wanted = tuple(_opening("release", purpose) for purpose in purposes)
    for index, data in enumerate(leaves):
        if data.startswith(wanted, 1):
            leaf = decode_leaf(data)
            if isinstance(leaf, ReleaseLeaf):
                yield index, leaf
        elif not data.startswith(_KINDS, 1):
            decode_leaf(data)
            raise ProofError("a leaf of an unknown kind: update datasov to read this log")


def batched(leaves: Iterable[bytes], kind: BatchKind, wanted: Collection[bytes]) -> frozenset[bytes]:
    """Those of the wanted hashes that stand in a batch of this kind."""
    opening, sought = _opening("batch", kind), frozenset(wanted)
    found: set[bytes] = set()
    for data in leaves:
        if not data.startswith(opening, 1):
            continue
        # The hashes are the last field, a multiple of 256 of them, and all else is shorter than that.
        start = len(data) % _BATCHED
        if sought.isdisjoint([data[i : i + 32] for i in range(start, len(data), 32)]):
            continue
        leaf = decode_leaf(data)
        if isinstance(leaf, BatchLeaf):
            found |= sought.intersection(leaf.hashes)
    return frozenset(found)


def notices(leaves: Sequence[bytes]) -> dict[bytes, tuple[int, NoticeLeaf]]:
    """The first notice of each identity, with its index."""
    found: dict[bytes, tuple[int, NoticeLeaf]] = {}
    for index, data in enumerate(leaves):
        if data.startswith(_NOTICE, 1):
            leaf = decode_leaf(data)
            if isinstance(leaf, NoticeLeaf):
                found.setdefault(leaf.identity, (index, leaf))
    return found
