"""The same text asked of datasov and of SQLite, over the same rows: what WHERE keeps, and what groups add up to.

SQLite has real columns `resident`; everything else of a text is the same for both.
"""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import math
import random
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasov as ds
from datasov.kernel.plan import compile
from datasov.model.schema import cell_labels
from tests.helpers import Harness, Row
from tests.naive import holds
from tests.strategies import RIDES, schemas, table

COLUMNS = ["cat", "num", "dec", "at", "flag", "who.age", "who.ward"]
BARE = {"who.age": "age", "who.ward": "ward"}
DISTINCT_FROM = sqlite3.sqlite_version_info >= (3, 39)


def stored(value: object) -> object:
    """A value as SQLite holds it: decimals as doubles, times as text of one form in UTC."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat(" ", "microseconds")
    return int(value) if isinstance(value, bool) else value


def constant(column: Any, code: int) -> str:
    """The value of a code as SQL writes it."""
    value = column.decode(code)
    if isinstance(column, ds.Category):
        return f"'{value}'"
    if isinstance(column, ds.Timestamp):
        return f"'{stored(value)}'"
    if isinstance(column, ds.Boolean):
        return "TRUE" if value else "FALSE"
    return f"-{-value:f}" if value < 0 else f"{value:f}"


@st.composite
def conditions(draw: st.DrawFn, query: ds.Query, depth: int = 3) -> str:
    """A condition; parentheses come and go, so that precedence counts."""
    if depth and draw(st.integers(0, 3)):
        one = draw(conditions(query, depth - 1))
        form = draw(
            st.sampled_from(
                ["{0} AND {1}", "{0} OR {1}", "NOT {0}", "({0})", "NOT ({0})", "({0}) IS NOT TRUE", "({0}) IS FALSE"]
            )
        )
        return form.format(one, draw(conditions(query, depth - 1)) if "{1}" in form else "")
    name = draw(st.sampled_from(COLUMNS))
    column: Any = query.column(name)
    word = draw(st.sampled_from([name, BARE.get(name, f"ev.{name}"), BARE.get(name, name).upper()]))
    low, high = column.range
    codes = st.integers(low, high) | st.sampled_from([low, high, min(low + 1, high)])
    a, b, c = (constant(column, draw(codes)) for _ in range(3))
    forms = ["{0} IS NULL", "{0} IS NOT NULL", "{0} = {1}", "{0} <> {1}", "{1} = {0}", "{0} IN ({1}, {2})"]
    forms += ["{0} NOT IN ({1}, {2}, {3})", "NOT {0} IN ({1})"]
    if DISTINCT_FROM:
        forms += ["{0} IS DISTINCT FROM {1}", "{0} IS NOT DISTINCT FROM {1}", "{0} IS NOT DISTINCT FROM NULL"]
    if isinstance(column, ds.Boolean):
        forms += ["{0}", "NOT {0}", "{0} IS TRUE", "{0} IS NOT FALSE"]
    elif not isinstance(column, ds.Category):
        forms += ["{0} < {1}", "{0} <= {1}", "{0} > {1}", "{0} >= {1}", "{1} < {0}", "{1} >= {0}", "NOT {0} > {1}"]
        forms += ["{0} BETWEEN {1} AND {2}", "{0} NOT BETWEEN {1} AND {2}"]
    if isinstance(column, ds.Integer) and draw(st.integers(0, 5)) == 0:
        a = draw(st.sampled_from(["9223372036854775808", "-1e18", "1000000000000000000000000", "+5".lstrip("+")]))
    return draw(st.sampled_from(forms)).format(word, a, b, c)


def database(schema: ds.Schema, profile: ds.Schema, rows: dict[str, list[Row]], profiles: dict[str, Row]) -> Any:
    base = sqlite3.connect(":memory:")
    for s in (schema, profile):
        kinds = {"Category": "TEXT", "Timestamp": "TEXT", "Decimal": "REAL"}
        columns = [f'"{n}" {kinds.get(type(c).__name__, "INTEGER")}' for n, c in s.items]
        base.execute(f"CREATE TABLE {s.name} (n INTEGER, resident TEXT, {', '.join(columns)})")
    number = itertools.count()
    everything = [(schema, who, row) for who, own in rows.items() for row in own]
    everything += [(profile, who, row) for who, row in profiles.items()]
    for s, who, row in everything:
        marks = ", ".join("?" * (len(s.items) + 2))
        base.execute(
            f"INSERT INTO {s.name} VALUES ({marks})", [next(number), who, *(stored(row[n]) for n, _ in s.items)]
        )
    return base


@st.composite
def cities(draw: st.DrawFn) -> tuple[ds.Schema, ds.Schema, dict[str, list[Row]], dict[str, Row]]:
    schema, profile, _ = schemas(draw)
    rng = random.Random(draw(st.integers(0, 2**32 - 1)))
    most = 1 if schema.kind == "attributes" else 12
    rows = {f"r{i}": table(schema, rng, rng.randint(0, most)) for i in range(draw(st.integers(1, 5)))}
    return schema, profile, rows, {n: table(profile, rng, 1)[0] for n in rows if rng.random() < 0.7}


def full_rows(rows: dict[str, list[Row]], profiles: dict[str, Row]) -> Iterator[Row]:
    for who, own in rows.items():
        for row in own:
            yield {**row, **{f"who.{n}": v for n, v in profiles.get(who, {}).items()}}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_where_keeps_the_rows_that_sqlite_keeps(data: st.DataObject) -> None:
    schema, profile, rows, profiles = data.draw(cities())
    where = data.draw(conditions(ds.query(schema).join(profile)))
    tail = f"FROM ev LEFT JOIN who USING (resident) WHERE {where}"
    query = ds.sql(f"SELECT COUNT(*) {tail}", [schema, profile])
    with closing(database(schema, profile, rows, profiles)) as base:
        kept = {n for (n,) in base.execute(f"SELECT ev.n {tail}")}
    assert query.predicate is not None
    assert {i for i, row in enumerate(full_rows(rows, profiles)) if holds(query.predicate, row, query)} == kept


def compared(totals: Any, query: ds.Query, answers: Sequence[tuple[Any, ...]]) -> None:
    """Every cell of every aggregate is SQLite's, and 0 where SQLite has no group."""
    plan = compile(query)
    labels = list(itertools.product(*(cell_labels(k, query.column(k.column)) for k in query.key_list)))
    keys = len(query.key_list)
    found = {row[:keys]: row[keys:] for row in answers}
    assert set(found) <= {tuple(stored(v) for v in label) for label in labels}
    for cell, label in enumerate(labels):
        answer = found.get(tuple(stored(v) for v in label), (None,) * len(query.aggregates))
        for aggregate, parts, value in zip(query.aggregates, plan.parts, answer, strict=True):
            numbers = [int(totals[p][cell]) for p in parts]
            scale = getattr(query.column(aggregate.column), "scale", 0) if aggregate.column else 0
            if aggregate.kind == "mean":
                count, total = numbers
                assert (count == 0) == (value is None)
                if count:
                    centre = plan.statistics[parts[1]].centre
                    assert math.isclose((total / count + centre) / 10**scale, value, rel_tol=1e-9, abs_tol=1e-9)
            else:
                assert numbers == [round((value or 0) * 10**scale)], (aggregate, label)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_add_up_to_what_sqlite_adds_up(data: st.DataObject) -> None:
    schema, profile, rows, profiles = data.draw(cities())
    asked = ds.query(schema).join(profile)
    keys = data.draw(st.lists(st.sampled_from(["cat", "flag", "who.ward"]), unique=True, max_size=2))
    shown = [*keys, "COUNT(*)", "COUNT(DISTINCT resident)"]
    for name in data.draw(st.lists(st.sampled_from(["num", "dec", "age"]), unique=True, max_size=2)):
        column: Any = asked.column({"age": "who.age"}.get(name, name))
        ends = sorted(data.draw(st.integers(*column.range)) for _ in range(2))
        low, high = (constant(column, e) for e in ends)
        clipped = data.draw(
            st.sampled_from([name, f"LEAST(GREATEST({name}, {low}), {high})", f"GREATEST({low}, {name})"])
        )
        shown.append(f"{data.draw(st.sampled_from(['SUM', 'AVG']))}({clipped})")
    where = f"WHERE {data.draw(conditions(asked))}" if data.draw(st.booleans()) else ""
    group = ", ".join(data.draw(st.permutations(keys)))
    tail = f"{where} {'GROUP BY ' + group if group else ''}"
    text = f"SELECT {', '.join(shown)} FROM ev LEFT JOIN who USING (resident) {tail}"
    query = ds.sql(text, [schema, profile], rows=20, keys=20)
    with closing(database(schema, profile, rows, profiles)) as base:
        answers = base.execute(text.replace("LEAST(", "MIN(").replace("GREATEST(", "MAX(")).fetchall()
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder))
        harness.admit(schema, rows, {profile: profiles}, reads=[RIDES])
        compared(harness.totals(query), query, answers)


SCHEMAS = [
    ds.Schema(
        "trips", domain="mobility",
        columns={
            "district": ds.Category("NESW"), "km": ds.Integer(0, 50, nullable=True), "flag": ds.Boolean(),
            "at": ds.Timestamp("2027-01-01", "2027-02-01"), "距離": ds.Decimal(0, 9),
        },
    ),
    ds.Schema("people", domain="administration", kind="attributes", columns={"age": ds.Integer(0, 120)}),
]  # fmt: skip
GOOD = [
    "SELECT district , COUNT ( * ) , SUM ( km ) FROM trips WHERE NOT km > 5 OR flag GROUP BY district",
    "SELECT EXTRACT ( HOUR FROM at ) , AVG ( LEAST ( km , 5 ) ) FROM trips t LEFT JOIN people USING ( resident ) "
    "GROUP BY 1",
    "SELECT WIDTH_BUCKET ( 距離 , ARRAY [ 1.5 , 3 ] ) , COUNT ( DISTINCT resident ) FROM trips WHERE at IS NULL "
    "GROUP BY 1",
]
WORDS = [
    *sorted({w for text in GOOD for w in text.split()}),
    "-", "::", "DATE", "'N'", "'2027-01-02'", "CAST", "IN", "BETWEEN", "AND", "NULL", "IS", "HAVING", "CASE", "WHEN",
    ";", "--", "/*", "*/", "/*+", "'", '"', "INTERVAL", "STRUCT", "<", "LATERAL", "UNION", "OVER", "ORDER BY", "WITHIN",
    "\x00", "{{", "$1", "?", "0x1F", "1e999", "９", "\u3000", "ſelect",
]  # fmt: skip


def is_answered(text: str) -> None:
    """Any text is a question, or an InvalidQueryError that says so: nothing else is raised."""
    try:
        compile(ds.sql(text, SCHEMAS, rows=5, keys=2))
    except ds.InvalidQueryError:
        return


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_any_text_is_a_question_or_an_invalid_one(text: str) -> None:
    is_answered(text)
    is_answered("SELECT COUNT(*) FROM trips WHERE " + text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_a_text_with_words_moved_is_a_question_or_an_invalid_one(text: str, data: st.DataObject) -> None:
    words = text.split()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words)))
        many = data.draw(st.sampled_from([1, 1, 1, 40, 1500]))
        change = data.draw(st.lists(st.sampled_from(WORDS), max_size=3)) * many
        words[at : at + data.draw(st.integers(0, 2))] = change
    is_answered(" ".join(words))


@pytest.mark.parametrize(
    "unit", ["(", "NOT ", "- ", "LEFT JOIN people ", "LEFT JOIN people LEFT ", "CAST(", "km IN (", "["]
)
@pytest.mark.parametrize(
    "head", ["SELECT ", "SELECT COUNT(*) FROM ", "SELECT COUNT(*) FROM trips ", "SELECT COUNT(*) FROM trips WHERE "]
)
@pytest.mark.parametrize("many", [10, 40, 6000])
def test_nesting_without_end_is_refused(head: str, unit: str, many: int) -> None:
    with pytest.raises(ds.InvalidQueryError):
        ds.sql(head + unit * many + "km", SCHEMAS)
