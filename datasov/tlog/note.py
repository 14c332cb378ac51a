"""Signed notes, checkpoints and proofs as texts: C2SP signed-note, tlog-checkpoint and tlog-proof, with Ed25519."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey, check_public, verify
from datasov.errors import ProofError, SignatureError
from datasov.tlog.tree import HASH, MAX_SIZE

MAX_NOTE = 256 * 1024
"""Bytes in a signed note."""
MAX_SIGNATURES = 64
"""Signature lines in a note; those of unknown keys (witnesses) are passed over."""
MAX_PROOF = 64 * 1024 * 1024
"""Bytes in a tlog-proof with its extra data."""
ED25519, COSIGNATURE = b"\x01", b"\x04"
"""Signature types of keys: of a log, and of a witness (C2SP tlog-cosignature)."""
MAX_NAME = 255
"""Characters in the name of a key."""
_DASH = "— "
_PROOF_HEAD = "c2sp.org/tlog-proof@v1"


def key_id(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """SHA-256(name || 0x0A || kind || public key)[:4], the key id of signed-note."""
    return sha256(name.encode(), b"\n", kind, public)[:4]


def vkey(name: str, public: bytes, kind: bytes = ED25519) -> str:
    """The verifier key as text: name+key id in hex+base64(kind || public key)."""
    check_name(name)
    return f"{name}+{key_id(name, public, kind).hex()}+{b64(kind + public)}"


def parse_vkey(text: str, kind: bytes = ED25519) -> tuple[str, bytes]:
    """Name and Ed25519 public key of a verifier key of this kind; ProofError where the text is none."""
    parts = text.split("+", 2)
    raw = unb64(parts[2]) if len(parts) == 3 else b""
    if len(raw) != 33 or raw[:1] != kind or not _is_name(parts[0]) or vkey(parts[0], raw[1:], kind) != text:
        whose = "a log" if kind == ED25519 else "a witness"
        raise ProofError(f"not a verifier key of {whose}: copy its whole text again")
    return parts[0], raw[1:]


def origin_of(public: bytes) -> str:
    """The origin of the log that a city signs with this key: it follows from the key, so nobody needs to be told it."""
    return f"datasov/log/{sha256(b'datasov log origin v1', public)[:16].hex()}"


def b64(raw: bytes) -> str:
    """Standard base64 (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode()


def unb64(text: str) -> bytes:
    """The bytes of a standard base64 text in its one canonical spelling; ProofError for any other."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProofError("not base64: ask the log for the text again") from None
    if b64(raw) != text:
        raise ProofError("not the canonical base64: ask the log for the text again")
    return raw


def number(text: str) -> int:
    """An ASCII decimal of at most 63 bits without leading zeros; ProofError for any other."""
    if not 1 <= len(text) <= 19 or not (text.isascii() and text.isdigit()) or str(int(text)) != text:
        raise ProofError("not a decimal number: ask the log for the text again")
    if int(text) > MAX_SIZE:
        raise ProofError("a number of more than 63 bits: ask the log for the text again")
    return int(text)


def sign_note(text: str, name: str, key: SigningKey) -> bytes:
    """A note over a text that ends in a newline, with one signature line.

    Raises:
        ProofError: the name holds a space or a plus, or the text cannot stand in a note.
    """
    check_name(name)
    if not text.endswith("\n") or _controls(text):
        raise ProofError("a note's text ends in a newline and holds no control characters: change the text")
    return f"{text}\n{signature_line(name, key_id(name, key.public), key.sign(text.encode()))}".encode()


def open_note(note: bytes, name: str, public: bytes) -> str:
    """The text of a note, newline included, once a signature by this name and key verifies.

    Lines of unknown keys are passed over; every line of the known key must verify.

    Raises:
        ProofError: the note is malformed, the key is no point, or no signature of the key verifies.
    """
    check_name(name)
    text, lines = split_note(note)
    found = False
    try:
        check_public(public)
        for signer, raw in lines:
            if signer == name and raw[:4] == key_id(name, public):
                verify(public, text.encode(), raw[4:])
                found = True
    except SignatureError:
        raise ProofError("the note's signature does not verify: keep it, it may be forged or changed") from None
    if not found:
        raise ProofError("the note is not signed by this log's key: check the log's key and name")
    return text


def split_note(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Text of a note, and of each signature line the name and the bytes (key id, signature): nothing verified."""
    malformed = ProofError("not a signed note: ask the log for its checkpoint again")
    if not isinstance(note, bytes) or len(note) > MAX_NOTE:
        raise malformed
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise malformed from None
    text, blank, signatures = whole.rpartition("\n\n")
    lines = signatures.split("\n")
    if not blank or _controls(whole) or lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
        raise malformed
    return text + "\n", [read_line(line) for line in lines]


def signature_line(name: str, id_: bytes, signature: bytes) -> str:
    """A signature line, newline included."""
    check_name(name)
    return f"{_DASH}{name} {b64(id_ + signature)}\n"


def read_line(line: str) -> tuple[str, bytes]:
    """Name and bytes (key id, signature) of a signature line without its newline; ProofError where it is none."""
    signer, _, encoded = line.removeprefix(_DASH).rpartition(" ")
    raw = unb64(encoded)
    if not line.startswith(_DASH) or not _is_name(signer) or len(raw) < 5:
        raise ProofError("a malformed signature line: ask the log for its checkpoint again")
    return signer, raw


def _controls(text: str) -> bool:
    return any(c < " " and c != "\n" for c in text)


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        return False
    return not any(c.isspace() or c == "+" or c < " " for c in name)


def check_name(name: str) -> None:
    """Raise ProofError unless this can be the name of a key."""
    if not _is_name(name):
        raise ProofError("a key's name is 1 to 255 characters without spaces and without a plus: choose another")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log signed about itself.

    Attributes:
        origin: the name of the log.
        size: number of leaves.
        root: hash of the Merkle tree at that size, 32 bytes.
        note: the signed note, verbatim: what counts is that it verifies, not the other attributes.
    """

    origin: str
    size: int
    root: bytes
    note: bytes


def sign_checkpoint(origin: str, size: int, root: bytes, key: SigningKey) -> Checkpoint:
    """A checkpoint under the log's key; the key's name is the origin."""
    if not 0 <= size <= MAX_SIZE or len(root) != HASH:
        raise ProofError("a checkpoint holds a size of at most 63 bits and a root of 32 bytes")
    return Checkpoint(origin, size, root, sign_note(f"{origin}\n{size}\n{b64(root)}\n", origin, key))


def open_checkpoint(note: bytes, origin: str, public: bytes) -> Checkpoint:
    """The checkpoint of a note, once the log's signature and its origin are right; ProofError otherwise."""
    found = _parse(open_note(note, origin, public), note)
    if found.origin != origin:
        raise ProofError("a checkpoint of another log: ask the right one")
    return found


def peek_checkpoint(note: bytes) -> Checkpoint:
    """What a checkpoint says before any check of its signature: only to find the key that must verify it."""
    return _parse(split_note(note)[0], note)


def _parse(text: str, note: bytes) -> Checkpoint:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):
        raise ProofError("not a checkpoint: ask the log for its checkpoint again")
    root = unb64(lines[2])
    if len(root) != HASH:
        raise ProofError("a root that is not 32 bytes: ask the log for its checkpoint again")
    return Checkpoint(lines[0], number(lines[1]), root, note)


@dataclass(frozen=True, slots=True)
class Proof:
    """A C2SP tlog-proof: a leaf's index, its audit path, the checkpoint's note, extra data (not authentic)."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None


def path_lines(hashes: Sequence[bytes]) -> list[str]:
    """One base64 text for each hash."""
    return [b64(h) for h in hashes]


def read_path(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes of :func:`path_lines`; ProofError where one is not 32 bytes or there are more than 63."""
    hashes = tuple(unb64(line) for line in lines)
    if len(hashes) > 63 or any(len(h) != HASH for h in hashes):
        raise ProofError("a malformed inclusion proof: ask the log for the proof again")
    return hashes


def encode_proof(proof: Proof) -> bytes:
    """The text of a tlog-proof."""
    lines = [_PROOF_HEAD]
    if proof.extra is not None:
        lines.append(f"extra {b64(proof.extra)}")
    lines += [f"index {proof.index}", *path_lines(proof.hashes), "", ""]
    return "\n".join(lines).encode() + proof.note


def decode_proof(data: bytes) -> Proof:
    """The proof of a text; nothing in it is verified but its form.

    Raises:
        ProofError: the text is malformed.
    """
    malformed = ProofError("not a transparency-log proof: ask the log for it again")
    head, blank, note = data[:MAX_PROOF].partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise malformed from None
    if len(data) > MAX_PROOF or not blank or lines.pop(0) != _PROOF_HEAD or not lines:
        raise malformed
    extra = unb64(lines.pop(0).removeprefix("extra ")) if lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise malformed
    index = number(lines.pop(0).removeprefix("index "))
    peek_checkpoint(note)
    return Proof(index, read_path(lines), note, extra)
