"""A signer's key in a file of their own: readable by its owner alone, wrapped under a passphrase where one is given."""

from __future__ import annotations

import os
from pathlib import Path

from datasov.crypto.aead import decrypt, encrypt
from datasov.crypto.kdf import ARGON2_DEFAULT, argon2id, random
from datasov.crypto.sign import SigningKey
from datasov.errors import DecryptionError, InvalidDataError, StoreError

HEAD = "datasov signing key v1"
_MOST = 4096


def create(path: Path, passphrase: str | None) -> bytes:
    """Make a new key in a new file; its public half, 32 bytes.

    Raises:
        StoreError: the file exists, or cannot be written.
    """
    seed = random(32)
    public = SigningKey(seed).public
    if passphrase is None:
        kept = f"secret {seed.hex()}"
    else:
        salt, (ops, memory) = random(16), ARGON2_DEFAULT
        key = argon2id(passphrase.encode(), salt=salt, ops=ops, memory=memory)
        sealed = encrypt(key, bytes(12), seed, _bound(public))
        kept = f"wrapped argon2id {ops} {memory} {salt.hex()} {sealed.hex()}"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as file:
            file.write(f"{HEAD}\npublic {public.hex()}\n{kept}\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise StoreError(f"{path} exists already: a key is never overwritten, choose another path") from None
    except OSError as fault:
        raise StoreError(f"the key file cannot be written: {fault.strerror or fault}") from None
    return public


def public_of(path: Path) -> bytes:
    """The public half in a key file, 32 bytes, for which no passphrase is needed."""
    return _read(path)[0]


def needs_passphrase(path: Path) -> bool:
    """Whether it takes a passphrase to sign with the key; errors as :func:`load`, but for the passphrase."""
    _, kept = _read(path)
    if os.stat(path).st_mode & 0o077:
        raise StoreError(f"others can read {path}: close it with chmod 600, and think of whether it was copied")
    return kept[0] == "wrapped"


def load(path: Path, passphrase: str | None) -> SigningKey:
    """The key of a file.

    Raises:
        StoreError: it cannot be read, or others than its owner can read it.
        InvalidDataError: it is no key file. DecryptionError: a wrong passphrase, or a damaged file.
    """
    public, kept = _read(path)
    try:
        if not needs_passphrase(path):
            seed = bytes.fromhex(kept[1])
        else:
            ops, memory = int(kept[2]), int(kept[3])
            key = argon2id((passphrase or "").encode(), salt=bytes.fromhex(kept[4]), ops=ops, memory=memory)
            seed = decrypt(key, bytes(12), bytes.fromhex(kept[5]), _bound(public))
    except ValueError:
        raise _no_key(path) from None
    except DecryptionError:
        raise DecryptionError("the key cannot be opened: a wrong passphrase, or a damaged file") from None
    if len(seed) != 32 or (found := SigningKey(seed)).public != public:
        raise DecryptionError("the key cannot be opened: a wrong passphrase, or a damaged file")
    return found


def _read(path: Path) -> tuple[bytes, list[str]]:
    try:
        with open(path, "rb") as file:
            head, public, kept, end = file.read(_MOST).decode("ascii").split("\n")
        words = kept.split(" ")
        parts = {"secret": 2, "wrapped": 6}.get(words[0])
        if head == HEAD and public.startswith("public ") and len(words) == parts and not end:
            found = bytes.fromhex(public.removeprefix("public "))
            if len(found) == 32:
                return found, words
    except OSError as fault:
        raise StoreError(f"the key file cannot be read: {fault.strerror or fault}") from None
    except ValueError:
        pass
    raise _no_key(path)


def _no_key(path: Path) -> InvalidDataError:
    return InvalidDataError(f"{path} is no signing key: make one with `datasov key new`")


def _bound(public: bytes) -> bytes:
    return HEAD.encode() + public
