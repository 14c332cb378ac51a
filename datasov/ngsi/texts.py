"""Texts that brokers refuse, and what stands in their place.

Orion refuses texts with any of ``< > " ' = ; ( )`` (against script injection) and ids that are not plain ASCII; NGSI-LD
has attribute names of letters, digits and underscores alone.
"""

from __future__ import annotations

import base64
import hashlib
import re

FORBIDDEN = frozenset("<>\"'=;()")
MARK = "base64url:"
"""Begins a text that stands for another one: unpadded base64url (RFC 4648, section 5) of its UTF-8 follows."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def b64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def safe(text: str) -> str:
    """The text as it is, or marked and encoded where a broker would refuse it; :func:`plain` gives it back."""
    refused = text.startswith(MARK) or any(c in FORBIDDEN or ord(c) < 32 or ord(c) == 127 for c in text)
    return MARK + b64url(text.encode()) if refused else text


def plain(text: str) -> str:
    """The text that :func:`safe` was given. What is marked and does not decode is taken as it stands."""
    if not text.startswith(MARK):
        return text
    body = text[len(MARK) :]
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return data.decode() if b64url(data) == body else text
    except ValueError:
        return text


def token(name: str) -> str:
    """A name as part of an id: as it is where it is ASCII, else base64url of its UTF-8, or of SHA-256 where long."""
    if _PLAIN.fullmatch(name):
        return name
    data = name.encode()
    return "-" + b64url(data if len(data) <= 60 else hashlib.sha256(data).digest())


def attribute(name: str) -> str:
    """The attribute that holds a key: `key_NAME`, `key_TABLE__NAME` of a joined one, `key__HASH` where not ASCII.

    The hash is the first 80 bits of SHA-256 of the name's UTF-8, in base32 of small letters.
    """
    joined = name.replace(".", "__")
    if _PLAIN.fullmatch(joined):
        return "key_" + joined
    return "key__" + base64.b32encode(hashlib.sha256(name.encode()).digest()[:10]).decode().lower()
