"""What a device keeps for a vault, in the system's keyring or in a file: its key or its secret, and the vault's anchor.

A change of keys is in two steps, so that a crash between them locks nobody out: the new key is kept beside the old
one, then the header is replaced, then the old one is forgotten.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from datasov.crypto import kdf
from datasov.errors import StoreError, VerificationError
from datasov.vault import files
from datasov.vault.anchor import DEVICE, Anchor
from datasov.wire import cbor, fields

SERVICE = "datasov vault"
_LIMIT = 1 << 16
_CANDIDATES = 16


class DeviceStore(Protocol):
    """Where a device keeps a few bytes for each vault, in secret: :class:`Keyring`, :class:`KeyFile`, or your own."""

    def read(self, vault_id: bytes) -> bytes | None: ...

    def write(self, vault_id: bytes, value: bytes) -> None:
        """Keep it, durably and whole, or raise StoreError and keep what was there."""

    def forget(self, vault_id: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What one device keeps for one vault.

    Attributes:
        name: under which the vault records this device's anchor.
        keys, secrets: one of which opens the vault; more than one only while, or because, a change of keys was cut off.
    """

    name: str
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    anchor: Anchor | None = None

    def __bytes__(self) -> bytes:
        anchor = b"" if self.anchor is None else bytes(self.anchor)
        return cbor.encode([self.name, list(self.keys), list(self.secrets), anchor])

    @classmethod
    def read(cls, value: bytes) -> Kept:
        """What `bytes(kept)` gave; StoreError for anything else."""
        try:
            name, keys, secrets, anchor = fields.items(cbor.decode(value), 4, 4)
            return cls(
                fields.text(name, 64),
                tuple(fields.octets(key, 32) for key in fields.items(keys, 0, _CANDIDATES)),
                tuple(fields.octets(key, 32) for key in fields.items(secrets, 0, _CANDIDATES)),
                Anchor.read(anchor) if anchor else None,
            )
        except VerificationError:
            raise StoreError("what the device keeps for this vault is damaged: open it with another key") from None

    def with_new(self, key: bytes | None, secret: bytes | None) -> Kept:
        """With a new key, secret or both beside the old ones."""
        return replace(
            self,
            keys=self.keys if key is None else (*self.keys, key)[-_CANDIDATES:],
            secrets=self.secrets if secret is None else (*self.secrets, secret)[-_CANDIDATES:],
        )

    def settled(self, key: bytes | None, secret: bytes | None) -> Kept:
        """With these alone; what is None is kept as it is."""
        return replace(
            self,
            keys=self.keys if key is None else (key,),
            secrets=self.secrets if secret is None else (secret,),
        )

    def at(self, anchor: Anchor) -> Kept:
        """With the place where the vault now stands."""
        return replace(self, anchor=anchor)


def fresh(*, key: bool) -> Kept:
    """What a device keeps for a vault that is new to it: a key that opens it, or a secret beside a passphrase."""
    name, made = DEVICE + kdf.random(6).hex(), (kdf.random(32),)
    return Kept(name, keys=made) if key else Kept(name, secrets=made)


class Device:
    """What one device keeps for one vault, and where. It is read anew each time: others may change it."""

    __slots__ = ("_store", "vault_id")

    def __init__(self, store: DeviceStore, vault_id: bytes) -> None:
        self._store, self.vault_id = store, vault_id

    @property
    def kept(self) -> Kept | None:
        """None where the device keeps nothing for this vault."""
        value = self._store.read(self.vault_id)
        return None if value is None else Kept.read(value)

    def save(self, kept: Kept) -> None:
        """StoreError where it could not be kept: what was kept before still is."""
        self._store.write(self.vault_id, bytes(kept))

    def forget(self) -> None:
        """Keep nothing for this vault any more."""
        self._store.forget(self.vault_id)


def unknown() -> StoreError:
    """The device keeps nothing for the vault that it is asked to open."""
    return StoreError(
        "this device keeps nothing for this vault: open it by a passphrase, a recovery key or a guardian, then"
        " keys.enrol(device)"
    )


def another_copy() -> StoreError:
    """The device keeps the key of another copy of the vault, which it would lose."""
    return StoreError(
        "this device keeps the key of another copy of this vault: give KeyFile(path) for this one, so that both can be"
        " opened"
    )


class Keyring:
    """The keyring of the operating system, through the package `keyring` (extra `keyring`).

    What it protects from, and whether it asks before it gives a key out, is the system's doing.
    """

    __slots__ = ("_backend", "_errors")

    def __init__(self, backend: Any = None) -> None:
        """Use the system's keyring, or a backend of `keyring` that you hand in.

        Raises:
            StoreError: there is no keyring here that protects anything. Nothing is kept elsewhere in its place.
        """
        try:
            import keyring
            import keyring.errors
        except ImportError:
            raise StoreError(
                "the keyring needs its extra: pip install 'datasov[keyring]'. Or choose KeyFile(path), a file that"
                " your account alone can read, or a passphrase"
            ) from None
        self._errors: type[Exception] = keyring.errors.KeyringError
        if backend is None:
            backend = keyring.get_keyring()
            if _priority(backend) < 1:
                raise StoreError(
                    f"there is no keyring of the system here (the package keyring found {type(backend).__module__}):"
                    " unlock or install one, hand in a backend with Keyring(backend), choose KeyFile(path), a file"
                    " that your account alone can read, or use a passphrase"
                )
        self._backend = backend

    def read(self, vault_id: bytes) -> bytes | None:
        try:
            text = self._backend.get_password(SERVICE, vault_id.hex())
            return None if text is None else base64.b64decode(text, validate=True)
        except self._errors as fault:
            raise self._refused(fault) from fault
        except binascii.Error:
            raise StoreError("what the keyring keeps for this vault is damaged: open it with another key") from None

    def write(self, vault_id: bytes, value: bytes) -> None:
        text = base64.b64encode(value).decode()
        try:
            self._backend.set_password(SERVICE, vault_id.hex(), text)
            if self._backend.get_password(SERVICE, vault_id.hex()) != text:
                raise StoreError("the keyring did not keep what it was given: choose KeyFile(path) or a passphrase")
        except self._errors as fault:
            raise self._refused(fault) from fault

    def forget(self, vault_id: bytes) -> None:
        try:
            if self._backend.get_password(SERVICE, vault_id.hex()) is not None:
                self._backend.delete_password(SERVICE, vault_id.hex())
        except self._errors as fault:
            raise self._refused(fault) from fault

    @staticmethod
    def _refused(fault: Exception) -> StoreError:
        return StoreError(f"the keyring refused ({type(fault).__name__}): unlock it, or choose KeyFile(path)")


def _priority(backend: Any) -> float:
    """How much `keyring` recommends a backend: below 1, not; one that does not work here may raise."""
    try:
        return float(backend.priority)
    except RuntimeError:
        return 0


class KeyFile:
    """A file that one account alone can read (mode 0600), for one vault: for machines without a keyring.

    It is as safe as the disk that it lies on: keep it out of backups that hold the vault too.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def read(self, vault_id: bytes) -> bytes | None:
        with files.storing("the key file cannot be read"):
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as file:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
                    raise StoreError("the key file can be read by others: make new keys, and chmod 600 the file")
                data = file.read(_LIMIT)
        if data[:16] != vault_id:
            raise StoreError("the key file is another vault's: give the file of this one")
        return data[16:]

    def write(self, vault_id: bytes, value: bytes) -> None:
        self.read(vault_id)
        with files.storing("the key file cannot be written"):
            files.create(self._path, vault_id + value)

    def forget(self, vault_id: bytes) -> None:
        if self.read(vault_id) is not None:
            with files.storing("the key file cannot be removed"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                files.sync_directory(self._path.parent)

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"
