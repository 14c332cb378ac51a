"""Changing keys: the order of durable steps that lets a vault open, after a crash, by the old keys or by the new ones.

A header is replaced as a whole, by a rename. One that is written here names the newest manifest, which an old header
could have made, as the floor that nothing older passes; what follows is written under new keys that no old header
holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from datasov.crypto import kdf
from datasov.errors import InvalidDataError
from datasov.vault import files, keys, slots
from datasov.vault.keys import Secrets
from datasov.vault.session import Session
from datasov.vault.slots import Access, Slot

_KINDS = (
    (slots.DEVICE_KEY, "device_key"), (slots.PASSPHRASE, "passphrase"), (slots.RECOVERY, "recovery_key")
)  # fmt: skip


def add(session: Session, kind: int, by: Access | bytes, label: str, created: int) -> None:
    """One more slot around the same KEK: of type 1 to 3 for an access, of type 4 for a guardian's public key."""
    old = session.secrets
    if len(old.slots) >= slots.MAX_SLOTS:
        raise InvalidDataError(f"a vault has at most {slots.MAX_SLOTS} slots: remove one first")
    if isinstance(by, Access):
        made, _ = slots.new(old.vault_id, kind, by, old.kek, label, created, shared=True)
    else:
        made = slots.guarded(old.vault_id, by, old.kek, label, created)
    if session.unsealed:
        session.commit()
    session.rekey(replace(old, generation=old.generation + 1, slots=(*_followed(old), made)))
    _after(session)


def remove(session: Session, ids: Collection[str]) -> None:
    """Drop slots, for good: whoever could open them reads nothing that is written from here on."""
    old = session.secrets
    _known(old.slots, ids)
    kek, kept, opened = kdf.random(32), list[Slot](), (-1, b"")
    for place, slot in enumerate(_followed(old)):
        if slot.id in ids:
            continue
        secret = None
        if place == old.opened[0] and slot.kind != slots.GUARDIAN:
            secret, opened = old.opened[1], (len(kept), old.opened[1])
        if not (secret or slot.public):
            raise InvalidDataError(f"slot {slot} cannot be kept without its key: open by it, or remove it too")
        kept.append(slots.rewrap(old.vault_id, slot, kek, secret))
    _enough(kept)
    change(session, replace(old, slots=tuple(kept), kek=kek, opened=opened), erase=None)


def reissue(session: Session, new: Access, drop: Collection[str], created: int, *, erase: str | None) -> None:
    """New secrets for every slot: those given take the place of the old ones, guardians stay, `drop` goes.

    Raises:
        InvalidDataError: a slot is neither given a new secret nor dropped, or a new secret is an old one.
    """
    old = session.secrets
    _known(old.slots, drop)
    given = {slots.DEVICE_KEY: new.device_key, slots.PASSPHRASE: new.passphrase, slots.RECOVERY: new.recovery}
    replaced: dict[int, Slot] = {}
    for slot in old.slots:
        if slot.id in drop or slot.kind == slots.GUARDIAN:
            continue
        if given.get(slot.kind) is None:
            name = dict(_KINDS).get(slot.kind, "a newer version")
            raise InvalidDataError(f"slot {slot} still opens with its old secret: give {name}, or name it in drop")
        if slot.flags & slots.WITH_DEVICE_SECRET and new.device_secret is None:
            raise InvalidDataError(f"slot {slot} needs a device_secret beside the passphrase: give a new one")
        if slot.kind in replaced:
            raise InvalidDataError(
                f"slots {replaced[slot.kind]} and {slot} cannot both have the new secret: name one in drop"
            )
        replaced[slot.kind] = slot
    beside = old.opened[1][32:]
    if any(slots.unwrap(old.vault_id, slot, new) for slot in old.slots) or (beside and beside == new.device_secret):
        raise InvalidDataError("a new secret opens the vault as it is, or did: make another one")
    guardians = [slot for slot in old.slots if slot.kind == slots.GUARDIAN and slot.id not in drop]
    kek, made, first = kdf.random(32), list[Slot](), b""
    kinds = [kind for kind, _ in _KINDS if given[kind] is not None]
    for kind in kinds:
        label, since = (replaced[kind].label, replaced[kind].created) if kind in replaced else ("", created)
        shared = len(kinds) + len(guardians) > 1
        slot, secret = slots.new(old.vault_id, kind, new, kek, label, since, shared=shared)
        made, first = [*made, slot], first or secret
    made += [slots.rewrap(old.vault_id, slot, kek, None) for slot in guardians]
    _enough(made)
    change(session, replace(old, slots=tuple(made), kek=kek, opened=(0, first)), erase=erase)


def change(session: Session, new: Secrets, *, erase: str | None) -> None:
    """Put new slots in place, with new keys of the vault, of the device and of every domain; erase a domain's old ones.

    In this order: the logs are folded, and the tables of an erased domain left out; the header with the new keys; a
    manifest under them; the header without the old vault key; a manifest under that; then old files go.
    """
    tables = session.manifest.tables
    without = {name for name in tables if session.schema(name).domain == erase}
    session.settle()
    session.fold({}, (), all_small=False, without=without)
    session.rekey(keys.rekeyed(new, erase))
    _after(session)


def finish(session: Session) -> None:
    """What a crash may have kept a change of keys from: a manifest that makes older headers stale, old keys gone.

    Raises:
        OSError: it is not finished. The vault is as good as before.
    """
    _outdate(session)
    found = session.secrets
    if len(found.vault_keys) > 1:
        newest = {found.epoch: found.vault_key(found.epoch)}
        session.rekey(replace(found, generation=found.generation + 1, vault_keys=newest))
        _outdate(session)
        session.sweep()


def _outdate(session: Session) -> None:
    """A manifest under the header in place, so that no older header goes with it."""
    if session.manifest.generation < session.secrets.generation:
        files.sync_directory(session.directory)
        session.commit()


def _after(session: Session) -> None:
    try:
        finish(session)
    except OSError as fault:
        raise files.failed("the keys are changed; what is left to tidy is done at the next opening", fault) from fault


def _followed(secrets: Secrets) -> tuple[Slot, ...]:
    """The slots, that which was opened with its public key."""
    at, secret = secrets.opened
    return tuple(
        slots.followed(secrets.vault_id, slot, secret) if place == at else slot
        for place, slot in enumerate(secrets.slots)
    )


def _known(present: Sequence[Slot], ids: Collection[str]) -> None:
    if isinstance(ids, str) or set(ids) - {slot.id for slot in present}:
        raise InvalidDataError("no such slot: keys.slots() lists them with their ids")


def _enough(kept: Sequence[Slot]) -> None:
    if all(slot.kind == slots.GUARDIAN for slot in kept):
        raise InvalidDataError("a vault keeps at least one slot that its resident opens alone: add another one first")
