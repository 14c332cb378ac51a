"""The parties of a trust model beside the city: aggregators, by their keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidQueryError

_URL = re.compile(r"https?://[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class AggregatorId:
    """An aggregator by its keys and its address.

    Attributes:
        name: for people; it proves nothing.
        url: where it answers, without a slash at the end.
        verify_key: Ed25519 public key, 32 bytes: signs what it says.
        seal_key: X25519 public key, 32 bytes: shares are encrypted to it.
    """

    name: str
    url: str
    verify_key: bytes
    seal_key: bytes

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 64 or set(self.name) & {"+", "@"}:
            raise InvalidQueryError("an aggregator's name is a printable text of 1 to 64 characters without + or @")
        if not _URL.fullmatch(self.url) or self.url.endswith("/"):
            raise InvalidQueryError("an aggregator's address begins with http:// or https:// and ends without a slash")
        if len(self.verify_key) != 32 or len(self.seal_key) != 32:
            raise InvalidQueryError("an aggregator's keys have 32 bytes each")

    def __str__(self) -> str:
        keys = base64.urlsafe_b64encode(self.verify_key + self.seal_key).rstrip(b"=").decode()
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
        if not plus or not at or len(raw) != 64:
            raise InvalidQueryError("not an aggregator's id: copy the whole text that `datasov aggregator init` shows")
        return AggregatorId(name, url, raw[:32], raw[32:])

    def document(self) -> dict[str, Any]:
        """As the trust's document names it."""
        return {
            "name": self.name, "url": self.url, "verify_key": self.verify_key.hex(), "seal_key": self.seal_key.hex(),
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> AggregatorId:
        """The id of :meth:`document`."""
        return AggregatorId(doc["name"], doc["url"], bytes.fromhex(doc["verify_key"]), bytes.fromhex(doc["seal_key"]))
