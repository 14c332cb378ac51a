"""The file VAULT: key slots, each wrapping one key-encryption key, and under that key the vault's own secrets."""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from datasov.crypto import aead, kdf
from datasov.crypto.sign import SigningKey
from datasov.errors import DecryptionError, InvalidDataError, VerificationError
from datasov.model.schema import DOMAINS
from datasov.vault import format as fmt
from datasov.wire import cbor

PASSPHRASE, DEVICE_KEY = 1, 2
"""Slot types. 3 (recovery key) and 4 (guardian, HPKE with X-Wing) are laid out in the specification."""
WITH_DEVICE_SECRET = 1
MAX_SLOTS = 16
MAX_HEADER = 1 << 20
_SLOT = struct.Struct(">BBHH32s32s")
_GENERATION = struct.Struct(">QB")
_BODY = struct.Struct(">32s32sI")
_ARGON2 = struct.Struct(">II")
_BODY_STEP = 1024


@dataclass(frozen=True, slots=True)
class Access:
    """What opens a vault. Texts are compared in NFC; keys and secrets are 32 bytes."""

    passphrase: bytes | None = field(default=None, repr=False)
    device_key: bytes | None = field(default=None, repr=False)
    device_secret: bytes | None = field(default=None, repr=False)


def access(passphrase: str | None, device_key: bytes | None, device_secret: bytes | None) -> Access:
    """What the caller gave, checked; InvalidDataError says what is missing or of the wrong shape."""
    if passphrase is None and device_key is None:
        raise InvalidDataError("give a passphrase, a device_key, or both")
    if device_secret is not None and passphrase is None:
        raise InvalidDataError("a device_secret only strengthens a passphrase: give the passphrase too")
    for name, key in (("device_key", device_key), ("device_secret", device_secret)):
        if key is not None and (not isinstance(key, bytes) or len(key) != 32):
            raise InvalidDataError(f"{name} is 32 random bytes: make it with secrets.token_bytes(32)")
    secret = None
    if passphrase is not None:
        kdf.check_passphrase(passphrase)
        secret = kdf.check_passphrase(unicodedata.normalize("NFC", passphrase))
    return Access(secret, device_key, device_secret)


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
    """

    vault_id: bytes
    generation: int
    identity_seed: bytes = field(repr=False)
    vault_keys: dict[int, bytes] = field(repr=False)
    device_id: bytes
    device_seed: bytes = field(repr=False)
    devices: dict[bytes, bytes]
    domains: tuple[DomainKey, ...]

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
    device_seed, device_id = kdf.random(32), kdf.random(16)
    secrets = Secrets(
        vault_id=kdf.random(16), generation=1, identity_seed=kdf.random(32), vault_keys={0: kdf.random(32)},
        device_id=device_id, device_seed=device_seed, devices={device_id: SigningKey(device_seed).public},
        domains=tuple(DomainKey(name, kdf.random(16), 0, kdf.random(32)) for name in DOMAINS),
    )  # fmt: skip
    return _sealed(secrets, opening), secrets


def enrolled(known: Secrets, opening: Access) -> tuple[bytes, Secrets]:
    """A header for one more device of the same vault, as bytes, and what it holds: the same keys, its own identity."""
    seed, device_id = kdf.random(32), kdf.random(16)
    devices = {**known.devices, device_id: SigningKey(seed).public}
    secrets = replace(known, device_id=device_id, device_seed=seed, devices=devices)
    return _sealed(secrets, opening), secrets


def _sealed(secrets: Secrets, opening: Access) -> bytes:
    """A header under a fresh key-encryption key, with a slot for each thing that shall open it."""
    kek = kdf.random(32)
    slots = []
    if opening.device_key is not None:
        slots.append(_slot(secrets.vault_id, DEVICE_KEY, 0, b"", opening, kek))
    if opening.passphrase is not None:
        flags = 0 if opening.device_secret is None else WITH_DEVICE_SECRET
        slots.append(_slot(secrets.vault_id, PASSPHRASE, flags, _ARGON2.pack(*kdf.ARGON2_DEFAULT), opening, kek))
    return _assemble(secrets, slots, kek)


def _assemble(secrets: Secrets, slots: Iterable[bytes], kek: bytes) -> bytes:
    listed = list(slots)
    head = fmt.preamble(fmt.MAGIC_VAULT, secrets.vault_id) + _GENERATION.pack(secrets.generation, len(listed))
    head += b"".join(listed)
    body = fmt.pad(_encode(secrets), _BODY_STEP)
    salt = kdf.random(32)
    key, commitment = kdf.derive_committed(kek, salt=salt, info=_body_context(secrets.vault_id))
    head += _BODY.pack(salt, commitment, len(body) + aead.TAG)
    return head + aead.encrypt(key, fmt.ZERO_NONCE, body, head)


def _body_context(vault_id: bytes) -> bytes:
    return fmt.context(b"body", vault_id)


def _slot_info(vault_id: bytes, kind: int, flags: int, params: bytes) -> bytes:
    return fmt.context(b"slot", vault_id, struct.pack(">BBH", kind, flags, len(params)), params)


def _slot(vault_id: bytes, kind: int, flags: int, params: bytes, opening: Access, kek: bytes) -> bytes:
    salt, info = kdf.random(32), _slot_info(vault_id, kind, flags, params)
    key, commitment = kdf.derive_committed(_input(kind, flags, params, salt, opening), salt=salt, info=info)
    wrapped = aead.encrypt(key, fmt.ZERO_NONCE, kek, info)
    return _SLOT.pack(kind, flags, len(params), len(wrapped), salt, commitment) + params + wrapped


def _input(kind: int, flags: int, params: bytes, salt: bytes, opening: Access) -> bytes:
    """The secret that a slot starts from; DecryptionError where the caller did not give it."""
    if kind == DEVICE_KEY and flags == 0 and not params and opening.device_key is not None:
        return opening.device_key
    if kind == PASSPHRASE and opening.passphrase is not None and len(params) == _ARGON2.size:
        extra = b""
        if flags == WITH_DEVICE_SECRET and opening.device_secret is not None:
            extra = opening.device_secret
        elif flags:
            raise fmt.damaged()
        ops, memory = _ARGON2.unpack(params)
        try:
            return kdf.argon2id(opening.passphrase, salt=salt[:16], ops=ops, memory=memory) + extra
        except (RuntimeError, MemoryError):
            raise fmt.damaged() from None
    raise fmt.damaged()


def open_header(data: bytes, opening: Access) -> Secrets:
    """The secrets of a header, by the first slot that opens; DecryptionError where none does or a byte differs."""
    vault_id = fmt.check_preamble(data, fmt.MAGIC_VAULT)
    try:
        generation, count = _GENERATION.unpack_from(data, fmt.PREAMBLE)
        if not 1 <= count <= MAX_SLOTS:
            raise fmt.damaged()
        at, kek = fmt.PREAMBLE + _GENERATION.size, None
        for _ in range(count):
            kind, flags, params_size, wrapped_size, salt, commitment = _SLOT.unpack_from(data, at)
            at += _SLOT.size
            params, wrapped = data[at : at + params_size], data[at + params_size : at + params_size + wrapped_size]
            at += params_size + wrapped_size
            if kek is None:
                kek = _try_slot(vault_id, kind, flags, params, salt, commitment, wrapped, opening)
        salt, commitment, size = _BODY.unpack_from(data, at)
    except struct.error:
        raise fmt.damaged() from None
    at += _BODY.size
    if kek is None or len(data) != at + size:
        raise fmt.damaged()
    key = fmt.committed_key(kek, salt, commitment, _body_context(vault_id))
    try:
        body = fmt.unpad(aead.decrypt(key, fmt.ZERO_NONCE, data[at:], data[:at]))
        return _decode(vault_id, generation, cbor.decode(body))
    except (VerificationError, KeyError, TypeError, ValueError):
        raise fmt.damaged() from None


def slots(data: bytes) -> list[tuple[int, int, bytes]]:
    """(type, flags, parameters) of each slot of a header. Nothing is verified: that needs a key."""
    fmt.check_preamble(data, fmt.MAGIC_VAULT)
    found = []
    try:
        _, count = _GENERATION.unpack_from(data, fmt.PREAMBLE)
        at = fmt.PREAMBLE + _GENERATION.size
        for _ in range(count):
            kind, flags, params, wrapped, _, _ = _SLOT.unpack_from(data, at)
            at += _SLOT.size
            found.append((kind, flags, data[at : at + params]))
            at += params + wrapped
    except struct.error:
        raise fmt.damaged() from None
    return found


def _try_slot(
    vault_id: bytes, kind: int, flags: int, params: bytes, salt: bytes, commitment: bytes, wrapped: bytes, by: Access
) -> bytes | None:
    info = _slot_info(vault_id, kind, flags, params)
    try:
        key = fmt.committed_key(_input(kind, flags, params, salt, by), salt, commitment, info)
        kek = aead.decrypt(key, fmt.ZERO_NONCE, wrapped, info)
    except DecryptionError:
        return None
    return kek if len(kek) == 32 else None


def _encode(s: Secrets) -> bytes:
    return cbor.encode({
        1: s.identity_seed,
        2: [[epoch, key] for epoch, key in sorted(s.vault_keys.items())],
        3: s.device_id,
        4: s.device_seed,
        5: [[device, public] for device, public in sorted(s.devices.items())],
        6: [[d.name, d.id, d.epoch, d.key] for d in s.domains],
    })  # fmt: skip


def _decode(vault_id: bytes, generation: int, doc: dict[int, Any]) -> Secrets:
    return Secrets(
        vault_id, generation, doc[1], dict(doc[2]), doc[3], doc[4], dict(doc[5]),
        tuple(DomainKey(name, id_, epoch, key) for name, id_, epoch, key in doc[6]),
    )  # fmt: skip
