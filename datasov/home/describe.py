"""A question from the log in words. What this version has no words for is said to be so, and shown as it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from datasov import catalogue
from datasov.home.words import say

_PLAIN = {"count": "count", "distinct": "distinct", "coverage": "distinct", "rows": "count", "keys": "count"}
_OF = {"sum": "sum", "mean": "mean", "variance": "variance", "std": "variance", "quantile": "quantile"}


def question(text: str, language: str) -> str:
    """The words for a question's canonical JSON.

    Args:
        text: from a verified leaf: well-formed JSON, which may still ask for what this version does not know.
    """
    try:
        return _words(json.loads(text), language)
    except (KeyError, TypeError, ValueError, AttributeError):
        return say(language, "ask.unread")


def _words(doc: Mapping[str, Any], language: str) -> str:
    table = str(doc["table"])
    what = say(language, "ask.and").join(_aggregate(a, table, language) for a in doc["aggregates"])
    if doc["keys"]:
        keys = say(language, "ask.and").join(_key(k, table, language) for k in doc["keys"])
        what = say(language, "ask.by", what=what, keys=keys)
    if doc["where"]:
        named = [column(table, name, language) for name in dict.fromkeys(_columns(doc["where"]))]
        what = say(language, "ask.where", what=what, columns=say(language, "ask.and").join(named))
    if doc.get("top"):
        what = say(language, "ask.top", what=what, n=doc["top"])
    if "series" in doc:
        what = say(language, "ask.series", what=what, steps=doc["series"]["steps"])
    return what


def _aggregate(doc: Mapping[str, Any], table: str, language: str) -> str:
    kind, name = str(doc["kind"]), str(doc["column"])
    if kind in _PLAIN and not name:
        return say(language, f"ask.{_PLAIN[kind]}")
    label = column(table, name, language)
    if kind == "quantile" and doc["q"] in ("0.5", "0.50"):
        return say(language, "ask.median", column=label)
    if kind in _OF:
        return say(language, f"ask.{_OF[kind]}", column=label)
    return say(language, "ask.other", kind=kind, column=label)


def _key(doc: Mapping[str, Any], table: str, language: str) -> str:
    label = column(table, str(doc["column"]), language)
    kind = str(doc["kind"])
    return say(language, f"ask.{kind}", column=label) if kind in ("bin", "hour", "day", "week", "month") else label


def _columns(predicate: Mapping[str, Any]) -> Iterable[str]:
    for part in predicate.get("parts", ()):
        yield from _columns(part)
    if "column" in predicate:
        yield str(predicate["column"])


def column(table: str, name: str, language: str) -> str:
    """The catalogue's label of a column, written `table.column` where it is of a joined table; its name where none."""
    joined, dot, own = name.rpartition(".")
    try:
        label = catalogue.entry(joined if dot else table).column_label(own)
    except ValueError:
        return name
    return str(getattr(label, language))


def table(name: str, language: str) -> str:
    """The catalogue's label of a table; its name where there is none."""
    try:
        return str(getattr(catalogue.entry(name).label, language))
    except ValueError:
        return name
