"""Mesh codes: there and back, nested, and each point in exactly one square."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasov.catalogue import mesh

LEVELS = st.integers(1, 6)
LATITUDES, LONGITUDES = st.floats(20, 46), st.floats(122, 154)
# Points at edges: whole multiples of the smallest square's sides, and the doubles beside them.
BESIDE = st.sampled_from([-1, 0, 1])


def beside(value: float, side: int) -> float:
    return float(np.nextafter(value, value + side)) if side else value


EDGES = st.tuples(
    st.builds(lambda u, s: beside(u / 960, s), st.integers(20 * 960, 46 * 960), BESIDE),
    st.builds(lambda u, s: beside(u / 640, s), st.integers(122 * 640, 154 * 640), BESIDE),
)
POINTS = st.tuples(LATITUDES, LONGITUDES) | EDGES


@given(POINTS, LEVELS)
def test_a_point_lies_in_its_square_and_the_squares_corner_gives_the_code(
    point: tuple[float, float], level: int
) -> None:
    code = mesh.code(*point, level)
    south, west, north, east = mesh.bounds(code)
    assert south <= point[0] < north
    assert west <= point[1] < east
    assert mesh.code(south, west, level) == code
    assert mesh.within(south, west, north, east, level) == (code,)


@given(st.tuples(LATITUDES, LONGITUDES), LEVELS)
def test_the_code_is_the_one_of_exact_arithmetic(point: tuple[float, float], level: int) -> None:
    """The definition of the standard, digit by digit, over fractions; points all but at an edge aside."""
    lat, lon = Fraction(point[0]), Fraction(point[1])
    for degrees, parts in ((lat, 960), (lon, 640)):
        if abs(degrees * parts - round(degrees * parts)) < Fraction(1, 10**8):
            return
    p, rest_lat = divmod(lat * 60, 40)
    u, rest_lon = divmod((lon - 100) * 60, 60)
    digits = f"{p}{u:02}"
    for step, divisions in enumerate((8, 10, 2, 2, 2)[: level - 1]):
        height, width = Fraction(40, (8, 80, 160, 320, 640)[step]), Fraction(60, (8, 80, 160, 320, 640)[step])
        up, rest_lat = divmod(rest_lat, height)
        right, rest_lon = divmod(rest_lon, width)
        assert up < divisions
        assert right < divisions
        digits += f"{up}{right}" if divisions > 2 else str(1 + 2 * up + right)
    assert mesh.code(*point, level) == int(digits)


@given(POINTS, LEVELS, LEVELS)
def test_a_square_lies_in_those_above_it(point: tuple[float, float], one: int, other: int) -> None:
    fine, coarse = max(one, other), min(one, other)
    assert mesh.parent(mesh.code(*point, fine), coarse) == mesh.code(*point, coarse)


@given(POINTS, LEVELS)
def test_neighbours_know_each_other_and_share_an_edge_or_a_corner(point: tuple[float, float], level: int) -> None:
    code = mesh.code(*point, level)
    around = mesh.neighbours(code)
    assert len(set(around)) == 8
    assert code not in around
    south, west, north, east = mesh.bounds(code)
    for other in around:
        assert code in mesh.neighbours(other)
        s, w, n, e = mesh.bounds(other)
        assert s <= north
        assert n >= south
        assert w <= east
        assert e >= west


@given(st.lists(POINTS, max_size=20), LEVELS)
def test_many_at_once_are_each_alone(points: list[tuple[float, float]], level: int) -> None:
    lat, lon = [p[0] for p in points], [p[1] for p in points]
    assert mesh.codes(lat, lon, level).tolist() == [mesh.code(*p, level) for p in points]
