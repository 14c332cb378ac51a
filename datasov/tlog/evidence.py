"""Evidence that a log forked: two checkpoints that its key signed and that no one tree can have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasov.errors import ProofError
from datasov.tlog.cosignature import Cosigner, cosignatures
from datasov.tlog.log import LogReader
from datasov.tlog.note import (
    MAX_NOTE,
    Checkpoint,
    b64,
    open_checkpoint,
    origin_of,
    parse_vkey,
    path_lines,
    read_path,
    unb64,
    vkey,
)
from datasov.tlog.tree import leaf_hash, node_hash, roots_of, verify_consistency

MAX_EVIDENCE = 4 * MAX_NOTE
"""Bytes of evidence as a text."""
_HEAD = "datasov/fork@v1"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two signed notes of one log, and the hashes that show that the smaller tree is no prefix of the larger one.

    Attributes:
        origin, public: the log's name and its Ed25519 key, 32 bytes. Compare them with the city's id: evidence against
            another log is none.
        first, second: the notes, that of the smaller tree first.
        path: for different sizes, hashes of the larger tree: a consistency proof with its first hash always named.
            Empty for equal sizes: two roots of one size are the evidence.
    """

    origin: str
    public: bytes
    first: bytes
    second: bytes
    path: tuple[bytes, ...] = ()

    def verify(self) -> tuple[Checkpoint, Checkpoint]:
        """The two checkpoints; ProofError unless both are signed by the log's key and the fork is shown."""
        a, b = (open_checkpoint(note, self.origin, self.public) for note in (self.first, self.second))
        none = ProofError("no evidence of a fork: the two checkpoints can belong to one tree, or nothing is shown")
        if a.size == b.size:
            if self.path or a.root == b.root:
                raise none
            return a, b
        if not 1 <= a.size < b.size:
            raise none
        prefix, whole = roots_of(a.size, b.size, self.path)
        if whole != b.root or prefix == a.root:
            raise none
        return a, b

    def both(self, witnesses: Iterable[Cosigner]) -> list[Cosigner]:
        """Those of these witnesses who cosigned both: who does that is at fault, or lost its key."""
        known = list(witnesses)
        signed = cosignatures(self.first, known).keys() & cosignatures(self.second, known).keys()
        return [w for w in known if w.public in signed]

    def to_bytes(self) -> bytes:
        """The evidence as a text (docs/spec/log.md)."""
        key = vkey(self.origin, self.public)
        lines = [_HEAD, f"log {key}", f"first {b64(self.first)}", f"second {b64(self.second)}", *path_lines(self.path)]
        return "\n".join([*lines, ""]).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Evidence:
        """The evidence of a text from :meth:`to_bytes`, unverified; ProofError where it is none."""
        malformed = ProofError("not evidence of a fork: ask for the text again")
        try:
            lines = data.decode().split("\n") if len(data) <= MAX_EVIDENCE else []
        except UnicodeDecodeError:
            raise malformed from None
        if len(lines) < 5 or lines[0] != _HEAD or lines[-1]:
            raise malformed
        if not all(line.startswith(word) for line, word in zip(lines[1:4], ("log ", "first ", "second "), strict=True)):
            raise malformed
        origin, public = parse_vkey(lines[1].removeprefix("log "))
        first, second = (unb64(line.split(" ", 1)[1]) for line in lines[2:4])
        return Evidence(origin, public, first, second, read_path(lines[4:-1]))


def compare(
    a: bytes, b: bytes, public: bytes, log: LogReader | None = None, *, origin: str | None = None
) -> Evidence | None:
    """Two people's checkpoints of one log: None where the larger tree continues the smaller one, evidence where not.

    Args:
        a, b: signed notes, in any order.
        public: the log's key, 32 bytes, from the city's id.
        log: any reader of the log that shows the larger of the two trees; not needed for equal sizes.
        origin: the log's name, where it does not follow from the key.

    Raises:
        ProofError: a note is not signed by the log's key; or nothing is shown either way, since the reader is missing
            or does not show the larger checkpoint's tree: ask whoever showed that checkpoint for a reader.
    """
    origin = origin_of(public) if origin is None else origin
    old, new = sorted((open_checkpoint(note, origin, public) for note in (a, b)), key=lambda c: (c.size, c.root))
    if old.size == new.size:
        return None if old.root == new.root else Evidence(origin, public, old.note, new.note)
    if old.size == 0:
        return None
    if log is None:
        raise ProofError("two sizes cannot be compared without the log: give a reader of it")
    path = tuple(log.consistency(old.size, new.size))
    try:
        verify_consistency(old.size, new.size, old.root, new.root, path)
        return None
    except ProofError:
        found = Evidence(origin, public, old.note, new.note, _named(log, old.size, new.size, path))
    try:
        found.verify()
    except ProofError:
        raise ProofError(
            "neither a fork nor its absence is shown: read the log where the larger checkpoint came from"
        ) from None
    return found


def compare_under(a: bytes, b: bytes, keys: Iterable[bytes], log: LogReader | None, origin: str) -> Evidence | None:
    """As :func:`compare`, of a city that has had several keys (32 bytes each): by the one that signed both notes.

    Raises:
        ProofError: as there; or none of the keys signed one of the notes, or no key signed both.
    """
    known = tuple(keys)
    signed = [{key for key in known if _is_signed(note, origin, key)} for note in (a, b)]
    both = signed[0] & signed[1]
    if both:
        return compare(a, b, both.pop(), log, origin=origin)
    if not all(signed):
        raise ProofError("a checkpoint that none of the city's keys has signed: read the city's log, then compare")
    raise ProofError(
        "the two checkpoints are signed by two keys of the city: ask for a newer one, and compare that; or read "
        "the log in which the statement between the keys stands"
    )


def _is_signed(note: bytes, origin: str, public: bytes) -> bool:
    try:
        open_checkpoint(note, origin, public)
        return True
    except ProofError:
        return False


def _named(log: LogReader, old: int, new: int, path: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The path with its first hash, which a consistency proof leaves out where the old tree is one whole subtree."""
    if old & (old - 1):
        return path
    hash_ = leaf_hash(log.leaves(0, 1)[0])
    for step in log.inclusion(0, new)[: old.bit_length() - 1]:
        hash_ = node_hash(hash_, step)
    return (hash_, *path)
