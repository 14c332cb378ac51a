"""How a vault is made and opened: keys given or kept by a device, the header, the newest manifest, anchors."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.vault import anchor as anchors
from datasov.vault import device as devices
from datasov.vault import files, keys, layout, manifest, recovery, rekey, slots
from datasov.vault import format as fmt
from datasov.vault.anchor import Anchor
from datasov.vault.device import Device, DeviceStore, Kept
from datasov.vault.session import Session, load
from datasov.vault.slots import Access

_TRIES = 5


class Given(TypedDict):
    """What the caller opens with, as in :meth:`datasov.vault.Vault.open`."""

    passphrase: str | None
    device_key: bytes | None
    device_secret: bytes | None
    recovery_key: str | None
    guardian: bytes | None


def create(
    directory: Path, device: DeviceStore | None, **given: Unpack[Given]
) -> tuple[Session, files.WriterLock, Device | None]:
    """A new vault in a new directory; a device keeps its key before the vault is there."""
    made = None
    key, secret = given["device_key"], given["device_secret"]
    if device is not None:
        if key is not None or secret is not None:
            raise InvalidDataError("a device makes its own key: give device, or a device_key or device_secret")
        made = devices.fresh(key=given["passphrase"] is None)
        key, secret = next(iter(made.keys), None), next(iter(made.secrets), None)
    header, secrets = keys.create(keys.access(given["passphrase"], key, secret, _printed(given)))
    held = None if device is None else Device(device, secrets.vault_id)

    def keep() -> None:
        if held is not None and made is not None:
            held.save(made)

    try:
        first, lock = layout.create(directory, header, secrets, manifest.Manifest(1), before=keep)
    except BaseException:
        if held is not None:
            with contextlib.suppress(StoreError):
                held.forget()
        raise
    return Session(directory, secrets, first), lock, held


def enrol(opened: Session, directory: Path, **given: Unpack[Given]) -> None:
    """What is open, once more in a new directory, for another device: its rows, schemas and state, under new keys."""
    header, secrets = keys.enrolled(
        opened.secrets,
        keys.access(given["passphrase"], given["device_key"], given["device_secret"], _printed(given)),
    )
    opened.settle()
    opened.fold({}, (), all_small=False)
    first = replace(opened.manifest, counter=1, previous=bytes(32), anchors=(), doomed=frozenset())
    held = ((e.id, (opened.directory / files.SEGMENTS / e.id.hex()).read_bytes()) for e in first.segments)
    layout.create(directory, header, secrets, first, segments=held)[1].release()


def unlock(
    directory: Path, store: DeviceStore | None, left: tuple[Anchor, ...] | None, write: bool, **given: Unpack[Given]
) -> tuple[Session, files.WriterLock | None, Device | None]:
    """The vault in a directory, and its lock for a writer. Anchors are not looked at where `left` is None.

    Raises:
        InvalidDataError: nothing that could open it was given, or of a wrong shape.
        DecryptionError: nothing given opens it, or a file is damaged, foreign or stale.
        StoreError: it lies behind an anchor or on another branch, or the device keeps nothing for it.
    """
    if store is None:
        candidates(None, **given)
    if not (directory / files.HEADER).is_file():
        raise StoreError("no vault is there: check the path, or create one with Vault.create")
    lock = files.WriterLock(directory) if write else None
    try:
        secrets, by, found, held = _read(directory, store, **given)
        kept = None if held is None else held.kept
        if left is not None:
            mine = () if kept is None or kept.anchor is None else (kept.anchor,)
            anchors.check(secrets.vault_id, found, (*left, *mine))
        session = Session(directory, secrets, found)
        if write:
            if held is not None and kept is not None:
                _settle(held, kept, secrets, by)
            with contextlib.suppress(OSError):
                rekey.finish(session)
        return session, lock, held
    except BaseException as fault:
        if lock is not None:
            lock.release()
        if isinstance(fault, DecryptionError):
            raise fmt.damaged() from None
        raise


def _settle(held: Device, kept: Kept, secrets: keys.Secrets, by: Access) -> None:
    """Let the device keep that one of its keys, or of its secrets, alone which opened the vault; if not now, later."""
    slot = secrets.slots[secrets.opened[0]]
    key = by.device_key if slot.kind == slots.DEVICE_KEY and by.device_key in kept.keys else None
    secret = by.device_secret if slot.flags & slots.WITH_DEVICE_SECRET and by.device_secret in kept.secrets else None
    if kept.settled(key, secret) != kept:
        with contextlib.suppress(StoreError):
            held.save(kept.settled(key, secret))


def _read(
    directory: Path, store: DeviceStore | None, **given: Unpack[Given]
) -> tuple[keys.Secrets, Access, manifest.Manifest, Device | None]:
    """The header, what opened it, and the newest manifest. A header that a writer replaces meanwhile is read again."""
    turn = 0
    while True:
        data = files.read(directory / files.HEADER, keys.MAX_HEADER)
        held = None if store is None else Device(store, keys.read_slots(data)[0])
        kept = None if held is None else held.kept
        if held is not None and kept is None and not any(given.values()):
            raise devices.unknown()
        try:
            secrets, by = _opened(data, candidates(kept, **given))
            return secrets, by, load(directory, secrets), None if kept is None else held
        except DecryptionError:
            turn += 1
            if turn == _TRIES or files.read(directory / files.HEADER, keys.MAX_HEADER) == data:
                raise


def candidates(kept: Kept | None, **given: Unpack[Given]) -> list[Access]:
    """What to try, in order: what was given, and each key or secret that the device keeps, the newest first."""
    mine, passphrase = kept or Kept(""), given["passphrase"]
    alone = given["device_key"] or given["recovery_key"] or given["guardian"]
    if passphrase is None and mine.secrets and not mine.keys and not alone:
        raise InvalidDataError("this device keeps a secret that needs a passphrase beside it: give the passphrase")
    own: list[bytes | None] = [*mine.keys[::-1]] or [None]
    beside: list[bytes | None] = [*mine.secrets[::-1]] or [None]
    if given["device_key"] is not None:
        own = [given["device_key"]]
    if given["device_secret"] is not None or passphrase is None:
        beside = [given["device_secret"]]
    printed = _printed(given)
    return [keys.access(passphrase, key, secret, printed, given["guardian"]) for key in own for secret in beside]


def _printed(given: Given) -> bytes | None:
    return None if given["recovery_key"] is None else recovery.read_recovery_key(given["recovery_key"])


def _opened(data: bytes, opening: list[Access]) -> tuple[keys.Secrets, Access]:
    for by in opening[:-1]:
        with contextlib.suppress(DecryptionError):
            return keys.open_header(data, by), by
    return keys.open_header(data, opening[-1]), opening[-1]
