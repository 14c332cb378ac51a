"""Coming back into a vault without its device: a printed recovery key, or a guardian's help.

A recovery key is 256 random bits as text: `R1`, 52 digits of Crockford's base32 and the six check digits of Bech32m
(BIP 350) over all before them, sixty in all. Its check finds every mistake of up to four digits. Upper and lower case,
O and 0, I, L and 1 are the same; spaces and hyphens do not count.

A guardian holds an X-Wing private key, and never sees the vault. Its slot holds a secret that is sealed to the
guardian. To recover, the new device sends that sealed secret with a public key of its own (:class:`Asked`); the
guardian makes sure whose request it is by the code that the resident reads out, opens the secret and seals it to that
key (:class:`Guardian`); the new device opens the slot with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from datasov.crypto import kdf, seal
from datasov.errors import DecryptionError, InvalidDataError
from datasov.vault import files, keys, slots
from datasov.vault import format as fmt

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)} | {"O": 0, "I": 1, "L": 1}
_PREFIX, _KEY_DIGITS, _CHECK_DIGITS = "R1", 52, 6
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3
_MAGIC = b"dsvGUARD"
_SEALED = 32 + seal.HYBRID_OVERHEAD
_REQUEST = fmt.PREAMBLE + 32 + _SEALED + seal.HYBRID_PUBLIC
_CODE_BYTES = 10


def new_recovery_key() -> str:
    """A recovery key, to be printed: 60 digits in twelve groups."""
    return recovery_text(kdf.random(32))


def recovery_text(secret: bytes) -> str:
    """The text of a recovery key of 32 bytes."""
    digits = _PREFIX + _base32(secret, _KEY_DIGITS)
    values = [_VALUES[digit] for digit in digits]
    check = _polymod([*values, *[0] * _CHECK_DIGITS]) ^ _BECH32M
    digits += "".join(_DIGITS[check >> 5 * (_CHECK_DIGITS - 1 - i) & 31] for i in range(_CHECK_DIGITS))
    return "-".join(digits[i : i + 5] for i in range(0, len(digits), 5))


def read_recovery_key(text: str) -> bytes:
    """The 32 bytes of a recovery key; InvalidDataError where it was mistyped."""
    if not isinstance(text, str):
        raise InvalidDataError("recovery_key is the text that was printed")
    values = [_VALUES.get(digit, -1) for digit in re.sub(r"[\s-]", "", text).upper()]
    whole = len(_PREFIX) + _KEY_DIGITS + _CHECK_DIGITS
    if len(values) != whole:
        raise InvalidDataError(f"a recovery key has {whole} letters and digits, this has {len(values)}: check it")
    if -1 in values or values[:2] != [_VALUES[digit] for digit in _PREFIX] or _polymod(values) != _BECH32M:
        raise InvalidDataError("the recovery key was mistyped: compare every group with the paper")
    number = 0
    for value in values[2 : 2 + _KEY_DIGITS]:
        number = number << 5 | value
    if number & 15:
        raise InvalidDataError("the recovery key was mistyped: compare every group with the paper")
    return (number >> 4).to_bytes(32, "big")


def _base32(data: bytes, digits: int) -> str:
    number = int.from_bytes(data, "big") << 5 * digits - 8 * len(data)
    return "".join(_DIGITS[number >> 5 * (digits - 1 - i) & 31] for i in range(digits))


def _polymod(values: list[int]) -> int:
    """The checksum of BIP 173, over GF(32): a BCH code that finds any four wrong digits among 89."""
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i in range(5):
            check ^= _GENERATOR[i] if top >> i & 1 else 0
    return check


@dataclass(frozen=True, slots=True)
class Asked:
    """A new device's request for a guardian's help, made from a copy of the vault. Keep it until the answer is here.

    Attributes:
        request: bytes for the guardian, 2,446. They say nothing of the vault but its id.
        code: sixteen letters and digits. Tell them to the guardian yourself, face to face or by voice.
    """

    request: bytes
    code: str
    _key: seal.HybridKey = field(repr=False, compare=False)
    _secret: bytes = field(repr=False)

    @classmethod
    def of(cls, path: str | Path, guardian: bytes, *, seed: bytes | None = None) -> Asked:
        """A request to the guardian with this X-Wing public key, for the vault in a directory.

        Args:
            seed: 32 random bytes that make the request again, where it must outlive the process. Keep them secret.

        Raises:
            InvalidDataError: the vault has no slot for this guardian.
            StoreError, DecryptionError: there is no vault's header, or one that cannot be read.
        """
        with files.storing("the vault cannot be read"):
            vault_id, _, listed, _ = keys.read_slots(files.read(Path(path) / files.HEADER, keys.MAX_HEADER))
        secret = kdf.random(32) if seed is None else seed
        key, name = seal.HybridKey(secret), kdf.sha256(guardian)
        for slot in listed:
            found = slots.for_guardian(slot)
            if found is not None and found[0] == name:
                request = fmt.preamble(_MAGIC, vault_id) + name + found[1] + key.public
                return cls(request, _code(request), key, secret)
        raise InvalidDataError("the vault has no slot for this guardian: ask another one")

    @property
    def seed(self) -> bytes:
        """What makes this request again."""
        return self._secret

    def receive(self, answer: bytes) -> bytes:
        """The slot's secret from a guardian's answer: give it to `open` as `guardian`.

        Raises:
            DecryptionError: it is no answer to this request.
        """
        secret = self._key.open(answer, _answer_info(self.request))
        if len(secret) != 32:
            raise DecryptionError("not an answer to this request: ask the guardian again")
        return secret


class Guardian:
    """Somebody whom a resident trusts to let them back in: an X-Wing key from 32 random bytes, to be kept secret."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """InvalidDataError where the seed is not 32 bytes, StoreError where `cryptography` has no X-Wing."""
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise InvalidDataError("a guardian's key is 32 random bytes: make it with secrets.token_bytes(32)")
        self._key = seal.HybridKey(seed)
        self.public = self._key.public

    def answer(self, request: bytes, *, code: str) -> bytes:
        """Help the resident who read out this code: the slot's secret, sealed to their new device.

        Raises:
            InvalidDataError: the code is not that of the request, or the request is not to this guardian.
        """
        if not isinstance(request, bytes) or len(request) != _REQUEST:
            raise InvalidDataError("not a request for a guardian: ask for it again")
        try:
            vault_id = fmt.check_preamble(request, _MAGIC)
        except DecryptionError:
            raise InvalidDataError("not a request for a guardian of this version: ask for it again") from None
        if not isinstance(code, str) or _plain(code) != _plain(_code(request)):
            raise InvalidDataError("the code is not that of this request: somebody else may have made it")
        name, sealed, device = request[30:62], request[62 : 62 + _SEALED], request[62 + _SEALED :]
        if name != kdf.sha256(self.public):
            raise InvalidDataError("the request is to another guardian")
        try:
            secret = self._key.open(sealed, slots.guardian_info(vault_id))
        except DecryptionError:
            raise InvalidDataError("the request was not made from a vault that names this guardian") from None
        return seal.seal_hybrid(device, secret, _answer_info(request))

    def __repr__(self) -> str:
        return f"Guardian(public={kdf.sha256(self.public).hex()})"


def _answer_info(request: bytes) -> bytes:
    return fmt.context(b"guardian-answer", kdf.sha256(request))


def _code(request: bytes) -> str:
    digits = _base32(kdf.sha256(fmt.context(b"guardian-code", request))[:_CODE_BYTES], 16)
    return "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def _plain(code: str) -> list[int]:
    return [_VALUES.get(digit, -1) for digit in re.sub(r"[\s-]", "", code).upper()]
