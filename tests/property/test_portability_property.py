"""An export comes back equal, over schemas and rows; an export of which any byte differs does not come back at all."""

from __future__ import annotations

import datetime as dt
import decimal
import shutil
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import VerificationError
from datasov.model.columns import MAX_CODE, Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.frames import code_dtype
from datasov.model.schema import DOMAINS, Schema
from datasov.portability import FORMS, bundle, load
from tests.helpers import PURPOSE, RHO, found_city
from tests.strategies import declared, without_my_numbers

KEY = bytes(range(32))
ZONES = ["Asia/Tokyo", "UTC", "Europe/Berlin", "Pacific/Apia", "Africa/Monrovia", "Australia/Lord_Howe"]
bounds = st.tuples(st.integers(-MAX_CODE, MAX_CODE), st.integers(-MAX_CODE, MAX_CODE)).map(sorted)
instants = st.datetimes(dt.datetime(1690, 1, 1), dt.datetime(2250, 1, 1))
odd = st.sampled_from(
    ["", " ", "=1+1", "+a", "-a", "@a", "a\nb", "\r", 'q"q', "a,b", "null", "None", "\x00", "ｱ", "𠮷"]
)
columns: st.SearchStrategy[Column] = st.one_of(
    st.builds(
        lambda values, null: Category(values, nullable=null),
        st.lists(odd | st.text(max_size=5), min_size=1, max_size=300, unique=True),
        st.booleans(),
    ),
    declared(lambda b, null: Integer(b[0], b[1], unit="u", nullable=null), bounds, st.booleans()),
    declared(
        lambda b, scale, null: Decimal(
            *(decimal.Decimal(c).scaleb(-scale) for c in b), scale=scale, unit="u", nullable=null
        ),
        bounds,
        st.integers(0, 12),
        st.booleans(),
    ),
    st.builds(
        lambda pair, zone, null: Timestamp(min(pair), max(pair), zone=zone, nullable=null),
        st.tuples(instants, instants),
        st.sampled_from(ZONES),
        st.booleans(),
    ),
    st.builds(lambda null: Boolean(nullable=null), st.booleans()),
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}|[あ-ん]{1,5}", fullmatch=True).filter(str.isidentifier)


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[Schema, pl.DataFrame]]:
    """Up to three tables with rows whose codes are often the ends of their ranges."""
    found = []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["events", "attributes"]))
        shape = draw(st.dictionaries(names, columns, min_size=1, max_size=6))
        schema = Schema(name, domain=draw(st.sampled_from(DOMAINS)), columns=shape, kind=kind)
        height = draw(st.integers(0, 1 if kind == "attributes" else 9))
        frame = []
        for column, type_ in schema.items:
            low, high = type_.range
            code = st.sampled_from([low, high]) | st.integers(low, high)
            cell = st.none() | code if type_.nullable else code
            values = draw(st.lists(cell, min_size=height, max_size=height))
            frame.append(pl.Series(column, values, dtype=code_dtype(type_)))
        found.append((schema, without_my_numbers(schema, pl.DataFrame(frame))))
    return found


@settings(max_examples=40, deadline=None)
@given(held=tables(), form=st.sampled_from(FORMS))
def test_an_export_imported_into_an_empty_vault_is_the_same_vault(
    held: list[tuple[Schema, pl.DataFrame]], form: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with ds.Resident.create(place / "a", device_key=KEY) as old:
            old._vault.put(held)
            old.export(place / "out", form=form)  # type: ignore[arg-type]
        with ds.Resident.create(place / "b", device_key=bytes(32)) as new:
            assert new.import_(place / "out") == sum(codes.height for _, codes in held)
            assert new._vault.tables() == {schema.name: schema for schema, _ in held}
            for schema, codes in held:
                found = new._vault.scan(schema.name)
                assert found.equals(codes)
                assert found.schema == codes.schema


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small export with consents, in each form."""
    place = tmp_path_factory.mktemp("whole")
    schema = ds.Schema("ü", domain="energy", columns={
        "c": ds.Category(["=1", "", "é"], nullable=True), "d": ds.Decimal(0, 9, scale=1),
        "t": ds.Timestamp("2026-01-01", "2027-01-01"),
    })  # fmt: skip
    rows = [{"c": "=1", "d": "0.1", "t": "2026-03-01"}, {"c": None, "d": 9, "t": "2026-01-01"}]
    with found_city(place, lambda: 1_800_000_000.0) as city, ds.Resident.create(place / "v", device_key=KEY) as ann:
        ann.put(schema, rows)
        ann.grant(city.id, schema, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        for form in FORMS:
            ann.export(place / form, form=form)
    return place


@pytest.mark.parametrize("form", FORMS)
def test_every_flipped_byte_is_refused(whole: Path, tmp_path: Path, form: str) -> None:
    shutil.copytree(whole / form, tmp_path / "x")
    load.read(tmp_path / "x", bytes)
    for file in sorted((tmp_path / "x").iterdir()):
        good = file.read_bytes()
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= 1 << at % 8
            file.write_bytes(bad)
            with pytest.raises(VerificationError):
                load.read(tmp_path / "x", bytes)
        for bad in (good[:-1], good + b"\n", b""):
            file.write_bytes(bad)
            with pytest.raises(VerificationError):
                load.read(tmp_path / "x", bytes)
        file.unlink()
        with pytest.raises(VerificationError):
            load.read(tmp_path / "x", bytes)
        file.write_bytes(good)
    load.read(tmp_path / "x", bytes)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=3000))
def test_bytes_from_strangers_are_no_archive(data: bytes) -> None:
    with pytest.raises(VerificationError):
        load._read(bundle.open_tar(data))
