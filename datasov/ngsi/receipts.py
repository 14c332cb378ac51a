"""Where the log tells of each release: what a consumer needs to verify that everybody was told of it alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datasov.tlog.leaves import ReleaseLeaf, StepLeaf, decode_leaf
from datasov.wire import cbor


@dataclass(frozen=True, slots=True)
class Proof:
    """A leaf: the log's origin, its index, and the digest of the result that it carries (hexadecimal)."""

    origin: str
    index: int
    result: str


def _opening(kind: str) -> bytes:
    return b"".join(map(cbor.encode, (1, f"datasov {kind} v1", 2)))


_TOLD = (_opening("release"), _opening("step"))


def proofs(leaves: Iterable[bytes], origin: str) -> Mapping[tuple[str, int | None], Proof]:
    """The leaf of each release, and of each step of a series, by the identifier and the step; an opening has None.

    Raises:
        ProofError: a leaf is malformed.
    """
    found: dict[tuple[str, int | None], Proof] = {}
    for index, data in enumerate(leaves):
        if not data.startswith(_TOLD, 1):
            continue
        leaf = decode_leaf(data)
        if isinstance(leaf, ReleaseLeaf | StepLeaf):
            step = leaf.step if isinstance(leaf, StepLeaf) else None
            found[leaf.release_id.hex(), step] = Proof(origin, index, leaf.result_digest.hex())
    return found
