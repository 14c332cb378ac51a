"""What a resident signs: the claims of a consent, as values."""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass

from datasov.errors import InvalidQueryError
from datasov.model.mynumber import check_text
from datasov.model.privacy import Loss, Trust


@dataclass(frozen=True, slots=True)
class CityId:
    """A city by its keys: what a consent is addressed to.

    Attributes:
        name: for people; it proves nothing.
        verify_key: Ed25519 public key, 32 bytes: signs checkpoints of the log.
        seal_key: X25519 public key, 32 bytes: contributions are encrypted to it.
    """

    name: str
    verify_key: bytes
    seal_key: bytes

    def __str__(self) -> str:
        keys = base64.urlsafe_b64encode(self.verify_key + self.seal_key).rstrip(b"=").decode()
        return f"{self.name}+{keys}"

    @staticmethod
    def parse(text: str) -> CityId:
        """The id whose text this is; InvalidQueryError where it is none."""
        name, plus, keys = text.rpartition("+")
        try:
            raw = base64.urlsafe_b64decode(keys + "=" * (-len(keys) % 4))
        except ValueError:
            raw = b""
        if not plus or len(raw) != 64 or len(name) > 64 or not name.isprintable():
            raise InvalidQueryError("not a city's id: copy the whole text that `print(city.id)` shows")
        return CityId(name, raw[:32], raw[32:])


def check_purpose(purpose: object) -> None:
    """Raise InvalidQueryError unless consents and the log can carry the text of a purpose."""
    if (
        not isinstance(purpose, str) or not 1 <= len(purpose) <= 128 or not purpose.isprintable()
        or purpose != purpose.strip() or unicodedata.normalize("NFC", purpose) != purpose
    ):  # fmt: skip
        raise InvalidQueryError(
            "a purpose is a printable text of 1 to 128 characters, in Unicode's NFC form, without spaces around it"
        )
    check_text(purpose, "a purpose")


PLACE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
"""A country or a part of one, by ISO 3166-1 and 3166-2: `JP`, `JP-10`."""


def check_place(place: object) -> None:
    """Raise InvalidQueryError unless a place is written as ISO 3166 does."""
    if not isinstance(place, str) or not PLACE.fullmatch(place):
        raise InvalidQueryError("a place is an ISO 3166 code: write it like 'JP' or 'JP-10'")


def contains(outer: str, inner: str) -> bool:
    """Whether a place lies in another, or is it: `JP` contains `JP-10`."""
    return inner == outer or inner.startswith(outer + "-")


@dataclass(frozen=True, slots=True)
class Coverage:
    """One table and the columns of it that a consent covers."""

    table: str
    schema_digest: bytes
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a consent token; times are Unix seconds.

    Attributes:
        issuer: the resident's Ed25519 public key for this domain and this controller, 32 bytes.
        audience: the text of the city's id.
        token_id: 16 random bytes.
        coverage: the event table first, then the attribute tables that the vault joins to it, then the tables that only
            derived columns read.
        loss: the most that all answers under this purpose may ever cost this resident.
        status: index in the city's status lists, 32 bits, random.
        processing: where the data may be processed: an ISO 3166 code; empty: within the jurisdiction.
        special: the covered columns of the special class (要配慮個人情報), as `table.column`, ascending.
        record: SHA-256 of the human-readable record, 32 bytes, or empty.
        subject: whose data it is, an Ed25519 key of 32 bytes; empty where the issuer speaks for themselves.
        parent: identity of the delegation under which the issuer signs, 32 bytes; empty where there is none.
    """

    issuer: bytes
    audience: str
    token_id: bytes
    issued: int
    not_before: int
    expires: int
    coverage: tuple[Coverage, ...]
    purpose: str
    trust: Trust
    loss: Loss
    jurisdiction: str
    status: int
    processing: str = ""
    special: tuple[str, ...] = ()
    record: bytes = b""
    subject: bytes = b""
    parent: bytes = b""

    @property
    def account(self) -> bytes:
        """The key whose account of loss the consent draws on, and which signs contributions: 32 bytes."""
        return self.subject or self.issuer

    @property
    def place(self) -> str:
        """Where the data may be processed: within this place, an ISO 3166 code."""
        return self.processing or self.jurisdiction


@dataclass(frozen=True, slots=True)
class Consent:
    """A signed consent: its bytes, its claims, and the hash of what was signed (its identity, 32 bytes).

    `chain` holds the delegations under which it was signed, the person's own first; none where they signed themselves.
    """

    token: bytes
    claims: Claims
    digest: bytes
    chain: tuple[bytes, ...] = ()
