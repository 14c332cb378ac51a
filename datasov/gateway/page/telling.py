"""Questions and answers in words and rows, for people: labels of the catalogue where a table is of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from markupsafe import Markup

from datasov import catalogue
from datasov.errors import InvalidQueryError
from datasov.gateway.page import chart
from datasov.gateway.page.words import Language
from datasov.model.aggregate import Aggregate
from datasov.model.privacy import NANO, Loss
from datasov.model.query import Query
from datasov.model.release import Release
from datasov.model.schema import Key

_SHOWN = 12
"""Rows that show at once; the others behind a control."""
_MECHANISMS = {
    "discrete Gaussian": "離散ガウス分布", "discrete Laplace": "離散ラプラス分布", "thresholded": "しきい値つき",
    "noisy max": "ノイズつき最大値",
}  # fmt: skip
_MOST = 1_000
"""Rows of one picture."""


@dataclass(frozen=True, slots=True)
class Row:
    """One group of an answer; `value` is empty where it is withheld."""

    label: str
    value: str
    interval: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class Picture:
    """One statistic of an answer: what it is, and its rows."""

    title: str
    head: str
    rows: tuple[Row, ...]
    rest: tuple[Row, ...]


def table_label(name: str, language: Language) -> str:
    """What a table is called."""
    try:
        return str(getattr(catalogue.entry(name).label, language))
    except InvalidQueryError:
        return name


def column_label(table: str, column: str, language: Language) -> str:
    """What a column is called; a joined one is `table.column`."""
    if "." in column:
        table, column = column.split(".", 1)
    try:
        return str(getattr(dict(catalogue.entry(table).labels)[column], language))
    except (InvalidQueryError, KeyError):
        return column


def _value_label(table: str, column: str, value: object, language: Language) -> str:
    try:
        found = catalogue.entry(table).value_labels(column).get(str(value))
    except InvalidQueryError:
        found = None
    return str(value) if found is None else str(getattr(found, language))


def asked(query: Query, words: Mapping[str, str], language: Language) -> str:
    """The question in a line: what, by what."""
    whats = [statistic(a, query, words, language) for a in query.aggregates]
    what = ("、" if language == "ja" else ", ").join(dict.fromkeys(whats))
    names = [_key_label(query, k, words, language) for k in query.key_list]
    if not names:
        return what
    if language == "ja":
        return f"{'・'.join(names)}別の{what}"
    return f"{what} {words['by']} {', '.join(map(_lower, names))}"


def _lower(text: str) -> str:
    """A label within an English sentence; abbreviations stay."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def mechanism(name: str, language: Language) -> str:
    """The noise of an answer, by the name of its mechanism."""
    if language == "ja":
        for english, japanese in _MECHANISMS.items():
            name = name.replace(english, japanese)
    return name


def _key_label(query: Query, key: Key, words: Mapping[str, str], language: Language) -> str:
    column = column_label(query.schema.name, key.column, language)
    if key.kind != "value" and language == "en":
        column = _lower(column)
    kind = f"key_{key.kind}"
    return words[kind].format(column=column) if kind in words else column


def statistic(aggregate: Aggregate, query: Query, words: Mapping[str, str], language: Language) -> str:
    """One statistic in words."""
    column = column_label(query.schema.name, aggregate.column or "", language)
    column = _lower(column) if language == "en" else column
    kind = str(aggregate.kind)
    if kind not in words:
        text = words["other"].format(kind=kind, column=column)
    else:
        share = (aggregate.q or "").removesuffix(".0")
        text = words[kind].format(column=column, share=_percent(share))
    unit = aggregate.per[0] if aggregate.per else ""
    return words["per"].format(what=text, unit=unit) if unit else text


def _percent(share: str) -> str:
    try:
        return f"{float(share) * 100:g}"
    except ValueError:
        return share


def pictures(release: Release, words: Mapping[str, str], language: Language) -> list[Picture]:
    """The statistics of an answer, each with its rows and bars on one scale."""
    query = release.query
    names = [k.name for k in query.key_list]
    head = " · ".join(_key_label(query, k, words, language) for k in query.key_list) or words["cell"]
    frame = release.frame()
    if query.highest is not None:
        rows = [Row(_label(query, r, names, language), str(r["rank"]), "", Markup()) for r in frame.to_dicts()]
        return [Picture(words["top"].format(n=len(rows)), head, tuple(rows), ())]
    found = []
    for whole, shown in ((False, frame), (True, release.overall())):
        for aggregate in query.aggregates:
            if aggregate.whole == whole and aggregate.name in shown.columns:
                labels = [words["whole"]] if whole else _labels(query, shown, names, words, language)
                rows = _rows(shown, aggregate.name, labels, words)
                title = statistic(aggregate, query, words, language)
                found.append(Picture(title, head, tuple(rows[:_SHOWN]), tuple(rows[_SHOWN:])))
    return found


def _labels(
    query: Query, frame: pl.DataFrame, names: Sequence[str], words: Mapping[str, str], language: Language
) -> list[str]:
    rows = frame.head(_MOST).select(names).to_dicts() if names else []
    return [_label(query, row, names, language) for row in rows] if names else [words["whole"]]


def _label(query: Query, row: Mapping[str, Any], names: Sequence[str], language: Language) -> str:
    keys = {k.name: k for k in query.key_list}
    return " · ".join(_key_value(query, keys[n], row[n], language) for n in names)


def _key_value(query: Query, key: Key, value: object, language: Language) -> str:
    if key.kind == "hour":
        return f"{value}時台" if language == "ja" else f"{value}:00–{value}:59"
    return _value_label(query.schema.name, key.column, value, language)


def _rows(frame: pl.DataFrame, name: str, labels: Sequence[str], words: Mapping[str, str]) -> list[Row]:
    columns = (frame[n].cast(pl.Float64).head(_MOST).to_list() for n in (name, f"{name}_low", f"{name}_high"))
    numbers = list(zip(*columns, strict=True))
    scale = chart.Scale.over([v for row in numbers for v in row if v is not None])
    return [_row(scale, label, row, words) for label, row in zip(labels, numbers, strict=True)]


def _row(scale: chart.Scale, label: str, numbers: Sequence[float | None], words: Mapping[str, str]) -> Row:
    value, low, high = numbers
    if value is None or low is None or high is None or not math.isfinite(value):
        return Row(label, "", words["withheld"], Markup())
    return Row(label, number(value), f"{number(low)} – {number(high)}", chart.bar(scale, value, low, high))


def number(value: float) -> str:
    """A number for people: whole where it is, else with three significant digits at least."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) or abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    return text.replace("-", "−")


def loss(value: Loss) -> str:
    """A loss, exactly."""
    return str(value).replace("rho", "ρ").replace("epsilon", "ε").replace("delta", "δ")


def amount(value: Loss) -> float:
    """A loss as a number for pictures."""
    return value.nano / NANO


def zone(place: str) -> ZoneInfo:
    """The clock of the place where a city processes, as far as it is known."""
    return ZoneInfo("Asia/Tokyo" if place.startswith("JP") else "UTC")


def day(seconds: float, where: ZoneInfo, language: Language) -> str:
    """A date for people."""
    at = dt.datetime.fromtimestamp(seconds, where)
    return f"{at.year}年{at.month}月{at.day}日" if language == "ja" else f"{at.day} {at:%B %Y}"


def moment(seconds: float, where: ZoneInfo, language: Language) -> str:
    """A date and a time for people."""
    return f"{day(seconds, where, language)} {dt.datetime.fromtimestamp(seconds, where):%H:%M}"
