"""The tables of docs/catalogue.md, made from the catalogue: ``python -m datasov.catalogue.page docs/catalogue.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from datasov import catalogue
from datasov.catalogue.entry import Entry
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.schema import Key

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
_MANY = 24
"""A list that is longer is a range, which its first and last values tell."""


def tables() -> str:
    """Every table in Markdown, by domain: what is between the two marks of the page."""
    lines = ["| domain | 分野 | tables |", "|---|---|---|"]
    for domain, label in catalogue.DOMAIN_LABELS.items():
        named = ", ".join(f"[`{n}`](#{n})" for n in catalogue.names(domain=domain))
        lines.append(f"| {label.en} (`{domain}`) | {label.ja} | {named} |")
    lines += ["", "| standardised task | tables |", "|---|---|"]
    for task in catalogue.TASKS:
        lines.append(f"| {task} | {', '.join(f'[`{n}`](#{n})' for n in catalogue.names(task=task))} |")
    for entry in catalogue.entries():
        lines += ["", *_table(entry)]
    return "\n".join(lines)


def _table(entry: Entry) -> list[str]:
    schema = entry.schema
    kind = "events" if schema.kind == "events" else "attributes: one row a resident"
    sets = ["(" + ", ".join(_key(k) for k in key_set) + ")" for key_set in schema.key_sets]
    lines = [
        f"### {schema.name}", "",
        f"{entry.label.en}, {entry.label.ja}{' (' + entry.task + ')' if entry.task else ''}; {schema.domain}; {kind}. "
        f"Keys: {', '.join(sets)}.", "",
        "| column | label | 名称 | values | legal class |", "|---|---|---|---|---|",
    ]  # fmt: skip
    grounds = dict(entry.grounds)
    for name, label in entry.labels:
        column = schema.column(name)
        legal = f"special: {grounds[name]}" if name in grounds else "ordinary"
        lines.append(f"| `{name}` | {label.en} | {label.ja} | {_values(entry, name, column)} | {legal} |")
    follows = [f"- `{name}`: {text}" for name, text in entry.follows]
    return [*lines, "", *follows] if follows else lines


def _key(key: Key) -> str:
    if key.kind == "bin":
        return f"{key.column} parted at {', '.join(key.cuts)}"
    return key.column if key.kind == "value" else f"{key.kind} of {key.column}"


def _values(entry: Entry, name: str, column: Column) -> str:
    match column:
        case Category():
            labels = entry.value_labels(name)
            shown = [f"`{v}`" if one.en == v.replace("-", " ") else f"`{v}` {one.en}" for v, one in labels.items()]
            text = ", ".join(f"{v} {one.ja}" for v, one in zip(shown, labels.values(), strict=True))
            if len(shown) > _MANY or all(one.en == f"FY{v}" for v, one in labels.items()):
                text = f"{column.values[0]} to {column.values[-1]}"
        case Timestamp():
            text = (
                f"{column.decode(column.range[0]):%Y-%m-%d} to {column.decode(column.range[1]):%Y-%m-%d}, {column.zone}"
            )
        case Boolean():
            text = "true, false"
        case Integer() | Decimal():
            digits = f", {column.scale} after the point" if isinstance(column, Decimal) else ""
            text = f"{column.low} to {column.high} {column.unit}{digits}"
    return text + (", or null" if column.nullable else "")


def fill(page: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
