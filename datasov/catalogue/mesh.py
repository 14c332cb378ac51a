"""JIS X 0410, the standard area mesh: codes of squares from 80 km to 125 m, from latitude and longitude and back.

A square of level 1 is 40 minutes of latitude by 1 degree of longitude. Level 2 parts it by 8 each way, level 3 (the
basic one, about 1 km) that by 10, and levels 4, 5 and 6 (half, quarter, eighth) part by 2 each. All of them are whole
multiples of the smallest, 1/960 by 1/640 of a degree, so all arithmetic is on whole numbers.

Source: JIS X 0410:1976 with its amendment of 2002, and 昭和48年行政管理庁告示第143号. Coordinates are those of the
geodetic datum of Japan since 2002 (JGD2000, JGD2011); WGS 84 serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.model.columns import Category, Integer, Legal

DIGITS = {1: 4, 2: 6, 3: 8, 4: 9, 5: 10, 6: 11}
"""Digits of a code by level: 1 (80 km), 2 (10 km), 3 (1 km), 4 (half, 500 m), 5 (quarter, 250 m), 6 (eighth, 125 m)."""
STEPS = {1: 640, 2: 80, 3: 8, 4: 4, 5: 2, 6: 1}
"""Width and height of a square, in units of 1/640 degree of longitude and 1/960 of latitude."""
SOUTH, NORTH, WEST, EAST = 10 * 640, 100 * 640, 0, 80 * 640
"""The grid in those units, longitude from 100 degrees east: 6 2/3 to 66 2/3 degrees north, 100 to 180 degrees east."""
MAX_SQUARES = 65_535
"""As many as a Category holds."""

Codes: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = Sequence[float] | npt.NDArray[np.float64]


def _check_level(level: int) -> None:
    if isinstance(level, bool) or level not in DIGITS:
        raise InvalidQueryError("a mesh has the levels 1 (80 km), 2 (10 km), 3 (1 km), 4 (500 m), 5 (250 m), 6 (125 m)")


def _units(degrees: npt.NDArray[np.float64], parts: int) -> Codes:
    """floor(degrees * parts), where the double nearest to an edge counts as the edge itself."""
    found = np.floor(degrees * parts)
    found += (found + 1) / parts <= degrees
    found -= found / parts > degrees
    return found.astype(np.int64)


def _code(lat: Codes, lon: Codes, level: int) -> Codes:
    """The codes of the squares that hold points, given in units."""
    code = lat // 640 * 100 + lon // 640
    for step in [s for at, s in STEPS.items() if 1 < at <= level]:
        if step >= 8:
            above = 640 if step == 80 else 80
            code = code * 100 + lat % above // step * 10 + lon % above // step
        else:
            code = code * 10 + 1 + lat // step % 2 * 2 + lon // step % 2
    return code


def _corner(codes: Codes, level: int) -> tuple[Codes, Codes]:
    """The south-western corners in units; InvalidDataError, naming the first row, where one is no code of the level."""
    rest, lat, lon = codes, np.zeros_like(codes), np.zeros_like(codes)
    for at in range(level, 3, -1):
        rest, digit = np.divmod(rest, 10)
        lat, lon = lat + (digit - 1) // 2 * STEPS[at], lon + (digit - 1) % 2 * STEPS[at]
    for at in range(min(level, 3), 1, -1):
        rest, two = np.divmod(rest, 100)
        lat, lon = lat + two // 10 * STEPS[at], lon + two % 10 * STEPS[at]
    lat, lon = lat + rest // 100 * STEPS[1], lon + rest % 100 * STEPS[1]
    inside = (lat >= SOUTH) & (lat < NORTH) & (lon >= WEST) & (lon < EAST)
    wrong = ~inside
    wrong[inside] = _code(lat[inside], lon[inside], level) != codes[inside]
    if wrong.any():
        raise InvalidDataError(f"not a code of level {level} of JIS X 0410", row=int(wrong.argmax()))
    return lat, lon


def code(lat: float, lon: float, level: int = 3) -> int:
    """The code of the square that holds a point, in degrees; its southern and western edges belong to it.

    Raises:
        InvalidDataError: the point lies outside the grid (6 2/3 to 66 2/3 degrees north, 100 to 180 degrees east).
        InvalidQueryError: there is no such level.
    """
    return int(codes([lat], [lon], level)[0])


@overload
def codes(lat: pl.Series, lon: pl.Series, level: int = 3) -> pl.Series: ...
@overload
def codes(lat: Numbers, lon: Numbers, level: int = 3) -> Codes: ...
def codes(lat: Numbers | pl.Series, lon: Numbers | pl.Series, level: int = 3) -> Codes | pl.Series:
    """As :func:`code`, for many points: Polars in, Polars out (null where either is null), else a NumPy array.

    Raises:
        InvalidDataError: as there, with the row; or as many latitudes as longitudes are not given.
    """
    _check_level(level)
    if isinstance(lat, pl.Series) and isinstance(lon, pl.Series):
        if len(lat) != len(lon):
            raise InvalidDataError("give as many latitudes as longitudes")
        known = (lat.is_not_null() & lon.is_not_null()).to_numpy()
        rows = np.flatnonzero(known)
        found = np.zeros(len(lat), dtype=np.int64)
        found[rows] = _points(lat.gather(rows), lon.gather(rows), level, rows)
        return pl.Series(lat.name, found).set(pl.Series(~known), None)
    return _points(lat, lon, level, None)


def _points(lats: Numbers | pl.Series, lons: Numbers | pl.Series, level: int, rows: Codes | None) -> Codes:
    try:
        lat, lon = np.asarray(lats, dtype=np.float64), np.asarray(lons, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidDataError("latitudes and longitudes are numbers, in degrees") from None
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise InvalidDataError("give as many latitudes as longitudes, one after the other")
    inside = (lat >= SOUTH / 960) & (lat < NORTH / 960) & (lon >= 100) & (lon < 180)
    if not inside.all():
        at = int((~inside).argmax())
        raise InvalidDataError(
            "the point lies outside the mesh: it takes degrees north from 6 2/3 to 66 2/3, east from 100 to 180",
            row=at if rows is None else int(rows[at]),
        )
    return _code(_units(lat, 960), _units(lon, 640) - 64_000, level)


def _read(code: int | str) -> tuple[int, int, tuple[int, int]]:
    """A code as a number, its level, and its corner in units."""
    text = str(code)
    if isinstance(code, int | np.integer | str) and text.isascii() and text.isdigit():
        for found, digits in DIGITS.items():
            if len(text) == digits:
                lat, lon = _corner(np.array([int(text)], dtype=np.int64), found)
                return int(text), found, (int(lat[0]), int(lon[0]))
    raise InvalidDataError("a mesh code is a number, or its text, of 4, 6, 8, 9, 10 or 11 digits")


def level(code: int | str) -> int:
    """The level of a code, by its digits; InvalidDataError where it is none."""
    return _read(code)[1]


def bounds(code: int | str) -> tuple[float, float, float, float]:
    """South, west, north and east of a square, in degrees; the northern and eastern edges are not in it."""
    _, level, (lat, lon) = _read(code)
    step = STEPS[level]
    return lat / 960, lon / 640 + 100, (lat + step) / 960, (lon + step) / 640 + 100


def corners(
    codes: Sequence[int] | Codes | pl.Series, level: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Latitudes and longitudes of the south-western corners of squares of one level, in degrees.

    Args:
        codes: numbers, or a Polars series of numbers or their texts, as a release has them; without nulls.

    Raises:
        InvalidDataError: one of them is no code of the level; its row is named.
    """
    _check_level(level)
    if isinstance(codes, pl.Series):
        codes = codes.cast(pl.Int64, strict=False).fill_null(0).to_numpy()
    try:
        numbers = np.asarray(codes, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidDataError("mesh codes are whole numbers, one after the other") from None
    lat, lon = _corner(numbers, level)
    return lat / 960, lon / 640 + 100


def parent(code: int | str, to: int) -> int:
    """The square of a coarser level, or the same, that holds this one."""
    _check_level(to)
    number, level, _ = _read(code)
    if to > level:
        raise InvalidQueryError("a square lies in those of coarser levels alone: give a level up to its own")
    return int(str(number)[: DIGITS[to]])


def neighbours(code: int | str) -> tuple[int, ...]:
    """The squares of its level around it: NW, N, NE, W, E, SW, S, SE, without those beyond the grid."""
    _, level, (lat, lon) = _read(code)
    step = STEPS[level]
    around = [(lat + n * step, lon + e * step) for n in (1, 0, -1) for e in (-1, 0, 1) if n or e]
    grid = np.array([(a, b) for a, b in around if SOUTH <= a < NORTH and WEST <= b < EAST], dtype=np.int64)
    return tuple(_code(grid[:, 0], grid[:, 1], level).tolist())


def within(south: float, west: float, north: float, east: float, level: int = 3) -> tuple[int, ...]:
    """The codes of the squares that a box touches, from the south-west eastwards, then northwards.

    Raises:
        InvalidQueryError: the box is empty, lies outside the grid, or touches more than 65,535 squares.
    """
    _check_level(level)
    if not (south < north and west < east):
        raise InvalidQueryError("a box needs its south below its north, and its west below its east")
    if not (south >= SOUTH / 960 and north <= NORTH / 960 and west >= 100 and east <= 180):
        raise InvalidQueryError("the box reaches outside the mesh: 6 2/3 to 66 2/3 degrees north, 100 to 180 east")
    step = STEPS[level]
    sides = []
    for low, high, parts, start in ((south, north, 960, 0), (west, east, 640, 64_000)):
        first, last = (int(u) - start for u in _units(np.array([low, np.nextafter(high, low)]), parts))
        sides.append(np.arange(first // step * step, last + 1, step))
    if len(sides[0]) * len(sides[1]) > MAX_SQUARES:
        raise InvalidQueryError(
            f"the box touches more than {MAX_SQUARES} squares: take a coarser level, or a smaller box"
        )
    lat, lon = (side.ravel() for side in np.meshgrid(*sides, indexing="ij"))
    return tuple(_code(lat, lon, level).tolist())


def column(
    south: float, west: float, north: float, east: float, level: int = 3, *, nullable: bool = False,
    legal: Legal = "ordinary",
) -> Category:  # fmt: skip
    """A column of the squares that a box touches, as texts: a key that is listed. No others fit in it."""
    listed = within(south, west, north, east, level)
    return Category([str(c) for c in listed], nullable=nullable, legal=legal)


def integer(
    south: float, west: float, north: float, east: float, level: int = 3, *, nullable: bool = False,
    legal: Legal = "ordinary",
) -> Integer:  # fmt: skip
    """A column of codes as whole numbers, for :func:`datasov.unknown`: where the squares that hold anybody are few.

    Its bounds are the least and the greatest code of the box; numbers between them that are no code, or lie outside the
    box, fit as well. A code has at most eleven digits, so the column is no place for a My Number.
    """
    listed = within(south, west, north, east, level)
    return Integer(min(listed), max(listed), unit="JIS X 0410", nullable=nullable, legal=legal)
