"""Anchors: a signed (position, hash) of a store's chain, kept outside of what a backup brings back.

A store that does not contain its anchor's position, with that hash, is behind. The chain is not computed again from the
entries: who can write to the file and leaves the chain as it is, is not noticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from datasov.crypto.sign import SigningKey
from datasov.errors import SignatureError, StoreError, VerificationError
from datasov.store import durable
from datasov.wire import cbor, cose, fields

KIND = "datasov anchor v1"


def write(path: Path, head: Callable[[], tuple[int, bytes]], key: SigningKey) -> int:
    """Replace the anchor with what `head` gives, durably, and return its position. StoreError where the disk refuses.

    One thread or process at a time (a lock on the folder), and `head` is read under that lock: a later anchor is never
    replaced by an earlier one.
    """
    part = path.with_name(path.name + ".part")
    try:
        with durable.locked(path.parent) as folder:
            position, digest = head()
            with open(part, "wb") as file:
                file.write(cose.sign1(cbor.encode([position, digest]), key, KIND))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            os.fsync(folder)
            return position
    except OSError as fault:
        raise StoreError("the anchor cannot be written: check the disk and its free space") from fault


def read(path: Path, public: bytes) -> tuple[int, bytes]:
    """Position and hash of the anchor; StoreError where it is missing or not signed by this key."""
    try:
        position, head = fields.items(cbor.decode(cose.open1(path.read_bytes(), public, KIND)), 2, 2)
        return fields.integer(position, 0, 2**62), fields.octets(head, 32)
    except OSError:
        raise StoreError(
            f"{path.name} is missing: bring it back, or pass reanchor=True if it is lost and this copy is the newest"
        ) from None
    except (SignatureError, VerificationError):
        raise StoreError(f"{path.name} is not this city's anchor: bring the right one back") from None
