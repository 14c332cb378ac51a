"""Rows in and out: what goes in comes back; what does not fit is refused by row and column, and nothing raw escapes."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import InvalidDataError, VerificationError
from datasov.model import frames
from datasov.wire import columns as wire
from tests.strategies import table

S = ds.Schema("s", domain="energy", columns={
    "cat": ds.Category(["a", "b b", "ü", ""], nullable=True), "num": ds.Integer(-5, 2**53, unit="Wh"),
    "flag": ds.Boolean(nullable=True),
    "dec": ds.Decimal("-9.99", "9.99", scale=2, nullable=True),
    "at": ds.Timestamp("1969-12-01", "2100-01-01", zone="UTC"),
})  # fmt: skip
GOOD = {"cat": "a", "num": 1, "flag": True, "dec": "0.07", "at": "2027-01-01T00:00"}


def one(**changed: object) -> list[dict[str, object]]:
    return [GOOD, {**GOOD, **changed}]


@given(st.integers(0, 10**9), st.integers(0, 12))
def test_rows_come_back_by_every_way_in(seed, height):
    rows = table(S, random.Random(seed), height)
    codes = frames.encode(S, rows)
    logical = frames.decode(S, codes)
    assert logical.to_dicts() == rows
    assert frames.encode(S, logical).equals(codes), "a frame of the logical types gives the same codes"
    assert frames.encode(S, tuple(rows)).equals(codes)
    frames.check_codes(S, codes)
    back = wire.unpack(wire.pack(codes))
    assert back.equals(codes)
    assert back.schema == codes.schema


@given(st.integers(0, 10**9), st.integers(1, 12))
def test_files_come_back(tmp_path_factory, seed, height):
    rows = [r for r in table(S, random.Random(seed), height) if r["cat"] != ""]
    codes = frames.encode(S, rows)
    folder = tmp_path_factory.mktemp("files")
    logical = frames.decode(S, codes)
    logical.write_parquet(folder / "x.parquet")
    assert frames.encode(S, folder / "x.parquet").equals(codes)
    logical.with_columns(
        pl.col("cat").cast(pl.String), pl.col("dec").cast(pl.String), pl.col("at").dt.to_string("iso:strict")
    ).write_csv(folder / "x.csv")
    assert frames.encode(S, str(folder / "x.csv")).equals(codes)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("num", math.nan), ("num", math.inf), ("num", -math.inf), ("num", 1e308), ("num", 2**53 + 1), ("num", -6),
        ("num", 0.5),
        ("num", None), ("num", "x"), ("num", "1e999999999"), ("num", True), ("num", b"1"), ("dec", math.nan),
        ("dec", 10),
        ("dec", 0.001), ("dec", 1e308), ("dec", 5e-324), ("dec", "1e-999999999"), ("dec", decimal.Decimal("NaN")),
        ("dec", decimal.Decimal("sNaN")), ("cat", "c"), ("cat", 0), ("cat", "A"), ("flag", 1), ("flag", "true"),
        ("at", "x"),
        ("at", 0), ("at", None), ("at", "1969-11-30"), ("at", dt.datetime(9999, 12, 31)),
        ("at", "0001-01-01T00:00+14:00"),
        ("at", dt.date(2027, 1, 1)), ("cat", "\ud800"), ("num", [1]), ("num", {}),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_by_row_and_column(column, value):
    with pytest.raises(InvalidDataError) as why:
        frames.encode(S, one(**{column: value}))
    assert (why.value.row, why.value.column) == (1, column)
    assert f"row 1, column {column!r}" in str(why.value)


@pytest.mark.parametrize(
    ("column", "series"),
    [
        ("num", pl.Series([1.0, math.nan])), ("num", pl.Series([1.0, math.inf])), ("num", pl.Series([1.0, 1e308])),
        ("num", pl.Series([1.0, 0.5])), ("num", pl.Series([1.0, float(2**54)])), ("num", pl.Series([1, None])),
        ("num", pl.Series([1, -6])), ("num", pl.Series([1, 2**63], dtype=pl.UInt64)),
        ("num", pl.Series([1, 2**53 + 1])),
        ("num", pl.Series([1, 2**100], dtype=pl.Int128)), ("num", pl.Series(["1", "x"])), ("num", pl.Series(["1", ""])),
        ("dec", pl.Series([0.07, 0.071])), ("dec", pl.Series([1.0, 9.999999999])), ("dec", pl.Series([1, 10])),
        ("dec", pl.Series([1, 2**62])), ("dec", pl.Series(["1", "0.071"])), ("dec", pl.Series(["1", "1e999999999"])),
        ("dec", pl.Series([decimal.Decimal("1"), decimal.Decimal("0.001")])), ("cat", pl.Series(["a", "c"])),
        ("cat", pl.Series(["a", "c"], dtype=pl.Categorical)),
        ("at", pl.Series([dt.datetime(2027, 1, 1), dt.datetime(1960, 1, 1)])),
        ("at", pl.Series(["2027-01-01", "x"])), ("at", pl.Series([dt.datetime(2027, 1, 1), None])),
        ("at", pl.Series([0, 1], dtype=pl.Datetime("ns", "UTC"))), ("flag", pl.Series(["true", "yes"])),
    ],
)  # fmt: skip
def test_series_that_do_not_fit_are_refused_by_row_and_column(column, series):
    frame = frames.decode(S, frames.encode(S, [GOOD, GOOD])).with_columns(series.alias(column))
    with pytest.raises(InvalidDataError) as why:
        frames.encode(S, frame)
    assert (why.value.row, why.value.column) == (1, column)


@pytest.mark.parametrize(
    ("column", "series"),
    [
        ("num", pl.Series([dt.date(2027, 1, 1)])), ("num", pl.Series([True])), ("num", pl.Series([b"1"])),
        ("cat", pl.Series([1])),
        ("flag", pl.Series([1])), ("at", pl.Series([1])), ("at", pl.Series([dt.date(2027, 1, 1)])),
        ("num", pl.Series([[1]])),
        ("dec", pl.Series([{"a": 1}])), ("num", pl.Series([object()], dtype=pl.Object)),
    ],
)  # fmt: skip
def test_columns_of_another_type_are_refused(column, series):
    frame = frames.decode(S, frames.encode(S, [GOOD])).with_columns(series.alias(column))
    with pytest.raises(InvalidDataError) as why:
        frames.encode(S, frame)
    assert why.value.column == column


@pytest.mark.parametrize(
    ("column", "values", "codes"),
    [
        ("num", [-0.0, 4.0], [0, 4]), ("num", [np.float64(2.0)], [2]), ("num", ["7", " 8"], [7, 8]),
        ("dec", [0.07, -9.99], [7, -999]),
        ("dec", [1, 9], [100, 900]), ("dec", [decimal.Decimal("1.50")], [150]), ("dec", [0.1 + 0.2 - 0.3 + 0.07], None),
        ("num", [2**53, -5], [2**53, -5]),
    ],
)  # fmt: skip
def test_numbers_that_look_odd_and_fit(column, values, codes):
    rows = [{**GOOD, column: v} for v in values]
    if codes is None:
        with pytest.raises(InvalidDataError):
            frames.encode(S, rows)
        return
    assert frames.encode(S, rows)[column].to_list() == codes


NEAR = st.one_of(
    st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{0,3})?", fullmatch=True),
    st.from_regex(r"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{6}[+-][0-2][0-9]:[0-6][0-9]",
                  fullmatch=True),
    st.sampled_from([
        "-0", "-0.05", "00.1", ".5", "5.", "+1", "1e2", " 1", "1_0", "", "٣", "9" * 30, "1\n",
        "2027-01-01T00:00:00.000000Z", "2027-01-01T00:00:60.000000+00:00", "2027-01-01T00:00:00.000000+00:00\n",
    ]),
)  # fmt: skip


@given(st.lists(st.none() | NEAR, max_size=3), st.sampled_from(["num", "dec", "at"]))
def test_texts_read_all_at_once_are_read_as_one_by_one(texts, column):
    columns = {
        "num": ds.Integer(-5000, 5000, nullable=True), "dec": ds.Decimal(-5000, 5000, scale=2, nullable=True),
        "at": ds.Timestamp("1900-01-01", "2100-01-01", zone="UTC", nullable=True),
    }  # fmt: skip
    schema = ds.Schema("t", domain="energy", columns={column: columns[column]})

    def outcome(data):
        try:
            return frames.encode(schema, data)[column].to_list()
        except InvalidDataError as why:
            return why.row, why.column

    single = [None if t == "" and column != "at" else t for t in texts]
    assert outcome(pl.DataFrame({column: pl.Series(texts, dtype=pl.String)})) == outcome([{column: t} for t in single])


@pytest.mark.parametrize("data", [None, 7, {"cat": "a"}, "none.csv", "tests", b"x", [7], [None], [[1]], iter([GOOD])])
def test_what_is_no_rows_is_refused(data):
    with pytest.raises(InvalidDataError):
        frames.encode(S, data)


def test_columns_must_be_those_of_the_schema():
    for rows in ([{**GOOD, "extra": 1}], [{k: v for k, v in GOOD.items() if k != "num"}], [{**GOOD, 7: 1}], [{}]):
        with pytest.raises(InvalidDataError):
            frames.encode(S, rows)
    nulls = {k: v for k, v in GOOD.items() if k not in ("cat", "dec", "flag")}
    assert frames.encode(S, [nulls])["cat"].to_list() == [None], "a nullable column may be left out of a row"
    with pytest.raises(InvalidDataError):
        frames.encode(S, pl.DataFrame([nulls]))
    with pytest.raises(InvalidDataError):
        frames.encode(S, frames.decode(S, frames.encode(S, [GOOD])).rename({"num": "NUM"}))


def test_files_that_are_none_are_refused(tmp_path):
    for name in ("x.csv", "x.parquet", "x.txt"):
        (tmp_path / name).write_bytes(b"\x00\xff\x00 no file of this kind")
        with pytest.raises(InvalidDataError):
            frames.encode(S, tmp_path / name)


def test_times_that_the_zone_skips_are_refused_and_repeated_ones_are_the_first():
    zoned = ds.Schema(
        "z", domain="energy", columns={"at": ds.Timestamp("2026-01-01", "2027-01-01", zone="Europe/Berlin")}
    )
    skipped = pl.DataFrame({"at": [dt.datetime(2026, 3, 29, 2, 30)]})
    with pytest.raises(InvalidDataError, match="skips"):
        frames.encode(zoned, skipped)
    twice = dt.datetime(2026, 10, 25, 2, 30)
    assert (
        frames.encode(zoned, pl.DataFrame({"at": [twice]}))["at"][0] == frames.encode(zoned, [{"at": twice}])["at"][0]
    )


@given(st.binary(max_size=200))
def test_bytes_from_strangers_are_frames_or_refused(data):
    try:
        frame = wire.unpack(data)
    except VerificationError:
        return
    assert wire.unpack(wire.pack(frame)).equals(frame)


@given(st.data())
def test_packed_frames_with_one_byte_changed_are_frames_or_refused(data):
    good = wire.pack(frames.encode(S, [GOOD, {**GOOD, "cat": None}] * 3))
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    try:
        frame = wire.unpack(bad)
        frames.check_codes(S, frame)
    except (VerificationError, InvalidDataError, ds.InvalidQueryError):
        return
    assert frame.height == 6
