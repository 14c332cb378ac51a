"""Units: their codes of UN/CEFACT Recommendation 20, which entities carry, and conversion between those of a kind."""

from __future__ import annotations

import decimal
from fractions import Fraction

from datasov.errors import InvalidQueryError

_KINDS: dict[str, dict[str, tuple[str, Fraction]]] = {
    "energy": {
        "Wh": ("WHR", Fraction(1)), "kWh": ("KWH", Fraction(1000)), "MWh": ("MWH", Fraction(10**6)),
        "J": ("JOU", Fraction(1, 3600)), "MJ": ("3B", Fraction(10**6, 3600)),
    },
    "power": {"W": ("WTT", Fraction(1)), "kW": ("KWT", Fraction(1000))},
    "length": {
        "mm": ("MMT", Fraction(1, 1000)), "cm": ("CMT", Fraction(1, 100)), "m": ("MTR", Fraction(1)),
        "km": ("KMT", Fraction(1000)),
    },
    "area": {"m2": ("MTK", Fraction(1)), "km2": ("KMK", Fraction(10**6))},
    "volume": {"l": ("LTR", Fraction(1)), "m3": ("MTQ", Fraction(1000))},
    "mass": {"g": ("GRM", Fraction(1)), "kg": ("KGM", Fraction(1000)), "t": ("TNE", Fraction(10**6))},
    "time": {
        "s": ("SEC", Fraction(1)), "min": ("MIN", Fraction(60)), "h": ("HUR", Fraction(3600)),
        "day": ("DAY", Fraction(86_400)),
    },
    "share": {"%": ("P1", Fraction(1))},
    "number": {"row": ("C62", Fraction(1)), "resident": ("C62", Fraction(1))},
}  # fmt: skip
"""For each kind of quantity: a unit as schemas write it, its code, and its size in the kind's own unit."""

_CODES = {unit: code for units in _KINDS.values() for unit, (code, _) in units.items()}


def code_of(unit: str) -> str | None:
    """The code of a schema's unit; None where the recommendation has none that is known here (money has ISO 4217's)."""
    return _CODES.get(unit)


def convert(value: decimal.Decimal, given: str, wanted: str) -> decimal.Decimal:
    """A value given in one unit, a code or a schema's spelling, in another; exact, or rounded to 28 digits.

    Raises:
        InvalidQueryError: an unknown unit, or one of another kind of quantity.
    """
    if given == wanted:
        return value
    for units in _KINDS.values():
        sizes = {**dict(units.values()), **{unit: size for unit, (_, size) in units.items()}}
        if given in sizes and wanted in sizes:
            factor = sizes[given] / sizes[wanted]
            return value * factor.numerator / factor.denominator
    raise InvalidQueryError(f"a value in another unit than {wanted}, or in one that is not known: give it in {wanted}")
