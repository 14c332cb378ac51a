"""How a vault is made and opened: keys given or kept by a device, the header, the newest manifest, anchors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

from datasov.errors import DecryptionError, InvalidDataError, StoreError
from datasov.vault import anchor as anchors
from datasov.vault import device as devices
from datasov.vault import files, keys, layout, manifest, recovery, rekey, segment, slots
from datasov.vault import format as fmt
from datasov.vault.anchor import Anchor
from datasov.vault.device import Device, DeviceStore, Kept
from datasov.vault.session import Session, load
from datasov.vault.slots import Access

_TRIES = 5


class Secret(TypedDict, total=False):
    """What opens a vault by itself, at least one of them.

    Attributes:
        passphrase: a text (Argon2id, RFC 9106; 64 MiB and three passes).
        device_key: 32 random bytes that open the vault at once, kept by the device.
        device_secret: 32 random bytes that the passphrase is worth nothing without, kept by the device.
        recovery_key: what `new_recovery_key` gave, printed; case, spaces and hyphens do not matter.
    """

    passphrase: str | None
    device_key: bytes | None
    device_secret: bytes | None
    recovery_key: str | None


class New(Secret, total=False):
    """What shall open a new vault.

    Attributes:
        device: `Keyring()` or `KeyFile(path)`: makes and keeps the device key, or beside a passphrase the device
            secret; and an anchor.
    """

    device: DeviceStore | None


class Ways(New, total=False):
    """What opens a vault that is there, and what must be true of it then.

    Attributes:
        device: where this device keeps its key, or its secret beside the passphrase, and its anchor.
        guardian: what `Asked.receive` made of a guardian's answer, 32 bytes.
        anchor: what :meth:`datasov.vault.Vault.anchor` gave before, to one place or to several.
        accept_rollback: open an older copy or another branch all the same, once you know why it is there.
    """

    guardian: bytes | None
    anchor: Anchor | bytes | Iterable[Anchor | bytes] | None
    accept_rollback: bool


@dataclass(frozen=True, slots=True)
class Given:
    """What of :class:`Secret`, and from a guardian, the caller gave."""

    passphrase: str | None = field(default=None, repr=False)
    device_key: bytes | None = field(default=None, repr=False)
    device_secret: bytes | None = field(default=None, repr=False)
    recovery_key: str | None = field(default=None, repr=False)
    guardian: bytes | None = field(default=None, repr=False)

    @property
    def printed(self) -> bytes | None:
        return None if self.recovery_key is None else recovery.read_recovery_key(self.recovery_key)

    def access(self) -> Access:
        return keys.access(self.passphrase, self.device_key, self.device_secret, self.printed)


def _given(
    passphrase: str | None = None, device_key: bytes | None = None, device_secret: bytes | None = None,
    recovery_key: str | None = None,
) -> Given:  # fmt: skip
    return Given(passphrase, device_key, device_secret, recovery_key)


def create(
    directory: Path, device: DeviceStore | None = None, **secret: Unpack[Secret]
) -> tuple[Session, files.WriterLock, Device | None]:
    """A new vault in a new directory; a device keeps its key before the vault is there."""
    given, made = _with_device(_given(**secret), device)
    header, secrets = keys.create(given.access())
    held = None if device is None else Device(device, secrets.vault_id)
    with _keeping(held, made) as keep:
        first, lock = layout.create(directory, header, secrets, manifest.Manifest(1), before=keep)
    return Session(directory, secrets, first), lock, held


def enrol(opened: Session, directory: Path, device: DeviceStore | None = None, **secret: Unpack[Secret]) -> None:
    """What is open, once more in a new directory, for another device: its rows, schemas and state, under new keys."""
    given, made = _with_device(_given(**secret), device)
    header, secrets = keys.enrolled(opened.secrets, given.access())
    held = None if device is None else Device(device, secrets.vault_id)
    if held is not None and held.kept is not None:
        raise devices.another_copy()
    opened.settle()
    opened.fold({}, (), all_small=False)
    first = replace(opened.manifest, counter=1, previous=bytes(32), anchors=(), doomed=frozenset())
    copied = ((e.id, segment.verified(opened.directory, opened.secrets, e)) for e in first.segments)
    with _keeping(held, made) as keep:
        layout.create(directory, header, secrets, first, segments=copied, before=keep)[1].release()


def _with_device(given: Given, device: DeviceStore | None) -> tuple[Given, Kept | None]:
    """What opens a new vault, the device's own key or secret among it, and what the device is to keep."""
    if device is None:
        return given, None
    if given.device_key is not None or given.device_secret is not None:
        raise InvalidDataError("a device makes its own key: give device, or a device_key or device_secret")
    made = devices.fresh(key=given.passphrase is None)
    key, secret = next(iter(made.keys), None), next(iter(made.secrets), None)
    return replace(given, device_key=key, device_secret=secret), made


@contextlib.contextmanager
def _keeping(held: Device | None, made: Kept | None) -> Iterator[Callable[[], None]]:
    """A call that has the device keep what it made; where the rest fails, it is forgotten."""

    def keep() -> None:
        if held is not None and made is not None:
            held.save(made)

    try:
        yield keep
    except BaseException:
        if held is not None:
            with contextlib.suppress(StoreError):
                held.forget()
        raise


def unlock(
    directory: Path, write: bool, device: DeviceStore | None = None,
    anchor: Anchor | bytes | Iterable[Anchor | bytes] | None = None, accept_rollback: bool = False,
    guardian: bytes | None = None, **secret: Unpack[Secret],
) -> tuple[Session, files.WriterLock | None, Device | None]:  # fmt: skip
    """The vault in a directory, and its lock for a writer.

    Raises:
        InvalidDataError: nothing that could open it was given, or of a wrong shape.
        DecryptionError: nothing given opens it, or a file is damaged, foreign or stale.
        StoreError: it lies behind an anchor or on another branch, or the device keeps nothing for it.
    """
    given, left = replace(_given(**secret), guardian=guardian), None if accept_rollback else anchors.given(anchor)
    if device is None:
        candidates(None, given)
    if not (directory / files.HEADER).is_file():
        raise StoreError("no vault is there: check the path, or create one with Vault.create")
    lock = files.WriterLock(directory) if write else None
    try:
        secrets, by, found, held = _read(directory, device, given)
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
    directory: Path, store: DeviceStore | None, given: Given
) -> tuple[keys.Secrets, Access, manifest.Manifest, Device | None]:
    """The header, what opened it, and the newest manifest. A header that a writer replaces meanwhile is read again."""
    turn = 0
    while True:
        data = files.read(directory / files.HEADER, keys.MAX_HEADER)
        held = None if store is None else Device(store, keys.read_slots(data)[0])
        kept = None if held is None else held.kept
        if held is not None and kept is None and given == Given():
            raise devices.unknown()
        try:
            secrets, by = _opened(data, candidates(kept, given))
            return secrets, by, load(directory, secrets), None if kept is None else held
        except DecryptionError:
            turn += 1
            if turn == _TRIES or files.read(directory / files.HEADER, keys.MAX_HEADER) == data:
                raise


def candidates(kept: Kept | None, given: Given) -> list[Access]:
    """What to try, in order: what was given, and each key or secret that the device keeps, the newest first."""
    mine = kept or Kept("")
    alone = given.device_key or given.recovery_key or given.guardian
    if given.passphrase is None and mine.secrets and not mine.keys and not alone:
        raise InvalidDataError("this device keeps a secret that needs a passphrase beside it: give the passphrase")
    own: list[bytes | None] = [*mine.keys[::-1]] or [None]
    beside: list[bytes | None] = [*mine.secrets[::-1]] or [None]
    if given.device_key is not None:
        own = [given.device_key]
    if given.device_secret is not None or given.passphrase is None:
        beside = [given.device_secret]
    printed = given.printed
    return [keys.access(given.passphrase, key, secret, printed, given.guardian) for key in own for secret in beside]


def _opened(data: bytes, opening: list[Access]) -> tuple[keys.Secrets, Access]:
    for by in opening[:-1]:
        with contextlib.suppress(DecryptionError):
            return keys.open_header(data, by), by
    return keys.open_header(data, opening[-1]), opening[-1]
