"""JIS X 0401, 0402 and 0410 against published values, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.catalogue import mesh, municipality
from datasov.errors import InvalidDataError, InvalidQueryError

# 総務省「都道府県コード及び市区町村コード」: the codes of the 47 prefectures, with check digits.
PREFECTURES = """
010006 020001 030007 040002 050008 060003 070009 080004 090000 100005 110001 120006 130001 140007 150002 160008
170003 180009 190004 200000 210005 220001 230006 240001 250007 260002 270008 280003 290009 300004 310000 320005
330001 340006 350001 360007 370002 380008 390003 400009 410004 420000 430005 440001 450006 460001 470007
""".split()  # noqa: SIM905
# The same list, of municipalities: Sapporo, Hakodate, Otaru; Shiogama, where the remainder is 1 and the digit 0;
# Shibata, where it is 0 and the digit 1; Sendai, Mito, Utsunomiya, Maebashi, Takasaki, Kawagoe, Kawaguchi.
MUNICIPALITIES = """
011002 012025 012033 042030 043231 041009 082015 092011 102016 102024 112011 112038
""".split()  # noqa: SIM905

TOKYO_TOWER = (35.658581, 139.745433), [5339, 533935, 53393599, 533935992, 5339359921, 53393599212]
KYOTO_TOWER = (34.987574, 135.759363), [5235, 523536, 52353680, 523536804, 5235368041, 52353680412]
"""From the tests of miettal/jismesh, another implementation."""
# From the tests of chiriin, a third one: latitude, longitude, half mesh.
HALVES = [
    (43.062072, 141.354368, 644142781),  # Sapporo
    (40.8227, 140.7469, 614015894),  # Aomori
    (39.72, 140.1035, 594040681),  # Akita
    (37.916094, 139.036725, 563960924),  # Niigata
    (35.693857, 139.753561, 533946301),  # Chiyoda
    (35.011607, 135.767884, 523546111),  # Kyoto
]


def test_every_prefecture_has_its_code_and_its_names() -> None:
    assert [municipality.code(f"{n:02}000") for n in range(1, 48)] == PREFECTURES
    assert [code for code, _, _ in municipality.PREFECTURES] == [p[:2] for p in PREFECTURES]
    assert (
        len({ja for _, ja, _ in municipality.PREFECTURES}) == len({en for _, _, en in municipality.PREFECTURES}) == 47
    )
    assert municipality.prefecture("10") == municipality.prefecture("10201") == municipality.prefecture("102016")
    assert municipality.prefecture("102016") == ("群馬県", "Gunma")


@pytest.mark.parametrize("code", MUNICIPALITIES)
def test_the_check_digit_of_a_municipality_is_the_published_one(code: str) -> None:
    assert municipality.code(code[:5]) == municipality.check(code) == code
    for digit in set("0123456789") - {code[5]}:
        with pytest.raises(InvalidQueryError, match="check digit"):
            municipality.check(code[:5] + digit)


@pytest.mark.parametrize("code", ["", "10201", "1020166", "00000", "480002", "１０２０１６", "10201a", 102016, None])
def test_what_is_no_code_of_a_municipality_is_refused(code: object) -> None:
    with pytest.raises(InvalidQueryError):
        municipality.check(code)  # type: ignore[arg-type]
    with pytest.raises(InvalidQueryError):
        municipality.column(["102016", code])  # type: ignore[list-item]


@pytest.mark.parametrize("digits", ["", "1020", "48000", "00201", "1020a", "１０２０１", 10201])
def test_what_is_no_beginning_of_a_code_is_refused(digits: object) -> None:
    with pytest.raises(InvalidQueryError):
        municipality.check_digit(digits)  # type: ignore[arg-type]


def test_a_column_of_municipalities_is_a_key() -> None:
    column = municipality.column(["102016", "102024"], nullable=True)
    table = ds.Schema("t", domain="mobility", columns={"city": column}, keys=["city"])
    assert ds.query(table).keys("city").bound(rows=1, keys=1).count()
    assert column.values == ("102016", "102024")


@pytest.mark.parametrize(("point", "codes"), [TOKYO_TOWER, KYOTO_TOWER])
def test_a_mesh_code_is_the_published_one_at_every_level(point: tuple[float, float], codes: list[int]) -> None:
    assert [mesh.code(*point, level) for level in range(1, 7)] == codes
    for level, code in enumerate(codes, 1):
        assert mesh.level(code) == level
        south, west, north, east = mesh.bounds(code)
        assert south <= point[0] < north
        assert west <= point[1] < east
        assert [mesh.parent(code, to) for to in range(1, level + 1)] == codes[:level]


@pytest.mark.parametrize(("lat", "lon", "code"), HALVES)
def test_a_half_mesh_is_that_of_another_implementation(lat: float, lon: float, code: int) -> None:
    assert mesh.code(lat, lon, 4) == code
    assert mesh.code(lat, lon) == code // 10


def test_the_standards_own_squares_have_the_corners_it_tells() -> None:
    # 統計情報研究開発センター（Sinfonica）, "地域メッシュの区分方法の図解": 5339 has its south at 53 / 1.5 degrees and
    # its west at 139; in it lie 5339-23, 5339-23-43 and 5339-23-43-1.
    assert mesh.bounds(5339) == pytest.approx((35 + 1 / 3, 139, 36, 140), abs=1e-12)
    south, west = 35 + 1 / 3 + 2 * 5 / 60 + 4 * 30 / 3600, 139 + 3 * 7.5 / 60 + 3 * 45 / 3600
    assert mesh.bounds(53392343) == pytest.approx((south, west, south + 30 / 3600, west + 45 / 3600), abs=1e-12)
    assert mesh.bounds(533923431) == pytest.approx((south, west, south + 15 / 3600, west + 22.5 / 3600), abs=1e-12)
    assert mesh.bounds(533923434)[:2] == pytest.approx((south + 15 / 3600, west + 22.5 / 3600), abs=1e-12)
    assert mesh.code(36, 138) == 54380000


def test_neighbours_are_those_around_also_across_coarser_squares() -> None:
    assert mesh.neighbours(53394611) == (
        53394620, 53394621, 53394622, 53394610, 53394612, 53394600, 53394601, 53394602,
    )  # fmt: skip
    assert mesh.neighbours(53390000) == (
        53380719, 53390010, 53390011, 53380709, 53390001, 52387799, 52397090, 52397091,
    )  # fmt: skip
    assert mesh.neighbours(10000000) == (10000010, 10000011, 10000001)
    assert mesh.neighbours(99797799) == (99797798, 99797788, 99797789)


def test_many_points_are_one_call_with_nulls_in_polars() -> None:
    lat, lon = ([p[0][i] for p in (TOKYO_TOWER, KYOTO_TOWER)] for i in (0, 1))
    assert mesh.codes(lat, lon, 6).tolist() == [53393599212, 52353680412]
    frame = pl.DataFrame({"lat": [lat[0], None, lat[1], lat[0]], "lon": [lon[0], lon[1], lon[1], None]})
    found = mesh.codes(frame["lat"], frame["lon"])
    assert found.dtype == pl.Int64
    assert found.to_list() == [53393599, None, 52353680, None]
    assert mesh.codes(frame["lat"].clear(), frame["lon"].clear()).to_list() == []
    south, west = mesh.corners([53393599, 52353680], 3)
    assert list(zip(south, west, strict=True)) == [mesh.bounds(c)[:2] for c in (53393599, 52353680)]


@pytest.mark.parametrize(
    ("lat", "lon"), [(6.6, 139), (66.7, 139), (35, 99.9), (35, 180), (-35, 139), (float("nan"), 139)]
)
def test_a_point_outside_the_grid_is_refused_by_its_row_alone(lat: float, lon: float) -> None:
    with pytest.raises(InvalidDataError, match="row 1: the point lies outside the mesh") as why:
        mesh.codes([35.0, lat], [139.0, lon])
    assert str(lat) not in str(why.value)
    with pytest.raises(InvalidDataError) as why:
        mesh.codes(pl.Series([None, 35.0, lat]), pl.Series([1.0, 139.0, lon]))
    assert why.value.row == 2


@pytest.mark.parametrize(
    ("lat", "lon"), [([1.0], [1.0, 2.0]), (["x"], [1.0]), ([[35.0]], [[139.0]]), ([None], [139.0])]
)
def test_what_are_no_points_is_refused(lat: list[object], lon: list[object]) -> None:
    with pytest.raises(InvalidDataError):
        mesh.codes(lat, lon)  # type: ignore[call-overload]
    with pytest.raises(InvalidDataError):
        mesh.codes(pl.Series([35.0]), pl.Series([139.0, 140.0]))


@pytest.mark.parametrize(
    "code",
    [
        0,
        53,
        533,
        53398,
        5339466,
        53399900,
        533980,
        533908,
        533935990,
        533935995,
        5339359925,
        53393599219,
        -5339,
        -533,
        True,
        5339.0,
        "",
        "53a9",
        "５３３９",
        "+339",
        None,
    ],
)
def test_what_is_no_mesh_code_is_refused(code: Any) -> None:
    for asked in (mesh.level, mesh.bounds, mesh.neighbours):
        with pytest.raises(InvalidDataError):
            asked(code)
    with pytest.raises(InvalidDataError):
        mesh.parent(code, 1)


def test_texts_of_a_releases_keys_are_read_as_numbers_are() -> None:
    assert mesh.bounds("53393599") == mesh.bounds(53393599) == mesh.bounds(np.int64(53393599))
    assert mesh.neighbours("53393599") == mesh.neighbours(53393599)
    assert (mesh.parent("53393599", 2), mesh.level("53393599")) == (533935, 3)
    found = mesh.corners(pl.Series(["53393599", "52353680"]), 3)
    assert [side.tolist() for side in found] == [side.tolist() for side in mesh.corners([53393599, 52353680], 3)]
    for wrong in (["53393599", None], ["53393599", "x"], ["53393599", "533935"]):
        with pytest.raises(InvalidDataError, match="row 1: not a code of level 3"):
            mesh.corners(pl.Series(wrong), 3)
    for unread in (["x"], [None], [10**30]):
        with pytest.raises(InvalidDataError, match="whole numbers"):
            mesh.corners(unread, 3)


@pytest.mark.parametrize("level", [0, 7, True, 2.5])
def test_a_level_that_there_is_not_is_refused(level: int) -> None:
    with pytest.raises(InvalidQueryError):
        mesh.code(35, 139, level)
    with pytest.raises(InvalidQueryError):
        mesh.parent(53393599, 6)


MAEBASHI = (36.36, 139.03, 36.42, 139.11)


def test_the_squares_of_a_box_are_those_that_it_touches() -> None:
    found = mesh.within(*MAEBASHI)
    assert len(found) == len(set(found)) == 8 * 7
    south, west, north, east = MAEBASHI
    for code in found:
        s, w, n, e = mesh.bounds(code)
        assert s < north
        assert n > south
        assert w < east
        assert e > west
    assert mesh.within(*mesh.bounds(53393599)) == (53393599,)
    _, _, corner_lat, corner_lon = mesh.bounds(53393588)
    assert mesh.within(corner_lat - 1e-6, corner_lon - 1e-6, corner_lat + 1e-6, corner_lon + 1e-6) == (
        53393588, 53393589, 53393598, 53393599,
    )  # fmt: skip
    assert set(mesh.within(*mesh.bounds(53393599), level=4)) == {53393599 * 10 + d for d in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    "box",
    [
        (36, 139, 36, 140),
        (36, 140, 37, 139),
        (0, 139, 36, 140),
        (36, 139, 70, 140),
        (36, 90, 37, 140),
        (36, 139, 40, 190),
    ],
)
def test_a_box_that_is_none_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidQueryError):
        mesh.within(*box)


def test_a_box_of_too_many_squares_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match="65535 squares"):
        mesh.within(35, 139, 37, 141, 5)


@pytest.mark.parametrize("level", range(1, 7))
def test_a_column_of_mesh_codes_passes_the_rules_of_columns_at_every_level(level: int) -> None:
    column, number = mesh.column(*MAEBASHI, level), mesh.integer(*MAEBASHI, level)
    listed = mesh.within(*MAEBASHI, level)
    assert column.values == tuple(str(c) for c in listed)
    assert all(number.low <= c <= number.high for c in listed)
    assert number.high < 10**11
    table = ds.Schema("t", domain="mobility", columns={"mesh": column, "number": number}, keys=["mesh"])
    assert ds.query(table).keys("mesh").bound(rows=1, keys=1).count()
    assert ds.query(table).keys(ds.unknown("number")).bound(rows=1, keys=1).distinct()


def test_the_greatest_code_of_all_is_no_twelve_digit_number() -> None:
    assert mesh.code(np.nextafter(66 + 2 / 3, 0), np.nextafter(180, 0), 6) == 99797799444 < 10**11


def test_every_edge_of_the_grid_belongs_to_the_square_north_or_east_of_it() -> None:
    """In doubles, (k / 960) * 960 lies below k for one edge in fifty: a plain floor puts it into the square beside."""
    edges = np.arange(6400, 64000) / 960
    lats, _ = mesh.corners(mesh.codes(edges, np.full(len(edges), 139.0), 6), 6)
    assert np.array_equal(lats, edges)
    below, _ = mesh.corners(mesh.codes(np.nextafter(edges[1:], 0), np.full(len(edges) - 1, 139.0), 6), 6)
    assert np.array_equal(below, edges[:-1])
    edges = np.arange(64000, 115200) / 640
    _, lons = mesh.corners(mesh.codes(np.full(len(edges), 36.0), edges, 6), 6)
    assert np.array_equal(lons, edges)
    _, west = mesh.corners(mesh.codes(np.full(len(edges) - 1, 36.0), np.nextafter(edges[1:], 0), 6), 6)
    assert np.array_equal(west, edges[:-1])
