"""age (age-encryption.org/v1): files sealed to recipients (X25519) or with a passphrase (scrypt), for any age tool.

The only importer of pyrage, which is Rust's implementation, rage. It comes with the extra `portability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasov.errors import DecryptionError, InvalidDataError, MissingExtraError


def _pyrage() -> Any:
    try:
        import pyrage
    except ModuleNotFoundError:
        raise MissingExtraError("age needs its extra: pip install 'datasov[portability]'") from None
    return pyrage


def require() -> None:
    """MissingExtraError unless age works here."""
    _pyrage()


def encrypt(data: bytes, *, passphrase: str | None, recipients: Sequence[str]) -> bytes:
    """The age file of some bytes: for a passphrase, or for recipients ("age1..."), not both: age mixes no scrypt.

    Raises:
        InvalidDataError: neither or both are given, a recipient is none, or the extra is missing.
    """
    age = _pyrage()
    if isinstance(recipients, str) or (passphrase is None) == (not recipients):
        raise InvalidDataError("wrap with a passphrase or with a list of age recipients: one of them")
    if passphrase is not None:
        if not isinstance(passphrase, str) or not passphrase:
            raise InvalidDataError("a passphrase is a text that is not empty")
        return bytes(age.passphrase.encrypt(data, passphrase))
    try:
        parsed = [age.x25519.Recipient.from_str(text) for text in recipients]
    except (age.RecipientError, TypeError, ValueError):
        raise InvalidDataError("an age recipient is a text like age1...: see age-keygen -y") from None
    return bytes(age.encrypt(data, parsed))


def decrypt(data: bytes, *, passphrase: str | None, identities: Sequence[str]) -> bytes:
    """The bytes that an age file holds.

    Args:
        identities: texts like AGE-SECRET-KEY-1..., as in an identity file.

    Raises:
        DecryptionError: a wrong key, or a damaged file: it does not say which.
        InvalidDataError: neither or both are given, an identity is none, or the extra is missing.
    """
    age = _pyrage()
    if isinstance(identities, str) or (passphrase is None) == (not identities):
        raise InvalidDataError("the file is wrapped with age: give its passphrase or a list of identities, one of them")
    try:
        if passphrase is not None:
            return bytes(age.passphrase.decrypt(data, passphrase))
        parsed = [age.x25519.Identity.from_str(text) for text in identities]
        return bytes(age.decrypt(data, parsed))
    except (age.IdentityError, TypeError):
        raise InvalidDataError("an age identity is a text like AGE-SECRET-KEY-1...: see age-keygen") from None
    except (age.DecryptError, ValueError):
        raise DecryptionError("the age file cannot be opened: a wrong key, or damaged bytes") from None
