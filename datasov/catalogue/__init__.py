"""Tables of city life, ready to use: ten domains and the seventeen standardised municipal tasks of Japan.

They are schemas for simulations and prototypes, with labels in English and Japanese; not the data items of the official
standard specifications (標準仕様書). The tables are data (`tables/*.toml`), read and checked when first asked for.

``catalogue.schema("trips")``, ``catalogue.entry("trips").label.ja``, ``catalogue.names(domain="health")``,
``catalogue.search("要介護")``; ``catalogue.extend`` for a municipality's own columns, ``catalogue.onto`` to ask a
question of the base over an extension; ``catalogue.mesh`` (JIS X 0410), ``catalogue.municipality`` (JIS X 0401, 0402).
"""

from __future__ import annotations

import functools
import tomllib
import unicodedata
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from datasov.catalogue import mesh, municipality
from datasov.catalogue.entry import GROUNDS, Entry, Label
from datasov.catalogue.extend import check_extends, extend, onto
from datasov.catalogue.read import table
from datasov.errors import InvalidQueryError
from datasov.model.schema import DOMAINS, Schema

__all__ = [
    "DOMAIN_LABELS", "GROUNDS", "TASKS", "Entry", "Label", "check_extends", "entries", "entry", "extend", "mesh",
    "municipality", "names", "onto", "schema", "search",
]  # fmt: skip

DOMAIN_LABELS: Mapping[str, Label] = MappingProxyType({
    "mobility": Label("Mobility", "移動"), "logistics": Label("Logistics", "物流"),
    "payments": Label("Payments", "支払い"),
    "administration": Label("Administration", "行政"), "health": Label("Health and care", "医療・介護"),
    "education": Label("Education", "教育"), "energy": Label("Energy and water", "エネルギー・水"),
    "environment": Label("Environment and waste", "環境・ごみ"), "crime-prevention": Label("Crime prevention", "防犯"),
    "disaster": Label("Disaster", "防災"),
})  # fmt: skip
"""The ten domains, in the order of :data:`datasov.model.schema.DOMAINS`."""

TASKS = (
    "住民基本台帳", "選挙人名簿管理", "固定資産税", "個人住民税", "法人住民税", "軽自動車税", "国民健康保険",
    "国民年金", "障害者福祉", "後期高齢者医療", "介護保険", "児童手当", "生活保護", "健康管理", "就学", "児童扶養手当",
    "子ども・子育て支援",
)  # fmt: skip
"""Seventeen tasks whose systems are standardised (標準化対象事務; 地方公共団体情報システムの標準化に関する法律)."""


@functools.cache
def _all() -> Mapping[str, Entry]:
    folder = resources.files("datasov.catalogue").joinpath("tables")
    shared, *domains = (
        tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8")) for name in ("shared", *DOMAINS)
    )
    found: dict[str, Entry] = {}
    for domain, tables in zip(DOMAINS, domains, strict=True):
        for name, spec in tables.items():
            if name in found:
                raise InvalidQueryError(f"the catalogue's table {name!r} stands in two domains: rename one")
            found[name] = table(name, domain, spec, shared, TASKS)
    return MappingProxyType(found)


def names(*, domain: str | None = None, task: str | None = None) -> tuple[str, ...]:
    """Names of the tables, of all or of one domain or standardised task, in order.

    Raises:
        InvalidQueryError: there is no such domain or task.
    """
    if domain is not None and domain not in DOMAINS:
        raise InvalidQueryError(f"domain {domain!r} is not one of {', '.join(DOMAINS)}")
    if task is not None and task not in TASKS:
        raise InvalidQueryError(f"task {task!r} is not one of {', '.join(TASKS)}")
    return tuple(
        name for name, e in _all().items() if domain in (None, e.schema.domain) and task in (None, e.task)
    )  # fmt: skip


def entries() -> tuple[Entry, ...]:
    """Every table with its labels, by domain."""
    return tuple(_all().values())


def entry(name: str) -> Entry:
    """A table with its labels, its special columns and what they follow.

    Raises:
        InvalidQueryError: there is no such table.
    """
    if name not in _all():
        raise InvalidQueryError(f"the catalogue has no table {name!r}: it has {', '.join(_all())}")
    return _all()[name]


def schema(name: str) -> Schema:
    """A table's schema. Raises as :func:`entry`."""
    return entry(name).schema


def search(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs (table, column) whose label in either language, name, value or task holds a text; column "" for the table.

    Case and width of letters do not count.
    """
    wanted = _folded(text).strip()
    if not wanted:
        raise InvalidQueryError("search for a word, in English or Japanese")
    found = []
    for name, e in _all().items():
        if wanted in _folded(" ".join((name, e.label.en, e.label.ja, e.task))):
            found.append((name, ""))
        for column, named in e.labels:
            values = [f"{v} {one.en} {one.ja}" for v, one in e.value_labels(column).items()]
            if wanted in _folded("\n".join((column, named.en, named.ja, *values))):
                found.append((name, column))
    return tuple(found)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
