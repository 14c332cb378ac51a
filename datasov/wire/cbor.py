"""Deterministic CBOR, read strictly: one value has one encoding, and no other is read.

Map keys are ordered by length first (RFC 8949, section 4.2.3, the order of RFC 7049).
"""

from __future__ import annotations

from typing import Any, NoReturn

import cbor2

from datasov.errors import SignatureError, VerificationError

_MAX_DEPTH = 32
MOST_ITEMS = 1 << 20
"""In a long message that anybody may send: of empty lists alone, 64 MiB would take gigabytes and minutes to read."""
_PLAIN = frozenset({bytes, str, bool, type(None)})


def _refuse(_: object) -> NoReturn:
    raise ValueError("a tag")


class _NoTags(dict[int, Any]):
    """Refuses every tag before what it is on is read: a fraction or a pattern of megabytes takes hours to make."""

    def get(self, _: object, __: object = None) -> Any:
        return _refuse

    def __getitem__(self, _: object) -> Any:
        return _refuse


_NO_TAGS = _NoTags()


def _check(value: object, depth: int = 0) -> None:
    """Refuse what the formats here never hold: floats, tags, undefined, simple values, deep nesting."""
    if depth > _MAX_DEPTH:
        raise VerificationError("nested too deeply: these bytes are not of this format")
    if type(value) in _PLAIN or isinstance(value, bytes | str):
        return
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            raise VerificationError("an integer of more than 64 bits: these bytes are not of this format")
        return
    if isinstance(value, list | tuple):
        for item in value:
            if type(item) not in _PLAIN:
                _check(item, depth + 1)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
        return
    raise VerificationError(f"a {type(value).__name__} is not of this format")


def encode(value: object) -> bytes:
    """The one encoding of None, bools, 64-bit integers, bytes, texts, lists and maps of these."""
    _check(value)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, most_items: int | None = None) -> Any:
    """The value of an encoding that :func:`encode` would give; VerificationError for any other bytes.

    Args:
        most_items: one with more is refused before it is read. None: who sent it may fill the memory.
    """
    if most_items is not None and len(data) > most_items and _crowded(data, most_items):
        raise VerificationError("too many items in one message: these bytes are not of this format")
    try:
        value = cbor2.loads(data, semantic_decoders=_NO_TAGS)
        _check(value)
        again = cbor2.dumps(value, canonical=True)
    except VerificationError:
        raise
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, EOFError):
        raise VerificationError("not deterministic CBOR: ask the sender for the original bytes") from None
    if again != data:
        raise SignatureError("not the canonical encoding: ask the sender for the original bytes")
    return value


def _crowded(data: bytes, most: int) -> bool:
    """Whether there are more than so many items, going from one head to the next."""
    at, end, items = 0, len(data), 0
    while at < end and items <= most:
        head = data[at]
        kind, short = head >> 5, head & 31
        size = 1 << short - 24 if 24 <= short < 28 else 0
        at += 1 + size
        if kind in (2, 3):
            at += int.from_bytes(data[at - size : at], "big") if size else short
        items += 1
    return items > most


_LONG = {0x58: (1, 24), 0x59: (2, 2**8), 0x5A: (4, 2**16)}
"""First byte of a byte string's head: how many bytes of length follow, and the least length that takes so many."""


def start_of_blob(data: bytes, at: int, end: int) -> int:
    """Where the content begins of the byte string that is exactly data[at:end], canonically encoded; -1 where none is.

    Up to 2^32 - 1 bytes of content.
    """
    if not 0 <= at < end <= len(data):
        return -1
    first = data[at]
    if 0x40 <= first < 0x58:
        return at + 1 if at + 1 + first - 0x40 == end else -1
    size, least = _LONG.get(first, (0, 0))
    start = at + 1 + size
    if not size or start > end:
        return -1
    length = int.from_bytes(data[at + 1 : start], "big")
    return start if length >= least and start + length == end else -1
