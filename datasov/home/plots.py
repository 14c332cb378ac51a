"""A vault's tables as small charts: what to draw, in numbers. The templates draw it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from datasov import catalogue
from datasov.catalogue.entry import Entry
from datasov.model.columns import Boolean, Category, Timestamp
from datasov.model.schema import Schema
from datasov.resident import Resident

BARS, MONTHS, BINS, LAST = 8, 24, 10, 10


@dataclass(frozen=True, slots=True)
class Bar:
    """A label, how many rows, and its length, 0 to 1 of the longest. A `note` of "other" or "none" has no label."""

    label: str
    count: int
    length: float
    note: Literal["", "other", "none"] = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """The rows of one column: in `time` order, by value (`share`), or by size (`spread`)."""

    title: str
    kind: Literal["time", "share", "spread"]
    bars: tuple[Bar, ...]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a vault, for the page."""

    name: str
    label: str
    kind: str
    rows: int
    charts: tuple[Chart, ...] = ()
    heads: tuple[str, ...] = ()
    last: tuple[tuple[str, ...], ...] = ()


def entry_of(schema: Schema) -> Entry | None:
    """What the catalogue says of a table: of itself, or of one of that name that it extends; None where it has none."""
    try:
        found = catalogue.entry(schema.name)
    except ValueError:
        return None
    return found if found.schema.domain == schema.domain else None


def labelled(schema: Schema, column: str, language: str) -> str:
    """A column's label, or its name where the catalogue has none."""
    entry = entry_of(schema)
    label = None if entry is None else dict(entry.labels).get(column)
    return column if label is None else str(getattr(label, language))


def table_label(schema: Schema, language: str) -> str:
    entry = entry_of(schema)
    return schema.name if entry is None else str(getattr(entry.label, language))


def counts(resident: Resident) -> dict[str, int]:
    """Rows of every table, by name."""
    return {
        name: resident.scan(schema, [schema.stored[0][0]]).height for name, schema in sorted(resident.tables().items())
    }


def drawn(resident: Resident, schema: Schema, language: str) -> Table:
    """A table with its charts and its last rows."""
    frame = resident.scan(schema)
    names = [name for name, _ in schema.stored]
    charts = () if schema.kind == "attributes" or frame.is_empty() else tuple(_charts(schema, frame, language))
    last = frame.tail(LAST).reverse().iter_rows()
    return Table(
        schema.name, table_label(schema, language), schema.kind, frame.height, charts,
        tuple(labelled(schema, n, language) for n in names),
        tuple(
            tuple(_text(schema, n, v, language) for n, v in zip(names, row, strict=True)) for row in last
        ),
    )  # fmt: skip


def _charts(schema: Schema, frame: pl.DataFrame, language: str) -> Iterable[Chart]:
    for name, column in schema.stored:
        title, values = labelled(schema, name, language), frame[name]
        if isinstance(column, Timestamp):
            yield Chart(title, "time", tuple(_months(values, column)))
        elif isinstance(column, Category | Boolean):
            yield Chart(title, "share", tuple(_values(schema, name, values, language)))
        else:
            yield Chart(title, "spread", tuple(_spread(values)), column.unit)


def _months(values: pl.Series, column: Timestamp) -> list[Bar]:
    zone = ZoneInfo(column.zone)
    found: dict[tuple[int, int], int] = {}
    for when in values.drop_nulls().to_list():
        local = when.astimezone(zone)
        found[local.year, local.month] = found.get((local.year, local.month), 0) + 1
    if not found:
        return []
    year, month = max(found)
    last = [divmod(year * 12 + month - 1 - back, 12) for back in range(MONTHS)]
    first = min(found)
    shown = [(y, m + 1) for y, m in reversed(last) if (y, m + 1) >= first]
    return _bars([(f"{y}-{m:02d}", found.get((y, m), 0)) for y, m in shown])


def _values(schema: Schema, name: str, values: pl.Series, language: str) -> list[Bar]:
    found: dict[object, int] = {}
    for value in values.to_list():
        found[value] = found.get(value, 0) + 1
    missing = found.pop(None, 0)
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    rest = sum(n for _, n in ordered[BARS:])
    pairs = [(_text(schema, name, value, language), n) for value, n in ordered[:BARS]]
    notes: list[tuple[Literal["other", "none"], int]] = [("other", rest), ("none", missing)]
    bars, longest = _bars(pairs), max([n for _, n in pairs] + [rest, missing, 1])
    bars = [Bar(b.label, b.count, b.count / longest) for b in bars]
    return bars + [Bar("", n, n / longest, note) for note, n in notes if n]


def _spread(values: pl.Series) -> list[Bar]:
    numbers = [float(v) for v in values.drop_nulls().to_list()]
    if not numbers:
        return []
    low, high = min(numbers), max(numbers)
    if low == high:
        return _bars([(f"{low:g}", len(numbers))])
    step = _round_step((high - low) / BINS)
    start = int(low // step)
    found = [0] * (int(high // step) - start + 1)
    for number in numbers:
        found[int(number // step) - start] += 1
    return _bars([(f"{(start + i) * step:g}–{(start + i + 1) * step:g}", n) for i, n in enumerate(found)])


def _round_step(width: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not below a width."""
    power = 10.0 ** (len(f"{int(width)}") - 1) if width >= 1 else 10.0 ** -len(f"{int(1 / width)}")
    return next(power * f for f in (1, 2, 5, 10, 20, 50, 100) if power * f >= width)


def _bars(pairs: list[tuple[str, int]]) -> list[Bar]:
    longest = max([n for _, n in pairs] + [1])
    return [Bar(label, n, n / longest) for label, n in pairs]


def _text(schema: Schema, name: str, value: object, language: str) -> str:
    if value is None:
        return "–"
    column = schema.column(name)
    if isinstance(column, Category):
        return _category(schema, name, str(value), language)
    if isinstance(column, Boolean):
        return {"ja": ("いいえ", "はい"), "en": ("no", "yes")}[language][bool(value)]
    if isinstance(column, Timestamp) and isinstance(value, dt.datetime):
        return f"{value.astimezone(ZoneInfo(column.zone)):%Y-%m-%d %H:%M}"
    unit = getattr(column, "unit", "")
    return f"{value} {unit}".strip()


def _category(schema: Schema, name: str, value: str, language: str) -> str:
    entry = entry_of(schema)
    labels: Mapping[str, object] = {} if entry is None or name not in dict(entry.values) else entry.value_labels(name)
    label = labels.get(value)
    return value if label is None else str(getattr(label, language))
