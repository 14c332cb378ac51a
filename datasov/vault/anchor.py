"""Anchors: where a vault stood, left outside of it, so that an older copy put in its place is noticed.

An anchor is the counter of a manifest and the SHA-256 of its file. Before it is handed out, the next manifest records
it under a name, and so does every manifest after that: whatever does not lie behind the anchor, and does not hold it,
is on another branch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from datasov.errors import InvalidDataError, StoreError, VerificationError
from datasov.vault import format as fmt
from datasov.vault.manifest import Manifest
from datasov.vault.session import Session
from datasov.wire import cbor, fields

MAX_NAMES, MAX_EACH = 64, 4
DEVICE = "device "
"""How the names begin under which devices leave their anchors."""
_PAIR = struct.Struct(">Q32s")


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a vault stood. It tells nothing of what the vault holds; who has it can tell that the vault went on.

    Attributes:
        vault_id: 16 bytes.
        counter: number of a manifest.
        digest: SHA-256 of its file, 32 bytes.
    """

    vault_id: bytes
    counter: int
    digest: bytes

    def __bytes__(self) -> bytes:
        return cbor.encode([self.vault_id, self.counter, self.digest])

    @classmethod
    def read(cls, data: bytes) -> Anchor:
        """What `bytes(anchor)` gave; VerificationError for anything else."""
        vault_id, counter, digest = fields.items(cbor.decode(data), 3, 3)
        return cls(fields.octets(vault_id, 16), fields.integer(counter, 1, 2**64 - 1), fields.octets(digest, 32))


def given(anchor: Anchor | bytes | Iterable[Anchor | bytes] | None) -> tuple[Anchor, ...]:
    """What the caller gave, as anchors; InvalidDataError where one is none."""
    listed = [] if anchor is None else [anchor] if isinstance(anchor, Anchor | bytes) else anchor
    try:
        return tuple(item if isinstance(item, Anchor) else Anchor.read(item) for item in listed)
    except (VerificationError, TypeError):
        raise InvalidDataError("anchor is what Vault.anchor gave, or bytes() of it") from None


def knows(session: Session, anchor: Anchor) -> bool:
    """Whether the vault as it stands is the anchor's or a later one of the same branch."""
    try:
        check(session.secrets.vault_id, session.manifest, [anchor])
    except StoreError:
        return False
    return True


def check(vault_id: bytes, found: Manifest, anchors: Iterable[Anchor]) -> None:
    """Raise StoreError unless this state of the vault is each anchor's or a later one of the same branch."""
    recorded = {_PAIR.unpack(value) for _, value in found.anchors if len(value) == _PAIR.size}
    recorded |= {(found.counter, found.digest), (found.counter - 1, found.previous)}
    for anchor in anchors:
        if anchor.vault_id != vault_id:
            raise StoreError("the anchor is another vault's: check the path, or give the anchor of this vault")
        if found.counter < anchor.counter:
            raise StoreError(
                "the vault is older than it was when its anchor was left: an older copy was put in its place. Restore"
                " the newest copy; or open it with accept_rollback=True, and lose what came after"
            )
        if (anchor.counter, anchor.digest) not in recorded:
            raise StoreError(
                "the vault is on another branch than when its anchor was left: an older copy was put in its place and"
                " written to. Restore the right copy; or open it with accept_rollback=True, and lose the other"
            )


def leave(session: Session, name: str, *, held: Anchor | None = None) -> Anchor:
    """An anchor of all that was acknowledged so far; every manifest from the next one on holds it under this name.

    The last few of a name stay: who asked for one may have crashed before it was kept. Where there are too many names,
    that of the device which left none for the longest time goes.

    Args:
        held: the one that is known to be kept under this name, until the new one is.

    Raises:
        InvalidDataError: the name is no text of 1 to 64 characters, or there are too many names.
        OSError: the vault did not change, or did not for sure.
    """
    if not fmt.is_text(name) or not 0 < len(name) <= 64:
        raise InvalidDataError("an anchor's name is a text of 1 to 64 characters")
    found = session.manifest.anchors
    if len({kind for kind, _ in found} | {name}) > MAX_NAMES:
        unused = next((kind for kind, _ in found if kind.startswith(DEVICE) and kind != name), None)
        if unused is None:
            raise InvalidDataError(f"anchors are recorded under {MAX_NAMES} names: forget one with forget_anchor")
        found = tuple((kind, value) for kind, value in found if kind != unused)
    if session.unsealed:
        session.commit()
    stands = session.manifest
    before = [value for kind, value in found if kind == name]
    kept = before[1 - MAX_EACH :] if held is None else [_PAIR.pack(held.counter, held.digest)]
    mine = (*((name, value) for value in kept), (name, _PAIR.pack(stands.counter, stands.digest)))
    session.commit(anchors=(*((kind, value) for kind, value in found if kind != name), *mine))
    return Anchor(session.secrets.vault_id, stands.counter, stands.digest)


def forget(session: Session, name: str) -> None:
    """Drop what is recorded under a name: an anchor that was left under it opens the vault no more."""
    kept = tuple((kind, value) for kind, value in session.manifest.anchors if kind != name)
    if kept != session.manifest.anchors:
        session.commit(anchors=kept)
