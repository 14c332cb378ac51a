"""My Number (個人番号): told by its form and its check digit, so that none is declared, put, contributed or asked for.

Twelve digits, the last a check digit: 11 less the remainder of sum(P_n Q_n) by 11, or 0 where that remainder is at most
1; P_n is the n-th of the other eleven digits from the right, Q_n is n + 1 for n <= 6 and n - 5 above (article 5 of
平成26年総務省令第85号, an ordinance of the ministry of internal affairs). One in ten of all twelve-digit numbers
passes. A corporate number (法人番号, 13 digits) is not personal.
"""

from __future__ import annotations

import decimal
import re
import unicodedata
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidQueryError

WEIGHTS = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
"""Of the first eleven digits, from the left."""
LEAST, MOST = 10**11, 10**12 - 1
"""The numbers of twelve digits. One that begins with 0 is told in a text alone: as a number it is like any other."""
REFUSAL = "a My Number, or a number that nothing tells from one: leave it out"

Mask: TypeAlias = npt.NDArray[np.bool_]

_KANJI = str.maketrans("〇一二三四五六七八九", "0123456789")
_BETWEEN = r"[\s\-\u2010-\u2015\u2212\u30fb\u30fc_.]{1,3}"
"""Spaces, hyphens of all kinds (and what is typed in their place), middle dots, points."""
_WHOLE = re.compile(r"(?<!\d)\d{12}(?!\d)")
_GROUPS = re.compile(rf"(?<!\d)\d{{4}}{_BETWEEN}\d{{4}}{_BETWEEN}\d{{4}}(?!\d)")
_SPELT = re.compile(rf"(?<!\d)\d{{1,4}}(?:{_BETWEEN}\d{{1,4}})*(?!\d)")


def check_digit(digits: str) -> int:
    """The check digit of the first eleven digits."""
    rest = sum(w * int(d) for w, d in zip(WEIGHTS, digits, strict=True)) % 11
    return 0 if rest <= 1 else 11 - rest


def _passes(text: str) -> bool:
    digits = [unicodedata.decimal(c) for c in text if c.isdecimal()]
    plain = "".join(map(str, digits))
    return len(plain) == 12 and check_digit(plain[:11]) == digits[11]


def in_text(text: str) -> bool:
    """Whether a text holds a My Number: in any script's digits, with spaces, hyphens or the like between them.

    Found are twelve digits on end, three groups of four wherever they stand, and groups of one to four digits that are
    twelve together. Longer groups are taken for other numbers: "100000-199999" is a band of incomes.
    """
    if len(text) < 12:
        return False
    plain = unicodedata.normalize("NFKC", text).translate(_KANJI)
    return any(_passes(m.group()) for form in (_WHOLE, _GROUPS, _SPELT) for m in form.finditer(plain))


def in_number(value: int | decimal.Decimal) -> bool:
    """Whether a number, its sign aside, has the twelve digits of a My Number and nothing after the point."""
    size = abs(decimal.Decimal(value))
    return LEAST <= size <= MOST and size == int(size) and _passes(str(int(size)))


def in_numeral(text: str) -> bool:
    """Whether a text writes a My Number where a number is read: leading zeros are digits there, twelve in all."""
    bare = re.sub(r"\.0*$", "", re.sub(r"[\s_+\-]", "", unicodedata.normalize("NFKC", text)))
    return bare.isdecimal() and _passes(bare)


def among(numbers: npt.NDArray[np.int64]) -> Mask:
    """For each whole number what :func:`in_number` says; numbers of other lengths cost one comparison."""
    size = np.abs(numbers)
    found: Mask = (size >= LEAST) & (size <= MOST)
    at = np.flatnonzero(found)
    if len(at):
        rest, last = np.divmod(size[at], 10)
        found[at] = _expected(rest) == last
    return found


def _expected(rest: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Check digits of numbers of at most eleven digits."""
    total = np.zeros_like(rest)
    for weight in reversed(WEIGHTS):
        rest, digit = np.divmod(rest, 10)
        total += weight * digit
    remainder = total % 11
    return np.where(remainder <= 1, 0, 11 - remainder)


def among_texts(texts: pl.Series) -> pl.Series:
    """For each text, what :func:`in_numeral` says."""
    long = (texts.str.len_bytes() >= 12).fill_null(False)
    if long.any():
        long &= ~texts.str.contains(r"\.[0-9]*[1-9]").fill_null(True)
    if not long.any():
        return long
    bare = texts.filter(long).str.normalize("NFKC").str.replace_all(r"[\s_+\-]", "").str.replace(r"\.0*$", "")
    digits = bare.set(~bare.str.contains(r"^[0-9]{12}$"), None).cast(pl.Int64, strict=False).fill_null(-1)
    rest, last = np.divmod(digits.to_numpy(), 10)
    mask = long.to_numpy().copy()
    mask[mask] = (digits.to_numpy() >= 0) & (_expected(rest) == last)
    return pl.Series(mask)


def admits(low: int | decimal.Decimal, high: int | decimal.Decimal) -> bool:
    """Whether some number of [low, high] has twelve digits before the point."""
    return max(low, LEAST) <= min(high, MOST) or max(low, -MOST) <= min(high, -LEAST)


def check_bounds(low: int | decimal.Decimal, high: int | decimal.Decimal, unit: str) -> None:
    """Raise InvalidQueryError unless a column of numbers is no place for a My Number: docs/limitations.md."""
    check_text(unit, "a unit")
    if in_number(low) or in_number(high):
        raise InvalidQueryError("a bound could be a My Number, by its check digit: choose a bound beside it")
    if admits(low, high) and not unit:
        raise InvalidQueryError(
            "a column whose bounds admit twelve-digit numbers could hold My Numbers, which have no unit: "
            "name the column's unit, or narrow its bounds below 10^11"
        )


def check_text(text: object, what: str) -> None:
    """Raise InvalidQueryError where a text that will be public holds a My Number; the message does not repeat it."""
    if isinstance(text, str) and in_text(text):
        raise InvalidQueryError(f"{what} holds a My Number, or digits that nothing tells from one: write it without")


def check_literal(value: object) -> None:
    """Raise InvalidQueryError where a constant of a question is a My Number, as a number or as a text."""
    number = isinstance(value, int | decimal.Decimal) and not isinstance(value, bool)
    if (number and in_number(value)) or (isinstance(value, str) and in_text(value)):  # type: ignore[arg-type]
        raise InvalidQueryError(f"a question's constant is {REFUSAL}")
