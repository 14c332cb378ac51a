"""The ways of opening a vault: to list, add, remove and replace them (`vault.keys`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypedDict, Unpack

from datasov.crypto import kdf
from datasov.errors import InvalidDataError, StoreError
from datasov.model.schema import DOMAINS
from datasov.vault import anchor, device, keys, recovery, rekey, slots
from datasov.vault.keys import Secrets
from datasov.vault.session import Session
from datasov.vault.slots import Access

_LABEL = 64


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One way of opening a vault.

    Attributes:
        id: eight hexadecimal digits.
        kind: "passphrase", "device key", "recovery key" or "guardian".
        label: what its maker called it.
        created: Unix seconds; 0 where it is not known.
        opened: whether this Vault was opened by it.
    """

    id: str
    kind: str
    label: str
    created: int
    opened: bool


class NewSecrets(TypedDict, total=False):
    """What takes the place of the secrets of all slots: one of each kind, each never used before.

    A passphrase may stay if the device secret beside it is new. `recovery_key` is what `new_recovery_key` gave. `drop`
    names the slots that are to go, by their ids; every other slot needs its new secret here, but for guardians.
    """

    passphrase: str
    device_key: bytes
    device_secret: bytes
    recovery_key: str
    drop: Collection[str]


class Keys:
    """The key slots of an open vault. All but :meth:`slots` need the vault open for writing.

    Each change replaces the header as a whole: after a crash the vault opens as before it, or as after it. Readers that
    were open meanwhile open again. An older copy of the header still opens by the older secrets: who has both, and the
    older files, reads what was in them.
    """

    __slots__ = ("_device", "_session", "_writing")

    def __init__(
        self,
        session: Session,
        writing: Callable[[str], AbstractContextManager[None]],
        held: device.Device | None,
    ) -> None:
        self._session, self._writing, self._device = session, writing, held

    def slots(self) -> tuple[KeySlot, ...]:
        """The slots, in the order in which they are tried."""
        held = self._session.secrets
        return tuple(
            KeySlot(slot.id, slots.NAMES.get(slot.kind, "unknown"), slot.label, slot.created, place == held.opened[0])
            for place, slot in enumerate(held.slots)
        )

    def add_passphrase(self, passphrase: str, *, device_secret: bytes | None = None, label: str = "") -> None:
        """Let a passphrase open the vault: alone, or together with 32 random bytes that the device keeps."""
        self._add(slots.PASSPHRASE, keys.access(passphrase, device_secret=device_secret), label)

    def add_device_key(self, device_key: bytes | None = None, *, label: str = "") -> bytes:
        """Let 32 random bytes open the vault; they are made here unless you give them. Keep them before you go on."""
        key = kdf.random(32) if device_key is None else device_key
        self._add(slots.DEVICE_KEY, keys.access(device_key=key), label)
        return key

    def add_recovery(self, recovery_key: str | None = None, *, label: str = "") -> str:
        """Let a printed recovery key open the vault; it is made here unless you give one (`new_recovery_key`)."""
        text = recovery.new_recovery_key() if recovery_key is None else recovery_key
        self._add(slots.RECOVERY, keys.access(recovery=recovery.read_recovery_key(text)), label)
        return text

    def add_guardian(self, public: bytes, *, label: str = "") -> None:
        """Let the holder of an X-Wing private key help back in (:mod:`datasov.vault.recovery`).

        A guardian who also has a copy of the vault's files can read them: choose somebody who has none.

        Raises:
            InvalidDataError: `public` is no X-Wing public key.
            StoreError: the installed `cryptography` has no X-Wing, or nothing was changed.
        """
        self._add(slots.GUARDIAN, bytes(public), label)

    def enrol(self, store: device.DeviceStore, *, passphrase: str | None = None, label: str = "") -> None:
        """Let a device open the vault by a key that it keeps; or by a passphrase, with a secret that it keeps.

        Raises:
            StoreError: the device did not keep it, and nothing was changed.
        """
        _label(label)
        held, made = device.Device(store, self._session.secrets.vault_id), device.fresh(key=passphrase is None)
        key, secret = (made.keys or (None,))[0], (made.secrets or (None,))[0]
        with self._writing("the device was not enrolled"):
            before = held.kept
            if before is not None and before.anchor is not None and not anchor.knows(self._session, before.anchor):
                raise device.another_copy()
            kept = before or device.Kept(made.name)
            held.save(kept.with_new(key, secret))
            old = self._session.secrets
            try:
                if passphrase is None:
                    self.add_device_key(key, label=label)
                else:
                    self.add_passphrase(passphrase, device_secret=secret, label=label)
            except BaseException:
                self._undo(held, before, old)
                raise
            held.save(kept.settled(key, secret))
            self._device = self._device or held
            _leave(self._session, held)

    def remove(self, *ids: str) -> None:
        """Drop slots, so that what opened them opens the vault no more, and reads nothing that is written from now on.

        The other slots open as before. The keys of the vault, of every domain and of the device that signs are new. Who
        opened the vault before, *and* can write to its files, can put a vault of their own making in its place, which
        the other slots open: an anchor left from now on shows it, and :meth:`rotate` makes it impossible.

        Raises:
            InvalidDataError: no such slot, or none would remain that the resident opens alone.
        """
        with self._writing("the keys were not changed"):
            rekey.remove(self._session, ids)
            self.leave_anchor()

    def rotate(self, **new: Unpack[NewSecrets]) -> None:
        """New secrets for every slot (:class:`NewSecrets`), so that no older one opens the vault.

        Keep the new secrets before you call: they open the vault from the moment that the header is replaced. A device
        that the vault was opened with (`device=`) makes and keeps its own. Guardians are sealed to anew.

        Raises:
            InvalidDataError: a slot is neither given a new secret nor dropped, or a new secret is an old one.
        """
        self._reissue("the keys were not changed", None, **new)

    def erase_domain(self, domain: str, **new: Unpack[NewSecrets]) -> None:
        """As :meth:`datasov.vault.Vault.erase_domain`."""
        if domain not in DOMAINS:
            raise InvalidDataError(f"no such domain: choose one of {', '.join(DOMAINS)}")
        self._reissue("the domain is not erased yet, call again", domain, **new)

    def _reissue(
        self,
        what: str,
        erase: str | None,
        *,
        passphrase: str | None = None,
        device_key: bytes | None = None,
        device_secret: bytes | None = None,
        recovery_key: str | None = None,
        drop: Collection[str] = (),
    ) -> None:
        held, printed = self._device, None if recovery_key is None else recovery.read_recovery_key(recovery_key)
        before = None if held is None else held.kept
        if before is not None:
            stay = [slot for slot in self._session.secrets.slots if slot.id not in drop]
            if before.keys and device_key is None and any(s.kind == slots.DEVICE_KEY for s in stay):
                device_key = kdf.random(32)
            if before.secrets and device_secret is None and any(s.flags & slots.WITH_DEVICE_SECRET for s in stay):
                device_secret = kdf.random(32) if passphrase is not None else None
        new = keys.access(passphrase, device_key, device_secret, printed)
        with self._writing(what):
            if held is not None and before is not None:
                held.save(before.with_new(device_key, device_secret))
            old = self._session.secrets
            try:
                rekey.reissue(self._session, new, drop, int(time.time()), erase=erase)
            except BaseException:
                if held is not None and before is not None:
                    self._undo(held, before, old)
                raise
            if held is not None and before is not None:
                held.save(before.settled(device_key, device_secret))
                _leave(self._session, held)

    def _undo(self, held: device.Device, before: device.Kept | None, old: Secrets) -> None:
        """Let a device keep what it kept before, if the header is for sure the old one."""
        if self._session.secrets is old and not self._session.stuck:
            with contextlib.suppress(StoreError):
                held.forget() if before is None else held.save(before)

    def leave_anchor(self) -> None:
        """Leave an anchor with the device, if the vault was opened by one and went on since its last."""
        if self._device is not None:
            _leave(self._session, self._device)

    def forget_device(self) -> None:
        """Let the device forget the vault."""
        if self._device is not None:
            self._device.forget()

    def _add(self, kind: int, by: Access | bytes, label: str) -> None:
        _label(label)
        with self._writing("the key was not added"):
            rekey.add(self._session, kind, by, label, int(time.time()))


def _leave(session: Session, held: device.Device) -> None:
    """An anchor of where the vault stands, kept by a device. Where the disk refuses it, the one before it holds."""
    try:
        kept, counter = held.kept, session.manifest.counter
        if kept is None or (kept.anchor is not None and counter == kept.anchor.counter + 1 and not session.unsealed):
            return
        with contextlib.suppress(OSError):
            held.save(kept.at(anchor.leave(session, kept.name, held=kept.anchor)))
    except StoreError as fault:
        raise StoreError(f"all is stored, but this device did not keep an anchor of it: {fault}") from fault


def _label(label: str) -> None:
    if not isinstance(label, str) or len(label) > _LABEL or not (label.isprintable() or not label):
        raise InvalidDataError(f"a label is a printable text of at most {_LABEL} characters")
