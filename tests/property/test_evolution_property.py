"""Rows put under any of a chain of schemas are read under the last one, however they were stored and compacted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import datasov as ds
from tests import vaults

KEY = bytes(range(32))
Columns = dict[str, Any]


def value(draw: st.DrawFn, column: Any) -> object:
    if column.nullable and draw(st.booleans()):
        return None
    low, high = column.range
    return column.decode(draw(st.sampled_from([low, high]) | st.integers(low, high)))


def following(draw: st.DrawFn, columns: Columns, serial: int) -> tuple[Columns, dict[str, object]]:
    """Columns that may follow, and what is filled in. They only ever grow, come or go, so no schema comes twice."""
    after: Columns = {}
    for name, c in columns.items():
        null = c.nullable or draw(st.booleans())
        if isinstance(c, ds.Category):
            more = [f"{serial}.{i}" for i in range(draw(st.sampled_from([0, 1, 300])))]
            after[name] = ds.Category([*c.values, *more], nullable=null)
        elif isinstance(c, ds.Integer):
            wider = st.sampled_from([0, 1, 300, 10**6])
            after[name] = ds.Integer(c.low - draw(wider), c.high + draw(wider), nullable=null)
        else:
            after[name] = ds.Boolean(nullable=null)
    if len(after) > 1 and draw(st.booleans()):
        del after[draw(st.sampled_from(sorted(after)))]
    fill: dict[str, object] = {}
    for at in range(draw(st.integers(0, 2))):
        null = draw(st.booleans())
        kinds = [ds.Category(["a", "b"], nullable=null), ds.Integer(-3, 200, nullable=null), ds.Boolean(nullable=null)]
        new = draw(st.sampled_from(kinds))
        added = {f"c{serial}_{at}": new}
        after = {**after, **added} if draw(st.booleans()) else {**added, **after}
        if not null or draw(st.booleans()):
            fill[f"c{serial}_{at}"] = new.decode(draw(st.integers(*new.range)))
    return after, fill


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_of_every_version_are_read_under_the_last(data: st.DataObject) -> None:
    draw: Any = data.draw
    columns: Columns = {"n": ds.Integer(0, 9), "c": ds.Category(["x"])}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        resident = ds.Resident.create(Path(folder) / "v", device_key=KEY)
        with resident, vaults.parquet_always():
            for serial in range(draw(st.integers(1, 5))):
                if serial:
                    columns, fill = following(draw, columns, serial)
                    resident.evolve(ds.Schema("t", domain="energy", columns=columns), fill)
                    rows = [{name: row.get(name, fill.get(name)) for name in columns} for row in rows]
                schema = ds.Schema("t", domain="energy", columns=columns)
                new = [{n: value(draw, c) for n, c in columns.items()} for _ in range(draw(st.integers(0, 3)))]
                with vaults.large_from(draw(st.sampled_from([0, 99]))):
                    resident.put(schema, new)
                rows += [{name: row[name] for name in columns} for row in new]
                if draw(st.booleans()):
                    resident.compact()
                assert resident.scan(schema).to_dicts() == rows
                some = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, unique=True))
                assert resident.scan(schema, some).to_dicts() == [{n: row[n] for n in some} for row in rows]
