"""Hypothesis strategies for whole cases: a schema, residents' rows, and any question that the API can express."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import assume
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model.columns import Column
from datasov.model.frames import check_codes
from datasov.model.schema import Schema
from tests.helpers import Row

ZONES = ["Asia/Tokyo", "UTC", "Europe/Berlin", "Pacific/Apia"]


RIDES = ds.Schema("rides", domain="health", columns={"at": ds.Timestamp("1950-01-01", "2070-01-01")})
"""What the derived column `near` reads. No pool holds it: a case gives any truth values, as any rides could."""


@dataclass(frozen=True)
class Case:
    """Residents by name with their rows and profile, whom a consent covers less of, and a question."""

    schema: ds.Schema
    profile: ds.Schema
    rows: dict[str, list[Row]]
    profiles: dict[str, Row]
    narrow: dict[str, list[str]]
    query: ds.Query
    seed: int


def schemas(draw: st.DrawFn) -> tuple[ds.Schema, ds.Schema, list[str | ds.Key]]:
    """An event table, an attribute table, and the keys that a question may use."""
    null = st.booleans()
    low = draw(st.integers(-60, 40))
    zone = draw(st.sampled_from(ZONES))
    start = dt.datetime(draw(st.integers(1965, 2060)), draw(st.integers(1, 12)), 27, 22, 30)
    columns: dict[str, Any] = {
        "cat": ds.Category([f"v{i}" for i in range(draw(st.integers(1, 4)))], nullable=draw(null)),
        "num": ds.Integer(low, low + draw(st.sampled_from([3, 40, 300, 10**6])), nullable=draw(null)),
        "dec": ds.Decimal("-2.5", draw(st.sampled_from(["3", "99.9"])), scale=1, nullable=draw(null)),
        "at": ds.Timestamp(start, start + dt.timedelta(hours=draw(st.integers(1, 60))), zone=zone, nullable=draw(null)),
        "flag": ds.Boolean(nullable=draw(null)),
        "near": ds.Exists(RIDES, at="at", other="at", before="2h"),
        "shop": ds.Integer(-5, draw(st.sampled_from([0, 300]))),
    }
    number: Any = columns["num"]
    keys: list[str | ds.Key] = [
        "cat", "flag", "near", ds.hour("at"), ds.day("at"), ds.week("at"), ds.month("at"),
        ds.bin("num", [number.low + 1, number.high]), ds.bin("dec", ["-1.2", 0, "2.9"]), ds.unknown("shop"),
    ]  # fmt: skip
    declared = draw(st.lists(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True), max_size=3))
    kind = draw(st.sampled_from(["events"] * 5 + ["attributes"]))
    schema = ds.Schema("ev", domain="mobility", columns=columns, kind=kind, keys=declared)
    who = {
        "age": ds.Integer(0, 99, nullable=draw(null)),
        "ward": ds.Category(["x", "y"], nullable=draw(null)),
        "born": ds.Timestamp("1950-01-01", "1950-01-03", zone=zone),
    }
    profile = ds.Schema("who", domain="administration", kind="attributes", columns=who)
    preferred = [k for key_set in declared for k in key_set]
    return schema, profile, [*preferred, *keys, "who.ward", ds.bin("who.age", [18, 65]), ds.day("who.born")]


def value(column: Any, rng: random.Random) -> object:
    """A logical value of a column, the ends of its range more often than others."""
    if column.nullable and rng.random() < 0.2:
        return None
    low, high = column.range
    code = rng.choice([low, high, rng.randint(low, high), rng.randint(low, min(high, low + 5))])
    return column.decode(code)


def table(schema: ds.Schema, rng: random.Random, height: int) -> list[Row]:
    return [{n: value(c, rng) for n, c in schema.items} for _ in range(height)]


@st.composite
def predicates(draw: st.DrawFn, query: ds.Query, rng: random.Random, depth: int = 2) -> ds.Predicate:
    if depth and draw(st.booleans()):
        one = draw(predicates(query, rng, depth - 1))
        match draw(st.sampled_from(["and", "or", "not"])):
            case "not":
                return ~one
            case "and":
                return one & draw(predicates(query, rng, depth - 1))
            case _:
                return one | draw(predicates(query, rng, depth - 1))
    name = draw(st.sampled_from(["cat", "num", "dec", "at", "flag", "near", "shop", "who.age", "who.ward", "who.born"]))
    column: Any = query.column(name)
    col = ds.col(name)
    if draw(st.integers(0, 5)) == 0:
        return col.is_null()
    low, high = column.range
    literal = column.decode(rng.randint(low, high))
    if isinstance(column, ds.Category | ds.Boolean):
        return col.is_in([literal, column.decode(rng.randint(low, high))])
    if draw(st.integers(0, 9)) == 0 and not isinstance(column, ds.Timestamp):
        literal = draw(st.sampled_from([10**30, -(10**30), 2**63, -(2**63) - 1, 1e308]))
    return draw(st.sampled_from([col < literal, col <= literal, col > literal, col >= literal, col == literal]))


@st.composite
def queries(draw: st.DrawFn, schema: ds.Schema, profile: ds.Schema, keys: list[Any], seed: int) -> ds.Query:
    rng = random.Random(seed)
    query = ds.query(schema).join(profile)
    chosen = st.lists(st.sampled_from(keys), max_size=3)
    if schema.key_sets and draw(st.integers(0, 3)):
        profile_keys = st.lists(st.sampled_from(keys[-3:]), max_size=1)
        declared = st.sampled_from(schema.key_sets).flatmap(lambda key_set: st.permutations(list(key_set)))
        chosen = st.builds(lambda own, more: [*more, *own], declared, profile_keys)
    for key in draw(chosen):
        try:
            query = query.keys(key)
        except InvalidQueryError:
            continue
    if draw(st.booleans()):
        query = query.where(draw(predicates(query, rng)))
    query = query.bound(rows=draw(st.sampled_from([None, 1, 2, 3, 4, 5, 9, 40])), keys=draw(st.integers(1, 5)))
    kinds = ["count", "sum", "mean", "variance", "std", "distinct"]
    unknown = any(k.kind == "unknown" for k in query.key_list)
    if unknown:
        query = query.distinct()
        kinds.remove("distinct")
    else:
        kinds += ["quantile", "quantile", "median", "coverage", "rows_per_key", "keys_per_resident"]
    if not unknown and draw(st.integers(0, 5)) == 0:
        try:
            asked = draw(aggregates(query, draw(st.sampled_from(["count", "distinct", "sum"])), rng))
            asked = asked.top(draw(st.integers(1, 3)))
            compile(asked)
        except InvalidQueryError:
            pass
        else:
            return asked
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6)):
        try:
            asked = draw(aggregates(query, kind, rng))
            compile(asked)
        except InvalidQueryError:
            continue
        query = asked
    if not query.aggregates:
        query = query.distinct()
    compile(query)
    return query


@st.composite
def aggregates(draw: st.DrawFn, query: ds.Query, kind: str, rng: random.Random) -> ds.Query:
    """The question with one more aggregate, of any form that its kind has."""
    units: list[Any] = [
        "resident", "resident", "cat", "num", "dec", "at", "flag", "near", "shop", ds.unknown("shop"), ds.hour("at"),
        ds.day("at"), ds.week("at"), ds.month("at"), ds.bin("dec", [0]),
    ]  # fmt: skip
    per = draw(st.one_of(st.none(), st.sampled_from(units)))
    if kind in ("distinct", "coverage"):
        return getattr(query, kind)()
    if kind == "count":
        return query.count(per=per)
    if kind in ("rows_per_key", "keys_per_resident"):
        return getattr(query, kind)(draw(st.sampled_from(["0.5", "0.95"])), high=draw(st.sampled_from([1, 3, 20, 300])))
    name = draw(st.sampled_from(["num", "dec", "who.age", *([None] if per else [])]))
    column: Any = query.column(name) if name else ds.Integer(0, 20)
    ends = sorted(column.decode(rng.randint(*column.range)) for _ in range(2))
    given = {"low": ends[0], "high": ends[1]} if per or draw(st.booleans()) else {}
    if kind in ("quantile", "median"):
        given["bins"] = draw(st.sampled_from([2, 3, 8, 64, 100, 300]))
    if kind == "quantile":
        given["q"] = draw(st.sampled_from(["0.01", "0.25", "0.9", "0.9999"]))
        if draw(st.integers(0, 3)) == 0:
            low, high = (column.encode(e) for e in (given["low"], given["high"])) if "low" in given else column.range
            codes = {rng.randint(low, high) for _ in range(rng.randint(1, 9))} - {low}
            given = {**given, "edges": [column.decode(c) for c in sorted(codes)]}
            del given["bins"]
    return getattr(query, kind)(name, per=per, **given)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    schema, profile, keys = schemas(draw)
    seed = draw(st.integers(0, 2**32 - 1))
    rng = random.Random(seed)
    names = [f"r{i}" for i in range(draw(st.integers(1, 5)))]
    most = 1 if schema.kind == "attributes" else draw(st.sampled_from([2, 12, 40]))
    rows = {n: table(schema, rng, rng.randint(0, most)) for n in names}
    profiles = {n: table(profile, rng, 1)[0] for n in names if rng.random() < 0.8}
    narrow = {n: ["cat", "num", "at"] for n in names if rng.random() < 0.15}
    return Case(schema, profile, rows, profiles, narrow, draw(queries(schema, profile, keys, seed)), seed)


def zone_of(column: ds.Timestamp) -> ZoneInfo:
    return ZoneInfo(column.zone)


def declared(build: Callable[..., Column], *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Column]:
    """The columns that may be declared: none whose bounds or categories could be a My Number."""

    def made(*drawn: Any) -> Column | None:
        try:
            return build(*drawn)
        except InvalidQueryError as refused:
            if "My Number" not in str(refused):
                raise
            return None

    return st.builds(made, *parts).filter(lambda column: column is not None)  # type: ignore[arg-type, return-value]


def without_my_numbers(schema: Schema, codes: pl.DataFrame) -> pl.DataFrame:
    """The codes, unless a value of them could be a My Number, which no vault keeps: another example is drawn then."""
    try:
        return check_codes(schema, codes)
    except InvalidDataError as refused:
        assume("My Number" not in str(refused))
        raise
