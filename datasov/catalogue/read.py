"""From the catalogue's data files to entries, strictly: what is missing, unknown or said twice is refused.

A file `tables/DOMAIN.toml` holds the tables of one domain; `tables/shared.toml` columns that tables take with `as`.
A label is "English|日本語". A value is "code|日本語", whose code is its English label too, or "code|English|日本語".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from datasov.catalogue.entry import GROUNDS, Entry, Label
from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.schema import TIME_KINDS, Key, Schema, bin

_JAPANESE = re.compile("[\u3041-\u30ff\u3400-\u9fff]")
_PLAIN = {"label", "type", "nullable", "special", "follows", "as"}
_OF_TYPE = {
    "category": {"values"}, "integer": {"low", "high", "unit"}, "decimal": {"low", "high", "scale", "unit"},
    "timestamp": {"low", "high"}, "boolean": set(), "years": {"first", "last"}, "months": {"first", "last"},
}  # fmt: skip
_OF_TABLE = {"label", "columns", "keys", "kind", "special", "task"}
Values: TypeAlias = tuple[tuple[str, Label], ...]
Whole: TypeAlias = tuple[Column, Values, Label, str | None, str | None]
"""A column with the labels of its values, its own label, the ground of its special class, and what it follows."""


def label(text: object, *, plain: bool = False) -> Label:
    """A label in both languages; with `plain`, the Japanese one may be without a Japanese letter, as "BMI" is."""
    en, bar, ja = text.partition("|") if isinstance(text, str) else ("", "", "")
    if not bar or not en.strip() or not ja.strip() or "|" in ja or (en, ja) != (en.strip(), ja.strip()):
        raise InvalidQueryError('a label is in both languages: "English|日本語"')
    if _JAPANESE.search(en) or not (plain or _JAPANESE.search(ja)):
        raise InvalidQueryError('a label is English first, then Japanese: "English|日本語"')
    return Label(en, ja)


def _values(texts: Iterable[str]) -> Values:
    found = []
    for text in texts:
        code, _, rest = text.partition("|")
        en, ja = rest.split("|", 1) if "|" in rest else (code.replace("-", " "), rest)
        found.append((code, label(f"{en}|{ja}", plain=True)))
    _once([v for v, _ in found], "value")
    _once([v.en for _, v in found], "value's English label")
    _once([v.ja for _, v in found], "value's Japanese label")
    return tuple(found)


def _once(names: Iterable[str], what: str) -> None:
    seen = list(names)
    twice = [n for n in seen if seen.count(n) > 1]
    if twice:
        raise InvalidQueryError(f"the {what} {twice[0]!r} stands twice")


def _only(spec: Mapping[str, Any], allowed: set[str], needed: set[str]) -> None:
    unknown, missing = sorted(spec.keys() - allowed), sorted(needed - spec.keys())
    if unknown or missing:
        raise InvalidQueryError(f"{unknown[0]!r} is not known here" if unknown else f"{missing[0]!r} is missing")


def _column(spec: Mapping[str, Any], special: bool) -> tuple[Column, Values]:
    kind = spec["type"]
    common: Any = {"nullable": spec.get("nullable", False), "legal": "special" if special else "ordinary"}
    match kind:
        case "integer":
            return Integer(spec["low"], spec["high"], spec["unit"], **common), ()
        case "decimal":
            return Decimal(spec["low"], spec["high"], scale=spec["scale"], unit=spec["unit"], **common), ()
        case "timestamp":
            return Timestamp(spec["low"], spec["high"], **common), ()
        case "boolean":
            return Boolean(**common), ()
        case "years":
            years = range(spec["first"], spec["last"] + 1)
            values: Values = tuple((str(y), Label(f"FY{y}", f"{y}年度")) for y in years)
        case "months":
            first, last = (int(m[:4]) * 12 + int(m[5:]) - 1 for m in (spec["first"], spec["last"]))
            pairs = [divmod(m, 12) for m in range(first, last + 1)]
            values = tuple((f"{y}-{m + 1:02}", Label(f"{y}-{m + 1:02}", f"{y}年{m + 1}月")) for y, m in pairs)
        case _:
            values = _values(spec["values"])
    return Category([v for v, _ in values], **common), values


def _key(text: str) -> Key:
    kind, _, rest = text.rpartition(":") if text.count(":") < 2 else text.partition(":")
    if not kind:
        return Key(rest)
    if kind == "bin":
        column, _, cuts = rest.partition(":")
        return bin(column, cuts.split(","))
    if kind not in TIME_KINDS:
        raise InvalidQueryError(f"key {text!r}: write 'column', 'hour:column', 'month:column' or 'bin:column:1,2'")
    return Key(rest, kind)  # type: ignore[arg-type]


def table(name: str, domain: str, spec: Mapping[str, Any], shared: Mapping[str, Any], tasks: Iterable[str]) -> Entry:
    """One table of a data file.

    Raises:
        InvalidQueryError: what is wrong with it, and where.
    """
    try:
        _only(spec, _OF_TABLE, {"label", "columns", "keys"})
        task, ground = spec.get("task", ""), spec.get("special")
        if task and task not in tasks:
            raise InvalidQueryError(f"{task!r} is none of the standardised tasks")
        columns: dict[str, Whole] = {}
        for column, own in spec["columns"].items():
            try:
                columns[column] = _whole(own, shared, ground)
            except InvalidQueryError as why:
                raise InvalidQueryError(f"column {column!r}: {why}") from None
        _once([c[2].en for c in columns.values()], "column label")
        _once([c[2].ja for c in columns.values()], "column label")
        schema = Schema(
            name, domain=domain, kind=spec.get("kind", "events"), columns={n: c[0] for n, c in columns.items()},
            keys=[[_key(k) for k in key_set] for key_set in spec["keys"]],
        )  # fmt: skip
        return Entry(
            schema, label(spec["label"]), task, tuple((n, c[2]) for n, c in columns.items()),
            tuple((n, c[3]) for n, c in columns.items() if c[3]), tuple((n, c[4]) for n, c in columns.items() if c[4]),
            tuple((n, c[1]) for n, c in columns.items() if c[1]),
        )  # fmt: skip
    except InvalidQueryError as why:
        raise InvalidQueryError(f"the catalogue's table {name!r}: {why}") from None


def _whole(own: Mapping[str, Any], shared: Mapping[str, Any], ground: str | None) -> Whole:
    if "as" in own and own["as"] not in shared:
        raise InvalidQueryError(f"no shared column is called {own['as']!r}")
    spec = {**shared.get(own.get("as", ""), {}), **own}
    kind = spec.get("type")
    if kind not in _OF_TYPE:
        raise InvalidQueryError(f"the type is one of {', '.join(_OF_TYPE)}")
    _only(spec, _PLAIN | _OF_TYPE[kind], {"label", "type"} | _OF_TYPE[kind])
    law = spec.get("special", ground)
    if law is not None and law not in GROUNDS:
        raise InvalidQueryError(f"the ground {law!r} is none of {', '.join(GROUNDS)}")
    found, values = _column(spec, law is not None)
    return found, values, label(spec["label"], plain=True), law, spec.get("follows")
