"""The file VAULT: key slots, each wrapping one key-encryption key, and under that key the vault's own secrets."""

from __future__ import annotations

import struct
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasov.crypto import aead, kdf
from datasov.crypto.sign import SigningKey
from datasov.errors import InvalidDataError, VerificationError
from datasov.model.schema import DOMAINS
from datasov.vault import format as fmt
from datasov.vault import slots
from datasov.vault.slots import Access, Slot
from datasov.wire import cbor

MAX_HEADER = 1 << 20
_GENERATION = struct.Struct(">QB")
_BODY = struct.Struct(">32s32sI")
_BODY_STEP = 1024


def access(
    passphrase: str | None = None,
    device_key: bytes | None = None,
    device_secret: bytes | None = None,
    recovery: bytes | None = None,
    guardian: bytes | None = None,
) -> Access:
    """What the caller gave, checked; InvalidDataError says what is missing or of the wrong shape."""
    if passphrase is None and device_key is None and recovery is None and guardian is None:
        raise InvalidDataError("give a passphrase, a device_key, or another way of opening it")
    if device_secret is not None and passphrase is None:
        raise InvalidDataError("a device_secret only strengthens a passphrase: give the passphrase too")
    for name, key in (("device_key", device_key), ("device_secret", device_secret)):
        if key is not None and (not isinstance(key, bytes) or len(key) != 32):
            raise InvalidDataError(f"{name} is 32 random bytes: make it with secrets.token_bytes(32)")
    if guardian is not None and (not isinstance(guardian, bytes) or len(guardian) != 32):
        raise InvalidDataError("guardian is the 32 bytes that Asked.receive gives")
    secret = None
    if passphrase is not None:
        kdf.check_passphrase(passphrase)
        secret = kdf.check_passphrase(unicodedata.normalize("NFC", passphrase))
    return Access(secret, device_key, device_secret, recovery, guardian)


@dataclass(frozen=True, slots=True)
class DomainKey:
    """The key of one domain in one epoch: random, never derived, so that to forget it is to erase the domain."""

    name: str
    id: bytes
    epoch: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an opened header holds.

    Attributes:
        vault_id: 16 bytes, random.
        generation: counts the rewritings of the header.
        identity_seed: the resident's signing keys are derived from it.
        vault_keys: epoch to key; manifests and logs are sealed under the one of their epoch.
        devices: id to Ed25519 public key of each device that may sign a manifest.
        domains: every epoch of every domain's key.
        floor: (counter, digest) of the newest manifest when this header was written: none before it counts, and at
            this counter no other.
        slots: as they stand in the header.
        kek: what they wrap.
        opened: place and secret of the slot that was opened.
    """

    vault_id: bytes
    generation: int
    identity_seed: bytes = field(repr=False)
    vault_keys: dict[int, bytes] = field(repr=False)
    device_id: bytes
    device_seed: bytes = field(repr=False)
    devices: dict[bytes, bytes]
    domains: tuple[DomainKey, ...]
    floor: tuple[int, bytes] = (0, bytes(32))
    slots: tuple[Slot, ...] = ()
    kek: bytes = field(default=b"", repr=False)
    opened: tuple[int, bytes] = field(default=(-1, b""), repr=False)

    def vault_key(self, epoch: int) -> bytes:
        if epoch not in self.vault_keys:
            raise fmt.damaged()
        return self.vault_keys[epoch]

    @property
    def epoch(self) -> int:
        return max(self.vault_keys)

    def domain(self, name: str) -> DomainKey:
        """The newest key of a domain."""
        return max((d for d in self.domains if d.name == name), key=lambda d: d.epoch)

    def domain_at(self, domain_id: bytes, epoch: int) -> DomainKey:
        """The key of a domain in one epoch; DecryptionError where it is gone."""
        for found in self.domains:
            if found.id == domain_id and found.epoch == epoch:
                return found
        raise fmt.damaged()


def create(opening: Access) -> tuple[bytes, Secrets]:
    """A new header, as bytes, and what it holds. Keys of all domains are made at once: none shows which are used."""
    domains = tuple(DomainKey(name, kdf.random(16), 0, kdf.random(32)) for name in DOMAINS)
    return _slotted(_device(Secrets(
        vault_id=kdf.random(16), generation=1, identity_seed=kdf.random(32), vault_keys={0: kdf.random(32)},
        device_id=b"", device_seed=b"", devices={}, domains=domains,
    )), opening)  # fmt: skip


def enrolled(known: Secrets, opening: Access) -> tuple[bytes, Secrets]:
    """A header for one more device's vault of the same resident, as bytes, and what it holds.

    It has slots, a vault key and a signing device of its own alone, and a new epoch of each domain's key: who opened
    the known one, and is shut out of it later, reads nothing that the new one writes. Older epochs open the segments
    that are copied.
    """
    fresh = replace(
        known, generation=1, vault_keys={known.epoch + 1: kdf.random(32)}, domains=renewed(known.domains),
        floor=(0, bytes(32)),
    )  # fmt: skip
    return _slotted(_device(fresh), opening)


def _device(secrets: Secrets) -> Secrets:
    """The secrets with a new device, which alone may sign."""
    seed, device = kdf.random(32), kdf.random(16)
    return replace(secrets, device_id=device, device_seed=seed, devices={device: SigningKey(seed).public})


def _slotted(secrets: Secrets, opening: Access) -> tuple[bytes, Secrets]:
    """A header under a fresh key-encryption key, with a slot for each thing that shall open it."""
    kek, now = kdf.random(32), int(time.time())
    given = {
        slots.DEVICE_KEY: opening.device_key, slots.PASSPHRASE: opening.passphrase, slots.RECOVERY: opening.recovery
    }  # fmt: skip
    kinds = [kind for kind, secret in given.items() if secret is not None]
    made = [slots.new(secrets.vault_id, kind, opening, kek, "", now, shared=len(kinds) > 1) for kind in kinds]
    held = replace(secrets, slots=tuple(slot for slot, _ in made), kek=kek, opened=(0, made[0][1]))
    return assemble(held), held


def rekeyed(known: Secrets, erase: str | None) -> Secrets:
    """The secrets with a new vault key beside the old ones, a new device, and new keys of all domains."""
    vault_keys = {**known.vault_keys, known.epoch + 1: kdf.random(32)}
    domains = renewed(known.domains, erase)
    return _device(replace(known, generation=known.generation + 1, vault_keys=vault_keys, domains=domains))


def renewed(domains: Sequence[DomainKey], erase: str | None = None) -> tuple[DomainKey, ...]:
    """The keys of all domains with a new epoch of each; of the one to erase nothing but that.

    Erasing also gives the domain its next id, so that rows from before, of whichever device, are another domain's.
    """
    newest: dict[str, DomainKey] = {}
    for domain in sorted(domains, key=lambda d: d.epoch):
        newest[domain.name] = domain
    kept = tuple(d for d in domains if d.name != erase)
    return kept + tuple(
        DomainKey(d.name, _next_id(d.id) if d.name == erase else d.id, d.epoch + 1, kdf.random(32))
        for d in newest.values()
    )


def _next_id(domain_id: bytes) -> bytes:
    """The id of a domain once it is erased: the same on each device that erases it as often."""
    return kdf.sha256(fmt.context(b"erased", domain_id))[:16]


def assemble(secrets: Secrets) -> bytes:
    """A header with these slots and secrets."""
    head = fmt.preamble(fmt.MAGIC_VAULT, secrets.vault_id)
    head += _GENERATION.pack(secrets.generation, len(secrets.slots)) + slots.encode(secrets.slots)
    body = fmt.pad(_encode(secrets), _BODY_STEP)
    salt = kdf.random(32)
    key, commitment = kdf.derive_committed(secrets.kek, salt=salt, info=_body_context(secrets.vault_id))
    head += _BODY.pack(salt, commitment, len(body) + aead.TAG)
    return head + aead.encrypt(key, fmt.ZERO_NONCE, body, head)


def _body_context(vault_id: bytes) -> bytes:
    return fmt.context(b"body", vault_id)


def open_header(data: bytes, opening: Access) -> Secrets:
    """The secrets of a header, by the first slot that opens; DecryptionError where none does or a byte differs."""
    vault_id, generation, listed, at = read_slots(data)
    tried = ((place, slots.unwrap(vault_id, slot, opening)) for place, slot in enumerate(listed))
    place, opened = next((item for item in tried if item[1] is not None), (-1, None))
    try:
        salt, commitment, size = _BODY.unpack_from(data, at)
    except struct.error:
        raise fmt.damaged() from None
    at += _BODY.size
    if opened is None or len(data) != at + size:
        raise fmt.damaged()
    kek, secret = opened
    key = fmt.committed_key(kek, salt, commitment, _body_context(vault_id))
    try:
        body = fmt.unpad(aead.decrypt(key, fmt.ZERO_NONCE, data[at:], data[:at]))
        secrets = _decode(vault_id, generation, listed, cbor.decode(body))
    except (VerificationError, KeyError, TypeError, ValueError):
        raise fmt.damaged() from None
    return replace(secrets, kek=kek, opened=(place, secret))


def read_slots(data: bytes) -> tuple[bytes, int, tuple[Slot, ...], int]:
    """(vault id, generation, slots, where they end): what anybody can read, and nobody vouches for."""
    vault_id = fmt.check_preamble(data, fmt.MAGIC_VAULT)
    try:
        generation, count = _GENERATION.unpack_from(data, fmt.PREAMBLE)
        if not 1 <= count <= slots.MAX_SLOTS:
            raise fmt.damaged()
        listed, at = slots.parse(data, fmt.PREAMBLE + _GENERATION.size, count)
    except struct.error:
        raise fmt.damaged() from None
    return vault_id, generation, listed, at


def _encode(s: Secrets) -> bytes:
    return cbor.encode({
        1: s.identity_seed,
        2: [[epoch, key] for epoch, key in sorted(s.vault_keys.items())],
        3: s.device_id,
        4: s.device_seed,
        5: [[device, public] for device, public in sorted(s.devices.items())],
        6: [[d.name, d.id, d.epoch, d.key] for d in s.domains],
        7: list(s.floor),
        8: [[slot.label, slot.created, slot.public] for slot in s.slots],
    })  # fmt: skip


def _decode(vault_id: bytes, generation: int, listed: Sequence[Slot], doc: dict[int, Any]) -> Secrets:
    counter, digest = doc.get(7, [0, bytes(32)])
    notes = doc.get(8, [["", 0, b""]] * len(listed))
    return Secrets(
        vault_id, generation, doc[1], dict(doc[2]), doc[3], doc[4], dict(doc[5]),
        tuple(DomainKey(name, id_, epoch, key) for name, id_, epoch, key in doc[6]), (counter, digest),
        tuple(
            replace(slot, label=label, created=created, public=public)
            for slot, (label, created, public) in zip(listed, notes, strict=True)
        ),
    )  # fmt: skip
