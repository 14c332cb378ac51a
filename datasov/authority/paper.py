"""Bytes as lines that people type, read aloud or scan: Crockford's base32, each line numbered and checked by itself.

A line is its number, fifteen bytes as six groups of four digits, and two check digits: "3 8QK3 XM2P ... Z0". Upper and
lower case, O and 0, I, L and 1 are the same; spaces, hyphens and the quoting of e-mails do not count. A wrong line is
named, and found but for one in 1,024 at random. What the bytes are is checked by whoever uses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from datasov.crypto.kdf import sha256
from datasov.errors import InvalidDataError

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LINE = 15
_VALUES = {digit: value for value, digit in enumerate(DIGITS)} | {"O": 0, "I": 1, "L": 1}
_NUMBERED = re.compile(r"[\s>|*]*([0-9]{1,2})[\s.:)]+([0-9A-Za-z][0-9A-Za-z\s-]*)$")


def base32(data: bytes) -> str:
    """The digits of bytes, the last one filled with zero bits."""
    digits = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << 5 * digits - 8 * len(data)
    return "".join(DIGITS[number >> 5 * (digits - 1 - i) & 31] for i in range(digits))


def lines(data: bytes) -> list[str]:
    """The lines of a multiple of fifteen bytes."""
    found = []
    for number, at in enumerate(range(0, len(data), LINE), 1):
        part = data[at : at + LINE]
        digits = base32(part)
        groups = [digits[i : i + 4] for i in range(0, len(digits), 4)]
        found.append(f"{number} {' '.join(groups)} {_check(number, part)}")
    return found


def read(text: Iterable[str], length: int) -> bytes:
    """The bytes of lines, in whatever order they stand; other text is passed over.

    Raises:
        InvalidDataError: a line is mistyped, missing or given twice.
    """
    found: dict[int, bytes] = {}
    for line in text:
        match = _NUMBERED.fullmatch(line.rstrip())
        if match is None:
            continue
        number, digits = int(match[1]), re.sub(r"[\s-]", "", match[2]).upper()
        values = [_VALUES.get(digit, -1) for digit in digits]
        if len(values) != 26 or -1 in values:
            raise InvalidDataError(f"line {number} is not six groups of four and one of two: compare it with the paper")
        joined = 0
        for value in values[:24]:
            joined = joined << 5 | value
        part = joined.to_bytes(LINE, "big")
        if [_VALUES[digit] for digit in _check(number, part)] != values[24:]:
            raise InvalidDataError(f"line {number} was mistyped: compare it with the paper")
        if found.setdefault(number, part) != part:
            raise InvalidDataError(f"line {number} stands twice and differs: give one signature after the other")
    for number in range(1, length // LINE + 1):
        if number not in found:
            raise InvalidDataError(f"line {number} is missing: a signature has {length // LINE} lines")
    if len(found) > length // LINE:
        raise InvalidDataError(f"there are more lines than the {length // LINE} of a signature: check their numbers")
    return b"".join(found[n] for n in sorted(found))


def _check(number: int, part: bytes) -> str:
    return base32(sha256(b"datasov paper v1", bytes([number]), part))[:2]
