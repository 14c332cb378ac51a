"""Deterministic CBOR, read strictly: one value has one encoding, and no other is read.

Map keys are ordered by length first (RFC 8949, section 4.2.3, the order of RFC 7049).
"""

from __future__ import annotations

from typing import Any, NoReturn

import cbor2

from datasov.errors import SignatureError, VerificationError

_MAX_DEPTH = 32
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
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is list or isinstance(value, list | tuple):
        for item in value:  # type: ignore[attr-defined]
            if type(item) not in _PLAIN:
                _check(item, depth + 1)
        return
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            raise VerificationError("an integer of more than 64 bits: these bytes are not of this format")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
        return
    if isinstance(value, bytes | str):
        return
    raise VerificationError(f"a {type(value).__name__} is not of this format")


def encode(value: object) -> bytes:
    """The one encoding of None, bools, 64-bit integers, bytes, texts, lists and maps of these."""
    _check(value)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Any:
    """The value of an encoding that :func:`encode` would give; VerificationError for any other bytes."""
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


def head(value: bytes | list[None]) -> bytes:
    """What stands before the content of a byte string, or before the items of a list."""
    whole = encode(value)
    return whole[: len(whole) - len(value)]


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
