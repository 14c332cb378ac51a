"""The parties of a trust model beside the city: aggregators, by their keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidQueryError

_URL = re.compile(r"https?://[!-~]{1,200}")
_ISSUER = 33


def check_issuer(key: bytes) -> None:
    """Raise InvalidQueryError unless it is an issuer's public key: a compressed point of P-256, 33 bytes."""
    if not isinstance(key, bytes) or len(key) != _ISSUER or key[0] not in (2, 3):
        raise InvalidQueryError("an issuer key is a compressed point of 33 bytes, or nothing")


@dataclass(frozen=True, slots=True)
class AggregatorId:
    """An aggregator by its keys and its address.

    Attributes:
        name: for people; it proves nothing.
        url: where it answers, without a slash at the end.
        verify_key: Ed25519 public key, 32 bytes: signs what it says.
        seal_key: X25519 public key, 32 bytes: shares are encrypted to it.
        issuer_key: point of P-256, 33 bytes: the enrolment tokens that it issues, and asks for with every report, are
            under it. Empty where it asks for none.
    """

    name: str
    url: str
    verify_key: bytes
    seal_key: bytes
    issuer_key: bytes = b""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 64 or set(self.name) & {"+", "@"}:
            raise InvalidQueryError("an aggregator's name is a printable text of 1 to 64 characters without + or @")
        if not _URL.fullmatch(self.url) or self.url.endswith("/"):
            raise InvalidQueryError("an aggregator's address begins with http:// or https:// and ends without a slash")
        if len(self.verify_key) != 32 or len(self.seal_key) != 32:
            raise InvalidQueryError("an aggregator's keys have 32 bytes each")
        if self.issuer_key:
            check_issuer(self.issuer_key)

    def __str__(self) -> str:
        keys = base64.urlsafe_b64encode(self.verify_key + self.seal_key + self.issuer_key).rstrip(b"=").decode()
        return f"{self.name}+{keys}@{self.url}"

    @staticmethod
    def parse(text: str) -> AggregatorId:
        """The id whose text this is; InvalidQueryError where it is none."""
        name, plus, rest = text.partition("+")
        keys, at, url = rest.partition("@")
        try:
            raw = base64.urlsafe_b64decode(keys + "=" * (-len(keys) % 4))
        except ValueError:
            raw = b""
        if not plus or not at or len(raw) not in (64, 64 + _ISSUER):
            raise InvalidQueryError("not an aggregator's id: copy the whole text that `datasov aggregator init` shows")
        return AggregatorId(name, url, raw[:32], raw[32:64], raw[64:])

    def document(self) -> dict[str, Any]:
        """As the trust's document names it; without an issuer key where there is none."""
        issues = {"issuer_key": self.issuer_key.hex()} if self.issuer_key else {}
        return {
            "name": self.name, "url": self.url, "verify_key": self.verify_key.hex(), "seal_key": self.seal_key.hex(),
            **issues,
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> AggregatorId:
        """The id of :meth:`document`."""
        verify, seal = bytes.fromhex(doc["verify_key"]), bytes.fromhex(doc["seal_key"])
        return AggregatorId(doc["name"], doc["url"], verify, seal, bytes.fromhex(doc.get("issuer_key", "")))
