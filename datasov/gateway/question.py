"""Questions as JSON, the form that engineers write: :data:`datasov.gateway.schemas.COMPONENTS` says what is taken."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from datasov.errors import InvalidQueryError
from datasov.model.predicate import Col, Predicate, col
from datasov.model.privacy import Loss, pure, zcdp
from datasov.model.query import Query, query
from datasov.model.schema import Key, Schema, bin, day, hour, month, unknown, week
from datasov.model.series import Series, series
from datasov.sql import sql

Tables = Mapping[str, Schema]
_TIMES = {"hour": hour, "day": day, "week": week, "month": month, "unknown": unknown}


def loss_of(doc: Mapping[str, Any]) -> Loss:
    """A loss; InvalidQueryError as :func:`zcdp` and :func:`pure`."""
    if "epsilon" in doc:
        return pure(epsilon=doc["epsilon"])
    return zcdp(rho=doc["rho"], delta=doc.get("delta", 0))


def question_of(doc: Mapping[str, Any], tables: Tables) -> Query:
    """The question of a document that is valid under the schema `Question` or `SqlQuestion`.

    Raises:
        InvalidQueryError: a table or column that is not there, or what the question's own steps say.
    """
    bound = doc.get("bound", {})
    if "sql" in doc:
        return sql(doc["sql"], tables.values(), rows=bound.get("rows"), keys=bound.get("keys"))
    found = query(_table(doc["table"], tables))
    for name in doc.get("join", ()):
        found = found.join(_table(name, tables))
    found = found.keys(*(_key(k) for k in doc.get("keys", ()))).bound(rows=bound.get("rows"), keys=bound.get("keys"))
    if "where" in doc:
        found = found.where(_where(doc["where"]))
    for asked in doc["ask"]:
        found = _ask(found, asked)
    return found.top(doc["top"]) if "top" in doc else found


def series_of(doc: Mapping[str, Any], tables: Tables) -> Series:
    """The series of a document that is valid under the schema `SeriesQuestion`; errors as :func:`series`."""
    return series(
        question_of(doc["question"], tables), every=doc["every"], rows=doc["rows"], at=doc.get("at"),
        start=doc.get("start"), steps=doc.get("steps"), delay=doc.get("delay", "0s"),
    )  # fmt: skip


def _table(name: str, tables: Tables) -> Schema:
    if name not in tables:
        raise InvalidQueryError("the gateway serves no table of that name: see /v1/catalogue")
    return tables[name]


def _key(doc: str | Mapping[str, Any]) -> Key:
    if isinstance(doc, str):
        return Key(doc)
    if "bin" in doc:
        return bin(doc["bin"], doc["cuts"])
    ((kind, column),) = doc.items()
    return _TIMES[kind](column)


def _where(doc: Mapping[str, Any]) -> Predicate:
    if "not" in doc:
        return ~_where(doc["not"])
    for word in ("and", "or"):
        if word in doc:
            found, *more = (_where(each) for each in doc[word])
            for each in more:
                found = found & each if word == "and" else found | each
            return found
    column = col(doc["column"])
    ((op, value),) = ((k, v) for k, v in doc.items() if k != "column")
    if op == "null":
        return column.is_null() if value else ~column.is_null()
    made: Predicate = _OPS[op](column, value)
    return made


def _ask(found: Query, doc: str | Mapping[str, Any]) -> Query:
    if isinstance(doc, str):
        return {"count": found.count, "distinct": found.distinct, "coverage": found.coverage}[doc]()
    given = dict(doc)
    kind = next(k for k in _KINDS if k in given)
    first = given.pop(kind)
    if "per" in given:
        given["per"] = _key(given["per"])
        if given["per"] == Key("resident"):
            given["per"] = "resident"
    if kind == "count":
        return found.count(**given)
    made: Query = getattr(found, kind)(first, **given)
    return made


_OPS: Mapping[str, Callable[[Col, Any], Predicate]] = {
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "in": Col.is_in, "between": lambda column, ends: column.between(*ends),
}  # fmt: skip
_KINDS = (
    "quantile", "median", "sum", "mean", "variance", "std", "rows_per_key", "keys_per_resident", "count",
)  # fmt: skip
