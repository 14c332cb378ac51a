"""Base45 (RFC 9285): bytes in the 45 characters that a QR code holds in its alphanumeric mode, two bytes in three."""

from __future__ import annotations

from datasov.errors import VerificationError

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """The text of these bytes."""
    out = []
    for at in range(0, len(data) - 1, 2):
        high, low = divmod(data[at] * 256 + data[at + 1], 45 * 45)
        middle, first = divmod(low, 45)
        out += [_ALPHABET[first], _ALPHABET[middle], _ALPHABET[high]]
    if len(data) % 2:
        middle, first = divmod(data[-1], 45)
        out += [_ALPHABET[first], _ALPHABET[middle]]
    return "".join(out)


def decode(text: str) -> bytes:
    """The bytes of a text that :func:`encode` would give; VerificationError for any other text."""
    values = [_VALUES.get(character, -1) for character in text]
    if -1 in values or len(values) % 3 == 1:
        raise VerificationError("not Base45: read the whole code again")
    out = bytearray()
    for at in range(0, len(values), 3):
        group = values[at : at + 3]
        number = sum(value * 45**place for place, value in enumerate(group))
        size = len(group) - 1
        if number >= 256**size:
            raise VerificationError("not Base45: read the whole code again")
        out += number.to_bytes(size, "big")
    return bytes(out)
