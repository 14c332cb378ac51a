"""Pseudonyms: what a resident is called in one city, domain, programme and period, and nowhere else.

HKDF-SHA-256 of the vault's identity seed, over an injective encoding of all that it is for: docs/identity.md.
"""

from __future__ import annotations

from collections.abc import Callable

from datasov.crypto.kdf import sha256
from datasov.errors import InvalidQueryError
from datasov.model.consent import CityId
from datasov.model.schema import DOMAINS
from datasov.wire import cbor

_INFO = b"datasov pseudonym v1 "


def period_index(time: int, seconds: int) -> int:
    """The number of the period of so many seconds, counted from 1970, that a time (Unix seconds) lies in: public."""
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds < 2**40:
        raise InvalidQueryError("a period is a whole number of seconds above zero: give its length, like 30 * 86_400")
    if not 0 <= time < 2**40:
        raise InvalidQueryError("a period lies at or after 1970: give Unix seconds")
    return time // seconds


def pseudonym(
    derive: Callable[[bytes], bytes], city: CityId, domain: str, programme: bytes | str, time: int, seconds: int
) -> bytes:
    """32 bytes, the same wherever `derive` is the same vault's and everything else is equal, and unlinkable otherwise.

    Args:
        derive: a PRF under the vault's identity seed, of 32 bytes.
        programme: the identity of its notice in the log (32 bytes), or a purpose's text.
        time, seconds: see :func:`period_index`; the length of the periods counts too, not their number alone.

    Raises:
        InvalidQueryError: a domain, programme or period that is none.
    """
    if domain not in DOMAINS:
        raise InvalidQueryError(f"domain {domain!r} is not one of {', '.join(DOMAINS)}")
    if isinstance(programme, bytes) and len(programme) != 32:
        raise InvalidQueryError("a programme's identity is 32 bytes: take that of its notice")
    if not isinstance(programme, bytes | str) or not programme:
        raise InvalidQueryError("name the programme by the identity of its notice, or by its purpose")
    what = [str(city), domain, programme, seconds, period_index(time, seconds)]
    return derive(_INFO + sha256(cbor.encode(what)))
