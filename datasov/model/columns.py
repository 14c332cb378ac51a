"""Column types: what a value may be, in public, before anyone's data is seen.

Every column maps its values to integers in a declared, closed range ("codes"): categories to their position, decimals
to fixed point, timestamps to microseconds since the epoch. All sums are sums of codes, so they are exact.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from datasov.errors import InvalidQueryError
from datasov.model import mynumber

Legal: TypeAlias = Literal["ordinary", "special", "forbidden"]
"""Legal class: ordinary, special (要配慮個人情報: a consent must name it), or forbidden (never stored or pooled)."""

MAX_CODE = 2**53
"""Largest magnitude of a code: sums of clipped codes stay exact in 64 bits and in any reader of the open formats."""

UTC = dt.UTC
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


_MAX_EXPONENT = 400
"""A little more than a float's: beyond it, exact integers cost more than anybody who asks should be able to spend."""


def _check_legal(legal: str) -> None:
    if legal not in ("ordinary", "special", "forbidden"):
        raise InvalidQueryError(f"legal class {legal!r}: choose 'ordinary', 'special' or 'forbidden'")


def _check_range(low: int, high: int) -> None:
    if low > high:
        raise InvalidQueryError("a column's low bound lies above its high bound: swap them")
    if max(abs(low), abs(high)) > MAX_CODE:
        raise InvalidQueryError("a column's bounds exceed 2^53 units: choose a coarser unit or scale")


def exact(value: object) -> decimal.Decimal:
    """An exact decimal from an int, a Decimal, a str or the shortest text of a float."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | decimal.Decimal):
        raise InvalidQueryError(f"a {type(value).__name__} is not a number: give an int, a Decimal or a str")
    try:
        number = decimal.Decimal(float.__repr__(value) if isinstance(value, float) else value)
    except decimal.InvalidOperation:
        raise InvalidQueryError("that text is not a number: write it like '12.34'") from None
    if not number.is_finite():
        raise InvalidQueryError("NaN and infinity are not numbers here: give a finite value or null")
    if abs(number.adjusted()) > _MAX_EXPONENT:
        raise InvalidQueryError("that number has hundreds of digits: give one within the declared bounds")
    return number


@dataclass(frozen=True, slots=True)
class Category:
    """One of a closed list of texts; the code is the position in the list."""

    values: tuple[str, ...]
    nullable: bool
    legal: Legal

    def __init__(self, values: Iterable[str], *, nullable: bool = False, legal: Legal = "ordinary") -> None:
        listed = tuple(values)
        if not listed or not all(isinstance(v, str) for v in listed) or len(set(listed)) != len(listed):
            raise InvalidQueryError("a Category needs a list of distinct texts")
        if len(listed) > 65_535:
            raise InvalidQueryError("a Category holds at most 65,535 values: bin them first")
        for label in listed:
            mynumber.check_text(label, "a category")
        _check_legal(legal)
        object.__setattr__(self, "values", listed)
        object.__setattr__(self, "nullable", nullable)
        object.__setattr__(self, "legal", legal)

    @property
    def range(self) -> tuple[int, int]:
        return 0, len(self.values) - 1

    def encode(self, value: object) -> int:
        """The code of a value; ValueError's subclass InvalidQueryError where it is not listed."""
        if not isinstance(value, str) or value not in self.values:
            raise InvalidQueryError("not one of the declared categories")
        return self.values.index(value)

    def decode(self, code: int) -> str:
        return self.values[code]

    def document(self) -> dict[str, Any]:
        return {"type": "category", "values": list(self.values), "nullable": self.nullable, "legal": self.legal}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in [low, high]; the code is the number. Bounds that admit twelve-digit numbers need a unit."""

    low: int
    high: int
    unit: str = ""
    nullable: bool = False
    legal: Legal = "ordinary"

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise InvalidQueryError("an Integer's bounds are whole numbers")
        _check_range(self.low, self.high)
        mynumber.check_bounds(self.low, self.high, self.unit)
        _check_legal(self.legal)

    @property
    def range(self) -> tuple[int, int]:
        return self.low, self.high

    def encode(self, value: object) -> int:
        number = exact(value)
        if number != number.to_integral_value():
            raise InvalidQueryError("not a whole number")
        return int(number)

    def decode(self, code: int) -> int:
        return code

    def document(self) -> dict[str, Any]:
        return {
            "type": "integer", "low": self.low, "high": self.high, "unit": self.unit,
            "nullable": self.nullable, "legal": self.legal,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decimal:
    """A fixed-point number in [low, high] with `scale` digits after the point; the code is value * 10**scale.

    Bounds are given as int, str, decimal.Decimal or float (its shortest text counts).
    """

    low: decimal.Decimal
    high: decimal.Decimal
    scale: int
    unit: str
    nullable: bool
    legal: Legal

    def __init__(
        self,
        low: int | float | str | decimal.Decimal,
        high: int | float | str | decimal.Decimal,
        *,
        scale: int = 2,
        unit: str = "",
        nullable: bool = False,
        legal: Legal = "ordinary",
    ) -> None:
        if isinstance(scale, bool) or not isinstance(scale, int) or not 0 <= scale <= 12:
            raise InvalidQueryError("a Decimal's scale is a whole number from 0 to 12")
        _check_legal(legal)
        for name, value in (
            ("low", exact(low)), ("high", exact(high)), ("scale", scale),
            ("unit", unit), ("nullable", nullable), ("legal", legal),
        ):  # fmt: skip
            object.__setattr__(self, name, value)
        _check_range(*self.range)
        mynumber.check_bounds(self.low, self.high, unit)

    @property
    def range(self) -> tuple[int, int]:
        return self.encode(self.low), self.encode(self.high)

    def encode(self, value: object) -> int:
        with decimal.localcontext(prec=60):
            scaled = exact(value).scaleb(self.scale)
            if scaled != scaled.to_integral_value():
                raise InvalidQueryError(f"more than {self.scale} digits after the point: round it first")
            return int(scaled)

    def decode(self, code: int) -> decimal.Decimal:
        return decimal.Decimal(code).scaleb(-self.scale)

    def document(self) -> dict[str, Any]:
        low, high = self.range
        return {
            "type": "decimal", "low": low, "high": high, "scale": self.scale, "unit": self.unit,
            "nullable": self.nullable, "legal": self.legal,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timestamp:
    """An instant in [low, high], kept to the microsecond; hours and days are those of `zone`.

    `low` and `high` are aware datetimes, or ISO 8601 texts; a bound or a value without an offset is read in `zone`.
    """

    low: dt.datetime
    high: dt.datetime
    zone: str
    nullable: bool
    legal: Legal

    def __init__(
        self,
        low: dt.datetime | str,
        high: dt.datetime | str,
        *,
        zone: str = "Asia/Tokyo",
        nullable: bool = False,
        legal: Legal = "ordinary",
    ) -> None:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise InvalidQueryError(f"time zone {zone!r} is not known: use an IANA name like 'Asia/Tokyo'") from None
        _check_legal(legal)
        object.__setattr__(self, "zone", zone)
        object.__setattr__(self, "nullable", nullable)
        object.__setattr__(self, "legal", legal)
        object.__setattr__(self, "low", self._aware(low))
        object.__setattr__(self, "high", self._aware(high))
        _check_range(*self.range)

    def _aware(self, value: object) -> dt.datetime:
        if isinstance(value, str):
            try:
                value = dt.datetime.fromisoformat(value)
            except ValueError:
                raise InvalidQueryError("not a time: write it like '2027-01-31T08:00'") from None
        if not isinstance(value, dt.datetime):
            raise InvalidQueryError("not a time: give a datetime or an ISO 8601 text")
        try:
            return (value if value.tzinfo else value.replace(tzinfo=ZoneInfo(self.zone))).astimezone(UTC)
        except OverflowError:
            raise InvalidQueryError("not a time of the years 1 to 9999: give one within the declared bounds") from None

    @property
    def range(self) -> tuple[int, int]:
        return self.encode(self.low), self.encode(self.high)

    def encode(self, value: object) -> int:
        return (self._aware(value) - _EPOCH) // _MICROSECOND

    def decode(self, code: int) -> dt.datetime:
        return (_EPOCH + code * _MICROSECOND).astimezone(ZoneInfo(self.zone))

    def document(self) -> dict[str, Any]:
        low, high = self.range
        return {
            "type": "timestamp", "low": low, "high": high, "zone": self.zone,
            "nullable": self.nullable, "legal": self.legal,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or False; the code is 1 or 0."""

    nullable: bool = False
    legal: Legal = "ordinary"

    def __post_init__(self) -> None:
        _check_legal(self.legal)

    @property
    def range(self) -> tuple[int, int]:
        return 0, 1

    def encode(self, value: object) -> int:
        if not isinstance(value, bool):
            raise InvalidQueryError("not a truth value: give True or False")
        return int(value)

    def decode(self, code: int) -> bool:
        return bool(code)

    def document(self) -> dict[str, Any]:
        return {"type": "boolean", "nullable": self.nullable, "legal": self.legal}


Column: TypeAlias = Category | Integer | Decimal | Timestamp | Boolean


def column_from_document(doc: Mapping[str, Any]) -> Column:
    """The column that `document()` described; InvalidQueryError where there is no such type."""
    common = {"nullable": doc["nullable"], "legal": doc["legal"]}
    match doc["type"]:
        case "category":
            return Category(doc["values"], **common)
        case "integer":
            return Integer(doc["low"], doc["high"], doc["unit"], **common)
        case "decimal":
            low, high = (decimal.Decimal(doc[b]).scaleb(-doc["scale"]) for b in ("low", "high"))
            return Decimal(low, high, scale=doc["scale"], unit=doc["unit"], **common)
        case "timestamp":
            times = (_EPOCH + doc[b] * _MICROSECOND for b in ("low", "high"))
            return Timestamp(*times, zone=doc["zone"], **common)
        case "boolean":
            return Boolean(**common)
        case other:
            raise InvalidQueryError(f"column type {other!r} is not known: a newer version of datasov wrote it")
