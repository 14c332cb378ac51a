"""A derived column is what a loop over both tables says, for any rows, windows, predicates and nulls."""

from __future__ import annotations

import datetime as dt
import random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import datasov as ds
from datasov.model import frames
from datasov.vault.derive import with_derived
from tests.helpers import Row
from tests.naive import holds

MICRO = dt.timedelta(microseconds=1)
START = dt.datetime(2027, 3, 27, 23, tzinfo=dt.UTC)
OTHER = ds.Schema("other", domain="mobility", columns={
    "at": ds.Timestamp(START, START + dt.timedelta(hours=9), zone="Europe/Berlin", nullable=True),
    "line": ds.Category(["U1", "U2"], nullable=True), "km": ds.Integer(-5, 300, nullable=True),
})  # fmt: skip
PREDICATES = [
    None, ds.col("line") == "U1", ds.col("line") != "U1", ds.col("line").is_null(), ds.col("km") > 3,
    ~(ds.col("km") > 3), (ds.col("km") <= 0) & (ds.col("line") == "U2"), (ds.col("km") >= 300) | ds.col("at").is_null(),
    ds.col("at") > START + dt.timedelta(hours=4), ds.col("km") > 10**30,
]  # fmt: skip


def naive(column: ds.Exists, row: Row, others: list[Row]) -> bool:
    """The declaration, read aloud."""
    for other in others:
        if column.where is not None and not holds(column.where, other, ds.query(OTHER)):
            continue
        if column.at is None:
            return True
        here, there = row[column.at], other[column.other]
        if here is not None and there is not None:
            assert isinstance(here, dt.datetime)
            assert isinstance(there, dt.datetime)
            if here - column.before * MICRO <= there <= here + column.after * MICRO:
                return True
    return False


@settings(max_examples=300)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_a_derived_column_is_what_a_loop_over_both_tables_says(data: st.DataObject, seed: int) -> None:
    rng = random.Random(seed)
    steps = [dt.timedelta(0), MICRO, dt.timedelta(minutes=30), dt.timedelta(hours=1), dt.timedelta(hours=2)]
    columns = {}
    for number in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.sampled_from(PREDICATES))
        if data.draw(st.integers(0, 3)):
            before, after = (data.draw(st.sampled_from(steps)) for _ in range(2))
            columns[f"d{number}"] = ds.Exists(OTHER, at="seen", other="at", before=before, after=after, where=where)
        else:
            columns[f"d{number}"] = ds.Exists(OTHER, where=where)
    seen = ds.Timestamp("2027-01-01", "2027-12-31", zone="Asia/Tokyo", nullable=True)
    schema = ds.Schema("own", domain="health", columns={"n": ds.Integer(0, 99), "seen": seen, **columns})

    def time() -> dt.datetime | None:
        if rng.random() < 0.15:
            return None
        at = START + rng.randint(1, 8) * dt.timedelta(hours=1) + rng.choice([-1, 1]) * rng.choice(steps[:3])
        return at + rng.choice([-1, 0, 0, 1]) * MICRO

    rows: list[Row] = [{"n": n, "seen": time()} for n in range(data.draw(st.integers(0, 12)))]
    others: list[Row] = [
        {"at": time(), "line": rng.choice(["U1", "U2", None]), "km": rng.choice([-5, 0, 3, 4, 300, None])}
        for _ in range(data.draw(st.integers(0, 6)))
    ]
    kept = {"own": frames.encode(schema, pl.DataFrame(rows, {"n": pl.Int64, "seen": pl.Datetime("us", "UTC")}))}
    kept["other"] = frames.encode(OTHER, others) if others else frames.empty_codes(OTHER)
    wanted = data.draw(st.permutations([n for n, _ in schema.items]))
    wanted = wanted[: data.draw(st.integers(1, len(wanted)))]
    found = with_derived(schema, wanted, {"own": schema, "other": OTHER}, lambda t, names: kept[t.name].select(names))
    assert found.columns == wanted
    for name in columns.keys() & set(wanted):
        assert found[name].dtype == frames.code_dtype(schema.column(name))
        assert found[name].to_list() == [int(naive(columns[name], row, others)) for row in rows]
    for name in {"n", "seen"} & set(wanted):
        assert found[name].equals(kept["own"][name])
