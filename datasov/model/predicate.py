"""Predicates of `where`: a closed set, two-valued (a comparison with null is false).

``ds.col("km") > 5``, ``ds.col("district").is_in(["N", "E"])``, ``ds.col("at").between("2027-01-01", "2027-02-01")``,
``ds.col("age").is_null()``, joined with ``&``, ``|`` and ``~``.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Column, Decimal, Integer, exact
from datasov.model.mynumber import check_literal

Op: TypeAlias = Literal["lt", "le", "gt", "ge", "in", "null", "and", "or", "not"]
_OPS = ("lt", "le", "gt", "ge", "in", "null", "and", "or", "not")
Literal_: TypeAlias = str | int | bool


def _literal(value: object) -> Literal_:
    """A literal as a document can hold it: texts for decimals, floats and times."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise InvalidQueryError(f"a {type(value).__name__} cannot stand in a where: use a text, number, bool or time")


@dataclass(frozen=True, slots=True)
class Predicate:
    """A node: a comparison of one column with literals, or a combination of predicates."""

    op: Op
    column: str = ""
    values: tuple[Literal_, ...] = ()
    parts: tuple[Predicate, ...] = ()

    def __and__(self, other: Predicate) -> Predicate:
        return Predicate("and", parts=(*_flat("and", self), *_flat("and", _predicate(other))))

    def __or__(self, other: Predicate) -> Predicate:
        return Predicate("or", parts=(*_flat("or", self), *_flat("or", _predicate(other))))

    def __invert__(self) -> Predicate:
        return self.parts[0] if self.op == "not" else Predicate("not", parts=(self,))

    def __bool__(self) -> bool:
        raise InvalidQueryError("join predicates with & | ~ and parentheses, not with and, or, not")

    def columns(self) -> frozenset[str]:
        """Names of the columns that the predicate reads."""
        own = frozenset([self.column]) if self.column else frozenset()
        return own.union(*(p.columns() for p in self.parts))

    def document(self) -> dict[str, Any]:
        if self.parts:
            return {"op": self.op, "parts": [p.document() for p in self.parts]}
        return {"op": self.op, "column": self.column, "values": list(self.values)}

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Predicate:
        if doc["op"] not in _OPS:
            raise InvalidQueryError(f"predicate {doc['op']!r} is not known: use one of {', '.join(_OPS)}")
        if doc["op"] in ("and", "or", "not"):
            found = Predicate(doc["op"], parts=tuple(Predicate.from_document(p) for p in doc["parts"]))
            fits = len(found.parts) == 1 if found.op == "not" else len(found.parts) > 0
        else:
            found = Predicate(doc["op"], doc["column"], tuple(doc["values"]))
            count, least = len(found.values), 0 if found.op == "null" else 1
            fits = count >= least and (found.op == "in" or count == least)
            fits = fits and all(isinstance(v, bool | int | str) for v in (found.column, *found.values))
        if not fits:
            raise InvalidQueryError(f"predicate {found.op!r} is not written with what it takes: build it with ds.col")
        return found


class Typed(Protocol):
    """Where the types of columns are found: a schema, or a question with the tables that it joins."""

    def column(self, name: str) -> Column:
        """The type of a column; InvalidQueryError where there is none."""


def check_predicate(predicate: Predicate, table: Typed) -> None:
    """Raise InvalidQueryError unless every column exists and every literal fits its type."""
    for part in predicate.parts:
        check_predicate(part, table)
    if predicate.parts:
        return
    column = table.column(predicate.column)
    if isinstance(column, Category | Boolean) and predicate.op in ("lt", "le", "gt", "ge"):
        raise InvalidQueryError(f"column {predicate.column!r} has no order: use == or is_in")
    for value in predicate.values:
        column.encode(value)
        if isinstance(column, Integer | Decimal):
            check_literal(value)
            check_literal(exact(value))


def _predicate(value: object) -> Predicate:
    if not isinstance(value, Predicate):
        raise InvalidQueryError("a where takes predicates like ds.col('km') > 5")
    return value


def _flat(op: Op, predicate: Predicate) -> tuple[Predicate, ...]:
    return predicate.parts if predicate.op == op else (predicate,)


class Col:
    """A column inside a where; made by :func:`col`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, value: object) -> Predicate:
        return Predicate("lt", self._name, (_literal(value),))

    def __le__(self, value: object) -> Predicate:
        return Predicate("le", self._name, (_literal(value),))

    def __gt__(self, value: object) -> Predicate:
        return Predicate("gt", self._name, (_literal(value),))

    def __ge__(self, value: object) -> Predicate:
        return Predicate("ge", self._name, (_literal(value),))

    def __eq__(self, value: object) -> Predicate:  # type: ignore[override]
        return self.is_in([value])

    def __ne__(self, value: object) -> Predicate:  # type: ignore[override]
        return ~self.is_in([value])

    def is_in(self, values: Iterable[object]) -> Predicate:
        """True where the column holds one of the values."""
        listed = tuple(_literal(v) for v in values)
        if not listed:
            raise InvalidQueryError("is_in needs at least one value")
        return Predicate("in", self._name, listed)

    def between(self, low: object, high: object) -> Predicate:
        """True where low <= value <= high."""
        return (self >= low) & (self <= high)

    def is_null(self) -> Predicate:
        """True where the column is null."""
        return Predicate("null", self._name)


def col(name: str) -> Col:
    """A column for a where: compare it to get a predicate."""
    if not isinstance(name, str):
        raise InvalidQueryError("ds.col takes a column's name")
    return Col(name)
