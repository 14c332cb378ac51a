"""A receipt: one release, and what approved it, with the proofs that the log holds both; to keep and to show."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datasov.errors import ProofError
from datasov.model.privacy import Loss
from datasov.tlog.leaves import MAX_LEAF, NoticeLeaf, ReleaseLeaf, decode_leaf
from datasov.tlog.log import LogReader
from datasov.tlog.note import (
    Checkpoint,
    Proof,
    b64,
    encode_proof,
    number,
    open_checkpoint,
    parse_vkey,
    path_lines,
    read_path,
    unb64,
    vkey,
)
from datasov.tlog.tree import leaf_hash, verify_inclusion

MAX_RECEIPT = 4 * MAX_LEAF
"""Bytes in a receipt."""
APPROVALS = ("programme", "emergency")
"""Subjects of the notices that a release can name."""
_HEAD = "datasov/receipt@v1"


@dataclass(frozen=True, slots=True)
class Approval:
    """The notice in the log under which a release says that it was made: a programme, or an emergency.

    Whether it was signed as the charter demands is for :func:`datasov.notices.read_notices`, which needs the whole log.

    Attributes:
        leaf: the bytes of the notice's leaf.
        index: of it, 0-based. proof: its audit path.
    """

    leaf: bytes
    index: int
    proof: tuple[bytes, ...]

    @property
    def notice(self) -> NoticeLeaf:
        """What the leaf says; ProofError where it is no notice."""
        found = decode_leaf(self.leaf)
        if not isinstance(found, NoticeLeaf):
            raise ProofError("this leaf is no notice: ask for the receipt again")
        return found


@dataclass(frozen=True, slots=True)
class Receipt:
    """A release's leaf and its place in the log.

    Attributes:
        leaf: the bytes of the leaf.
        index: of the leaf, 0-based.
        proof: the audit path, from the leaf's sibling upwards.
        size: of the tree that the path leads to.
        public: the log's Ed25519 key, 32 bytes. Take it from the city's id, or from
            :func:`datasov.tlog.whole.read_whole` with that id, never from the log's answer alone.
        origin: the log's name.
        approval: what the release names as its approval; None where it names none, or the log holds no such notice.
    """

    leaf: bytes
    index: int
    proof: tuple[bytes, ...]
    size: int
    public: bytes
    origin: str
    approval: Approval | None = None

    @property
    def release(self) -> ReleaseLeaf:
        """What the leaf says; ProofError where it is no release."""
        found = decode_leaf(self.leaf)
        if not isinstance(found, ReleaseLeaf):
            raise ProofError("this leaf records no release: ask for a receipt of one that does")
        return found

    @property
    def purpose(self) -> str:
        return self.release.purpose

    @property
    def loss(self) -> Loss:
        """What the release cost a resident who took part, at most."""
        return self.release.loss

    @property
    def question(self) -> str:
        """The question as canonical JSON."""
        return self.release.question.decode()

    @property
    def tables(self) -> str:
        """The names of the tables that it read."""
        return ", ".join(name for name, _, _ in self.release.tables)

    @property
    def approved(self) -> str:
        """What approved it, in short: the kind of document and the beginning of its identity; empty where none is."""
        named = self.release.programme.hex()[:16]
        if not named:
            return ""
        return f"{self.approval.notice.subject} {named}" if self.approval else f"{named}, which the log does not hold"

    @property
    def time(self) -> int:
        """When the release was made, in Unix seconds, as the city says."""
        return self.release.time

    def verify(self, checkpoint: Checkpoint | bytes) -> None:
        """Raise ProofError unless the log's checkpoint, signed by this receipt's key, holds this leaf at this index.

        The approval that the release names must stand in the log before it. Only the signed note of a
        :class:`Checkpoint` counts. A checkpoint of another size needs another proof: fetch the receipt again.
        """
        note = checkpoint.note if isinstance(checkpoint, Checkpoint) else checkpoint
        signed = open_checkpoint(note, self.origin, self.public)
        release = self.release
        if signed.size != self.size:
            raise ProofError("the checkpoint is of another size than the receipt: fetch the receipt again")
        verify_inclusion(leaf_hash(self.leaf), self.index, self.size, self.proof, signed.root)
        found = self.approval
        if (found.notice.identity if found else b"") != release.programme:
            raise ProofError(
                "the release names an approval that is not shown to be in the log: keep the receipt, and ask"
            )
        if found is not None:
            if found.notice.subject not in APPROVALS:
                raise ProofError("the release names a notice that approves nothing: keep the receipt, and ask")
            if found.index >= self.index:
                raise ProofError("the release was approved after it was made: keep the receipt, the city is at fault")
            verify_inclusion(leaf_hash(found.leaf), found.index, self.size, found.proof, signed.root)

    def tlog_proof(self, checkpoint: Checkpoint) -> bytes:
        """A C2SP tlog-proof with the leaf as its extra data, once the receipt verifies; ProofError otherwise."""
        self.verify(checkpoint)
        return encode_proof(Proof(self.index, self.proof, checkpoint.note, self.leaf))

    def to_bytes(self) -> bytes:
        """The receipt as a text, in the form of a tlog-proof without its checkpoint (docs/spec/log.md)."""
        lines = [_HEAD, f"extra {b64(self.leaf)}", f"index {self.index}", *path_lines(self.proof)]
        if (found := self.approval) is not None:
            lines += [f"approval {b64(found.leaf)}", f"index {found.index}", *path_lines(found.proof)]
        return "\n".join([*lines, "", self.origin, str(self.size), vkey(self.origin, self.public), ""]).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Receipt:
        """The receipt of a text from :meth:`to_bytes`, unverified; ProofError where it is none."""
        malformed = ProofError("not a receipt: fetch it again")
        try:
            lines = data.decode().split("\n") if len(data) <= MAX_RECEIPT else []
        except UnicodeDecodeError:
            raise malformed from None
        if len(lines) < 8 or lines[0] != _HEAD:
            raise malformed
        blank, origin, size, key, end = lines[-5:]
        name, public = parse_vkey(key)
        if blank or end or name != origin:
            raise malformed
        held = lines[1:-5]
        at = next((i for i, line in enumerate(held) if line.startswith("approval ")), len(held))
        leaf, index, proof = _placed("extra ", held[:at])
        approval = Approval(*_placed("approval ", held[at:])) if held[at:] else None
        return Receipt(leaf, index, proof, number(size), public, origin, approval)


def _placed(word: str, lines: list[str]) -> tuple[bytes, int, tuple[bytes, ...]]:
    """Leaf, index and audit path of their lines."""
    if len(lines) < 2 or not lines[0].startswith(word) or not lines[1].startswith("index "):
        raise ProofError("not a receipt: fetch it again")
    return unb64(lines[0].removeprefix(word)), number(lines[1].removeprefix("index ")), read_path(lines[2:])


def receipt(log: LogReader, index: int, checkpoint: Checkpoint, public: bytes, origin: str) -> Receipt:
    """The verified receipt of the release at `index`, at the checkpoint's size.

    Raises:
        ProofError: the checkpoint is not the log's, the leaf is no release, or the proof does not hold.
    """
    signed = open_checkpoint(checkpoint.note, origin, public)
    if not 0 <= index < signed.size:
        raise ProofError("no such leaf at that size: give an index below the checkpoint's size")
    leaf = log.leaves(index, index + 1)
    found = Receipt(
        leaf[0] if leaf else b"", index, tuple(log.inclusion(index, signed.size)), signed.size, public, origin
    )
    if found.release.programme:
        found = replace(found, approval=_approval(log, found.release.programme, index, signed.size))
    found.verify(signed)
    return found


def _approval(log: LogReader, identity: bytes, before: int, size: int) -> Approval | None:
    for index, data in enumerate(log.leaves(0, before)):
        if identity in data and isinstance(leaf := decode_leaf(data), NoticeLeaf) and leaf.identity == identity:
            return Approval(data, index, tuple(log.inclusion(index, size)))
    return None
