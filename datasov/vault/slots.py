"""Key slots: each wraps the vault's key-encryption key (KEK) for one way of opening it (docs/spec/vault.md, 3.1).

A slot is written in one of two forms. *Direct*: by who holds the slot's secret. *Sealed*: to a public key derived from
that secret, by who does not hold it; so that when one slot is removed, the others follow to a new KEK without asking
anybody for a passphrase or a printed key.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from datasov.crypto import aead, kdf, seal
from datasov.errors import DecryptionError
from datasov.vault import format as fmt

PASSPHRASE, DEVICE_KEY, RECOVERY, GUARDIAN = 1, 2, 3, 4
NAMES = {PASSPHRASE: "passphrase", DEVICE_KEY: "device key", RECOVERY: "recovery key", GUARDIAN: "guardian"}
WITH_DEVICE_SECRET, SEALED = 1, 2
"""Flags: the passphrase needs the device secret; the KEK is sealed to the slot's public key."""
MAX_SLOTS = 16
_SLOT = struct.Struct(">BBHH32s32s")
_ARGON2 = struct.Struct(">II")
_KEK = 32
_GUARDED = 32 + seal.HYBRID_OVERHEAD + 32


@dataclass(frozen=True, slots=True)
class Access:
    """What opens a vault. The passphrase is in NFC; keys and secrets are 32 bytes."""

    passphrase: bytes | None = field(default=None, repr=False)
    device_key: bytes | None = field(default=None, repr=False)
    device_secret: bytes | None = field(default=None, repr=False)
    recovery: bytes | None = field(default=None, repr=False)
    guardian: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a header.

    Attributes:
        salt, commitment: 32 bytes each.
        params: of Argon2id, or the guardian's sealed secret.
        label, created: a note and Unix seconds; kept in the sealed body, not in the slot.
        public: the key that a new KEK can be sealed to: a guardian's, or the slot's own; kept in the body too, empty
            where it is not known.
    """

    kind: int
    flags: int
    salt: bytes
    commitment: bytes
    params: bytes
    wrapped: bytes = field(repr=False)
    label: str = ""
    created: int = 0
    public: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        """Eight hexadecimal digits, of the salt."""
        return self.salt[:4].hex()

    def __str__(self) -> str:
        return f"{self.id} ({NAMES.get(self.kind, 'unknown')}{f' {self.label!r}' if self.label else ''})"


def encode(slots: Sequence[Slot]) -> bytes:
    """Slots one after the other, as the header holds them."""
    return b"".join(
        _SLOT.pack(s.kind, s.flags, len(s.params), len(s.wrapped), s.salt, s.commitment) + s.params + s.wrapped
        for s in slots
    )


def parse(data: bytes, at: int, count: int) -> tuple[tuple[Slot, ...], int]:
    """`count` slots from an offset, and where they end; struct.error or a short slot where the bytes do."""
    found = []
    for _ in range(count):
        kind, flags, params_size, wrapped_size, salt, commitment = _SLOT.unpack_from(data, at)
        at += _SLOT.size
        params, wrapped = data[at : at + params_size], data[at + params_size : at + params_size + wrapped_size]
        at += params_size + wrapped_size
        found.append(Slot(kind, flags, salt, commitment, params, wrapped))
    return tuple(found), at


def new(
    vault_id: bytes, kind: int, by: Access, kek: bytes, label: str, created: int, *, shared: bool
) -> tuple[Slot, bytes]:
    """A direct slot of type 1, 2 or 3 and its secret, made by who holds what it opens by.

    Args:
        shared: the vault has further slots, so that the KEK may one day change without this secret at hand.
    """
    flags = WITH_DEVICE_SECRET if kind == PASSPHRASE and by.device_secret is not None else 0
    params = _ARGON2.pack(*kdf.ARGON2_DEFAULT) if kind == PASSPHRASE else b""
    salt = kdf.random(32)
    secret = _secret(kind, flags, params, salt, by)
    slot = _direct(vault_id, Slot(kind, flags, salt, b"", params, b"", label, created), secret, kek)
    return (followed(vault_id, slot, secret) if shared else slot), secret


def guarded(vault_id: bytes, public: bytes, kek: bytes, label: str, created: int) -> Slot:
    """A slot that opens with the help of who holds the X-Wing private key of `public`.

    Raises:
        InvalidDataError, StoreError: as :func:`datasov.crypto.seal.seal_hybrid`.
    """
    slot = Slot(GUARDIAN, 0, kdf.random(32), b"", b"", b"", label, created, public)
    return rewrap(vault_id, slot, kek, None)


def followed(vault_id: bytes, slot: Slot, secret: bytes) -> Slot:
    """The slot with its public key, where it has none yet and X-Wing is there."""
    if slot.public or slot.kind == GUARDIAN or not seal.HYBRID:
        return slot
    return replace(slot, public=_own_key(vault_id, slot, secret).public)


def rewrap(vault_id: bytes, slot: Slot, kek: bytes, secret: bytes | None) -> Slot:
    """The slot around another KEK: direct with its secret, sealed to its public key without it."""
    if secret is not None:
        return _direct(vault_id, replace(slot, flags=slot.flags & ~SEALED), secret, kek)
    if slot.kind == GUARDIAN:
        secret = kdf.random(32)
        sealed = seal.seal_hybrid(slot.public, secret, guardian_info(vault_id))
        return _direct(vault_id, replace(slot, params=kdf.sha256(slot.public) + sealed), secret, kek)
    slot = replace(slot, flags=slot.flags | SEALED, commitment=kdf.sha256(slot.public))
    return replace(slot, wrapped=seal.seal_hybrid(slot.public, kek, _sealed_info(vault_id, slot)))


def unwrap(vault_id: bytes, slot: Slot, by: Access) -> tuple[bytes, bytes] | None:
    """(KEK, slot secret), or None where this does not open the slot."""
    try:
        secret = _secret(slot.kind, slot.flags & ~SEALED, slot.params, slot.salt, by)
        if slot.flags & SEALED:
            if slot.kind == GUARDIAN:
                return None
            own = _own_key(vault_id, slot, secret)
            if not kdf.same(kdf.sha256(own.public), slot.commitment):
                return None
            kek = own.open(slot.wrapped, _sealed_info(vault_id, slot))
        else:
            info = _info(vault_id, slot)
            key = fmt.committed_key(secret, slot.salt, slot.commitment, info)
            kek = aead.decrypt(key, fmt.ZERO_NONCE, slot.wrapped, info)
    except DecryptionError:
        return None
    return (kek, secret) if len(kek) == _KEK else None


def guardian_info(vault_id: bytes) -> bytes:
    """The HPKE info of the secret in a guardian's slot."""
    return fmt.context(b"guardian", vault_id)


def for_guardian(slot: Slot) -> tuple[bytes, bytes] | None:
    """(SHA-256 of the guardian's public key, secret sealed to it) of a guardian's slot."""
    if slot.kind != GUARDIAN or slot.flags or len(slot.params) != _GUARDED:
        return None
    return slot.params[:32], slot.params[32:]


def _described(slot: Slot) -> bytes:
    return struct.pack(">BBH", slot.kind, slot.flags, len(slot.params)) + slot.params


def _info(vault_id: bytes, slot: Slot) -> bytes:
    return fmt.context(b"slot", vault_id, _described(slot))


def _sealed_info(vault_id: bytes, slot: Slot) -> bytes:
    return fmt.context(b"slot-sealed", vault_id, _described(slot), slot.salt)


def _own_key(vault_id: bytes, slot: Slot, secret: bytes) -> seal.HybridKey:
    """The X-Wing key of a slot, from its secret."""
    info = fmt.context(b"slot-key", vault_id, bytes([slot.kind]))
    return seal.HybridKey(kdf.hkdf(secret, salt=slot.salt, info=info))


def _direct(vault_id: bytes, slot: Slot, secret: bytes, kek: bytes) -> Slot:
    info = _info(vault_id, slot)
    key, commitment = kdf.derive_committed(secret, salt=slot.salt, info=info)
    return replace(slot, commitment=commitment, wrapped=aead.encrypt(key, fmt.ZERO_NONCE, kek, info))


def _secret(kind: int, flags: int, params: bytes, salt: bytes, by: Access) -> bytes:
    """What a slot starts from; DecryptionError where the caller did not give it."""
    plain = {DEVICE_KEY: by.device_key, RECOVERY: by.recovery}.get(kind)
    if plain is not None and flags == 0 and not params:
        return plain
    if kind == GUARDIAN and by.guardian is not None and flags == 0 and len(params) == _GUARDED:
        return by.guardian
    if kind == PASSPHRASE and by.passphrase is not None and len(params) == _ARGON2.size:
        extra = b""
        if flags == WITH_DEVICE_SECRET and by.device_secret is not None:
            extra = by.device_secret
        elif flags:
            raise fmt.damaged()
        ops, memory = _ARGON2.unpack(params)
        try:
            return kdf.argon2id(by.passphrase, salt=salt[:16], ops=ops, memory=memory) + extra
        except (RuntimeError, MemoryError):
            raise fmt.damaged() from None
    raise fmt.damaged()
